#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Ctrl-C, kill and kill -9 of hvctl while its guest runs: all comes back, and the next
# run works.
. ./tap.sh

memory=256

# Starts a guest in the background, waits until it runs; sets $pid.
start() {
	./hvctl run --kernel "$1.elf" --memory $memory --exit-port --timeout 200 </dev/null >/tmp/stopped 2>&1 &
	pid=$!
	tries=0
	until grep -q ing /tmp/stopped; do
		tries=$((tries + 1))
		[ $tries -lt 200 ] || return 1
		usleep 100000
	done
}

nothing_left() {
	tries=0
	while ./hvctl info --json | tr -d ' \n' | grep -q '"partitions":\[{'; do
		tries=$((tries + 1))
		[ $tries -lt 50 ] || { ./hvctl info; return 1; }
		usleep 100000
	done
	[ "$(value shared_bytes)" = 0 ] || { ./hvctl info; return 1; }
}

next_run() {
	./hvctl run --kernel exit.elf --memory $memory --exit-port --cmdline 2 --timeout 60 </dev/null
	[ $? -eq 5 ]
}

load_hvmod
log_mark
check "a first run" next_run
before=$(free_kib)
for kind in spin wait; do
	for signal in INT TERM KILL; do
		case $signal in INT) status=130 ;; TERM) status=143 ;; KILL) status=137 ;; esac
		if ! start $kind; then
			not_ok "$kind, SIG$signal: the guest starts" "$(cat /tmp/stopped)"
			kill -KILL $pid 2>/dev/null
			continue
		fi
		check "$kind, SIG$signal: while it runs its memory is told" [ "$(value shared_bytes)" -gt $((200 << 20)) ]
		kill -$signal $pid
		wait $pid
		got=$?
		check "$kind, SIG$signal: hvctl ends with status $status" [ $got -eq $status ]
		check "$kind, SIG$signal: the partition is gone" nothing_left
	done
done
check "the next run works" next_run

# At any moment of a start: while files are read, memory is given, the kernel boots.
rounds=6
[ -z "$SOAK" ] || rounds=300
round=1
while [ $round -le $rounds ]; do
	./hvctl run --kernel vmlinuz --initrd initrd --memory 128 --console null </dev/null >/tmp/stopped 2>&1 &
	pid=$!
	delay=$(($(od -An -N2 -tu2 /dev/urandom) * 60))
	usleep $delay
	kill -KILL $pid
	wait $pid
	got=$?
	check "round $round: killed after $((delay / 1000)) ms of a Linux guest: nothing is left" nothing_left
	[ $got -eq 137 ] || { not_ok "round $round: it ran until then" "status $got: $(cat /tmp/stopped)"; break; }
	round=$((round + 1))
done
check "a run works after them" next_run

# Nobody reads what the guest says: that must not keep hvctl from ending.
mkfifo /tmp/unread
sleep 100000 </tmp/unread &
reader=$!
head -c 65536 /dev/zero >/tmp/unread
./hvctl run --kernel spin.elf --memory 16 </dev/null >/tmp/unread 2>/tmp/stopped & pid=$!
sleep 3
kill -TERM $pid
tries=0
while kill -0 $pid 2>/dev/null && [ $tries -lt 100 ]; do
	tries=$((tries + 1))
	usleep 100000
done
check "a guest whose output nobody reads is stopped by SIGTERM" [ $tries -lt 100 ]
kill -KILL $pid $reader 2>/dev/null
wait $pid
check "  with its status" [ $? -eq 143 ]
check "  and the partition is gone" nothing_left

# Both LPs busy with a guest each, killed at the same moment.
./hvctl run --kernel spin.elf --memory 64 </dev/null >/dev/null 2>&1 & one=$!
./hvctl run --kernel spin.elf --memory 64 </dev/null >/dev/null 2>&1 & two=$!
sleep 1
check "two partitions at once" [ "$(./hvctl info --json | tr -d ' \n' | grep -o '"owner":' | wc -l)" = 2 ]
refused "rmmod is refused while they run" 1 "" rmmod hvmod
kill -KILL $one $two
wait $one $two
check "both are gone" nothing_left
check "each LP works on" every_lp_works
check "every LP is in the root partition" ./identity inside
check "a run works after that" next_run

after=$(free_kib)
lost=$((before - after))
echo "# $lost KiB less memory is free than before"
check "memory came back" [ $lost -lt 16384 ]
log_clean "the kernel complained of nothing"
check "rmmod" unload_hvmod
finish
