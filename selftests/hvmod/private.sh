#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# hvctl run --private: a payload, and the stock kernel, while the root attacks its memory.
. ./tap.sh
. ./guest_console.sh

attack=/sys/kernel/debug/hvattack

command() {
	echo "$*" >$attack && cat $attack
}

# Of all LPs.
sum() {
	./hvctl info --json | tr ',{}' '\n' |
		awk -v name="\"$1\":" '$1 == name { total += $2 } END { print total + 0 }'
}

# start TEST [FILE]: the stock kernel in private memory, in the background: what FILE says is typed,
# the output goes to /tmp/out.
start() {
	: >/tmp/out
	./hvctl run --private --kernel vmlinuz --initrd initrd --memory 128 --timeout 400 \
		--cmdline "console=ttyS0 panic=-1 $clock_speed $quick test=$1" <"${2:-/dev/null}" >/tmp/out 2>/tmp/err &
	pid=$!
}

# Waits for the guest to say something.
until_says() {
	tries=0
	until grep -q "$1" /tmp/out || [ $tries -gt 600 ] || ! kill -0 $pid 2>/dev/null; do
		tries=$((tries + 1))
		usleep 200000
	done
}

# ends NAME STATUS: the guest of `start` comes to that end.
ends() {
	wait $pid
	status=$?
	tr -d '\r' </tmp/out >/tmp/lines
	if [ $status = "$2" ] && grep -q 'guest: uname: ' /tmp/lines; then
		ok "$1"
	else
		not_ok "$1" "status $status
$(tail -n 20 /tmp/lines /tmp/err | cut -c -160)"
	fi
	check "$1: its private memory is gone" [ "$(value private_bytes)" = 0 ]
	after=$(free_kib)
	check "$1: and free again in Linux" [ "$after" -gt $((before - 16384)) ]
}

insmod ./hvattack.ko || bail_out "hvattack.ko"
load_hvmod
log_mark
core=$(value core_spa)
size=$(value core_size)
check "nothing but hvcore is hidden at first" [ "$(command "victim $core $size")" = none ]
./hvctl run --private --kernel exit.elf --memory 16 --exit-port --cmdline 2 --timeout 60 </dev/null
check "a payload with private memory ends as it wants to" [ $? = 5 ]
./hvctl run --private --kernel exit.elf --memory 16 --rng --timeout 60 </dev/null 2>/tmp/err
check "a device that reaches into memory is refused" [ $? = 2 ]
check "  with the reason" grep -q 'keeps the guest.s memory from every device' /tmp/err
before=$(free_kib)

mkfifo /tmp/typed
(
	until grep -q 'guest: test echo' /tmp/out 2>/dev/null; do usleep 200000; done
	# No more than the serial port's FIFO at a time.
	for line in 'first line' 'second line' end; do
		sleep 1
		echo "$line"
	done
	sleep 100
) >/tmp/typed &
typist=$!
start echo /tmp/typed
until_says .
check "hvctl info tells of its private memory" [ "$(value private_bytes)" -gt $((100 << 20)) ]
check "and of no shared memory" [ "$(value shared_bytes)" = 0 ]

# A kernel module of the root, while the guest runs.
victim=$(command "victim $core $size")
check "attack: memory of the guest is hidden, at $victim" [ "$((victim))" -gt 0 ]
reads=$(sum hidden_reads) writes=$(sum denied)
check "attack: a read through Linux's map gives zero" [ "$(command "read $((victim + 4096))")" = 0x0 ]
check "attack: a read through another mapping too" [ "$(command "vread $((victim + 8192))")" = 0x0 ]
check "attack: reads are counted" [ "$(sum hidden_reads)" -ge $((reads + 2)) ]
check "attack: all of 2 MiB reads as zeros" [ "$(command "scan $victim $((2 << 20))")" = "0 pages are not 0, 0 faults" ]
for way in write vwrite; do
	check "attack: $way is a fault that the writer survives" \
		[ "$(command "$way $((victim + 64)) 0x4141414141414141")" = fault ]
