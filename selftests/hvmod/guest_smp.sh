#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# guest_smp.sh VPS...: the stock kernel with several processors, as many as the root has
# or more: work on each, threads that share memory, processors that come and go, ways to
# end.
. ./tap.sh

out=/tmp/guest.out
# As for the root: Linux mistakes the speed of the emulated machine's clock. The rest saves time.
lab="tsc_early_khz=50000 nowatchdog audit=0 apparmor=0 random.trust_cpu=on cryptomgr.notests"

# start VPS TEST: in the background, as $pid.
start() {
	./hvctl run --kernel vmlinuz --initrd initrd --memory 192 --cpus "$1" --timeout 500 \
		--cmdline "console=ttyS0 panic=-1 $lab test=$2" </dev/null >$out 2>$out.err & pid=$!
}

boot() {
	start "$1" "$2"
	wait $pid
	status=$?
	tr -d '\r' <$out >$out.lines
}

says() {
	sed -n "s/.*guest: $1: //p" $out.lines
}

guest_check() {
	tap_name=$1
	shift
	if "$@"; then
		ok "$tap_name"
	else
		not_ok "$tap_name" "$* (status of the guest: $status)
$(tail -n 25 $out.lines $out.err | cut -c -160)"
	fi
}

nothing_left() {
	! ./hvctl info --json | tr -d ' \n' | grep -q '"partitions":\[{'
}

# What a guest with that many must say.
said_right() {
	guest_check "$what: all are there" [ "$(says processors)" = "$1" ]
	guest_check "$what: one package, a core each" [ "$(says 'packages, cores, siblings')" = "1 $1" ]
	guest_check "$what: each works" [ "$(says 'work on each')" = "0 $1 CPUs worked" ]
	guest_check "$what: threads on all share memory and clocks" [ "$(says threads)" = "0 " ]
	for line in CAL RES TLB; do
		guest_check "$what: interrupts from one to another: $line" [ "$(says "interrupts $line")" -gt 0 ]
	done
	guest_check "$what: all but the first go offline" [ "$(says 'went offline')" = $(($1 - 1)) ]
	guest_check "$what: and come back" [ "$(says 'came online')" = $(($1 - 1)) ]
	guest_check "$what: each works after that" [ "$(says 'work after that')" = "0 $1 CPUs worked" ]
	guest_check "$what: each has a timer" [ "$(says 'processors with timer interrupts')" = "$1" ]
	guest_check "$what: its kernel complains of nothing" [ "$(says 'complaints in the end')" = 0 ]
}

load_hvmod
log_mark
before=$(free_kib)
last=1
for vps; do
	what="$vps VPs"
	boot "$vps" smp
	guest_check "$what: the guest powers off" [ $status -eq 0 ]
	[ $status -ne 0 ] || said_right "$vps"
	last=$vps
done

what="$last VPs, rebooting"
boot "$last" reboot
guest_check "$what: the run ends at the reset" [ $status -eq 4 ]

what="$last VPs, killed"
start "$last" busy
tries=0
until grep -q 'guest: all busy' $out; do
	tries=$((tries + 1))
	[ $tries -lt 1200 ] || break
	usleep 200000
done
sleep 1
check "$what: hvctl info counts its VPs" sh -c "./hvctl info | grep -q '$last VPs'"
kill -KILL $pid
wait $pid
guest_check "$what: in the midst of it" [ $? -eq 137 ]
tries=0
until nothing_left; do
	tries=$((tries + 1))
	[ $tries -lt 50 ] || break
	usleep 200000
done
check "$what: no partition is left" nothing_left
check "work in the root" ./work
lost=$((before - $(free_kib)))
echo "# $lost KiB less memory is free than before"
check "memory came back" [ $lost -lt 16384 ]
log_clean "the root's kernel complained of nothing"
check "rmmod" unload_hvmod
finish