done
check "attack: writes are counted" [ "$(sum denied)" -ge $((writes + 2)) ]
check "attack: and logged" sh -c "./hvctl log | grep -q 'denied: write of the root to $victim\|denied: write of the root to $(printf '0x%x' $((victim + 64)))'"
# By hypercalls, with a partition of the attacker's that lacks nothing.
status_of() { said=$(command "$*"); echo "${said%% *}"; }
sync_all() { for lp in 0 1; do taskset -c $lp sh -c "echo vmcall 0 >$attack"; done; }
own=$(($(command own)))
thief=$(command "vmcall 4")
thief=${thief#0 }
thief=${thief%% *}
n=0
while [ $n -lt 12 ]; do
	command "write $((own + 8 * n)) $((own + 4096 * (n + 1)))" >/dev/null
	n=$((n + 1))
done
check "attack: a partition of the attacker's, with memory for tables" \
	[ "$(status_of vmcall 2 "$thief" $own 12)" = 0 ]
sync_all
check "attack: a list that names the guest's memory" [ "$(command "write $own $((victim))")" = ok ]
check "attack: it cannot be deposited" [ "$(status_of vmcall 2 "$thief" $own 1)" = 8 ]
check "attack: it cannot be mapped into another partition" [ "$(status_of vmcall 6 "$thief" 0 $own 1 3)" = 8 ]
check "attack: nor as private memory" [ "$(status_of vmcall 6 "$thief" 0 $own 1 11)" = 8 ]
# Elsewhere: at 0 there are tables by now.
check "attack: nor as a large page" [ "$(status_of vmcall 6 "$thief" 0x40000000 $own 1 7)" = 8 ]
check "attack: it is no list" [ "$(status_of vmcall 2 "$thief" $((victim)) 1)" = 2 ]
check "attack: it is no VP's page" [ "$(status_of vmcall 8 "$thief" 0 $((victim)))" = 8 ]
# The attacker's own page, to see that these calls can succeed at all.
command "write $own $((own + 4096 * 15))" >/dev/null
check "attack: what is the attacker's own can be mapped" [ "$(status_of vmcall 6 "$thief" 0 $own 1 3)" = 0 ]
check "attack: the partition goes" [ "$(status_of vmcall 5 "$thief")" = 0 ]
sync_all
n=0
until said=$(command "vmcall 3 $thief $own 12") && [ "$said" = "0 0 0" ] || [ $n -gt 20 ]; do
	sync_all
	n=$((n + 1))
done
check "attack: and gives back what it had" [ "$said" = "0 0 0" ]
sync_all
check "attack: the guest was still running" kill -0 $pid
if [ -n "$ATTACKS" ]; then
	kill -9 $pid $typist
	finish
fi
ends "the stock kernel runs in private memory and powers off" 0
kill $typist 2>/dev/null
check "its console works both ways" sh -c \
	'grep -q "guest: read: first line" /tmp/lines && grep -q "guest: read: second line" /tmp/lines'
check "what was private can be written again" [ "$(command "victim $core $size")" = none ]

start reboot
ends "the stock kernel asks for a reset" 4

start poweroff
until_says 'Linux version'
victim=$(command "victim $core $size")
check "killed: its memory was hidden" [ "$((victim))" -gt 0 ]
kill -9 $pid
wait $pid 2>/dev/null
tries=0
while [ "$(value private_bytes)" != 0 ] && [ $tries -lt 100 ]; do
	tries=$((tries + 1))
	usleep 50000
done
check "killed: its private memory is gone" [ "$(value private_bytes)" = 0 ]
check "killed: and can be written again" [ "$(command "victim $core $size")" = none ]
after=$(free_kib)
check "killed: and is free again in Linux" [ "$after" -gt $((before - 16384)) ]
log_clean "the root's kernel complained of nothing"
check "rmmod" unload_hvmod
rmmod hvattack
finish
