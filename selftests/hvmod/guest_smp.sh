#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# guest_smp.sh VPS:END...: the stock kernel with several processors, as many as the root has
# or more: work on each, threads that share memory, processors that come and go. Then it ends
# by poweroff or reboot, or is busy and killed.
. ./tap.sh
. ./guest_console.sh

# start VPS END: in the background, as $pid.
start() {
	./hvctl run --kernel vmlinuz --initrd initrd --memory 192 --cpus "$1" --timeout 500 \
		--cmdline "console=ttyS0 panic=-1 $quick test=smp end=$2" </dev/null >$guest_out.raw 2>$guest_out.err & pid=$!
}

# ended STATUS: waits for it.
ended() {
	wait $pid
	status=$?
	tr -d '\r' <$guest_out.raw >$guest_out
	[ $status -eq "$1" ]
}

nothing_left() {
	tries=0
	while ./hvctl info --json | tr -d ' \n' | grep -q '"partitions":\[{'; do
		tries=$((tries + 1))
		[ $tries -lt 50 ] || return 1
		usleep 200000
	done
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
for guest; do
	vps=${guest%:*}
	what="$vps VPs"
	start "$vps" "${guest#*:}"
	case ${guest#*:} in
	poweroff) guest_check "$what: the guest powers off" ended 0 ;;
	reboot) guest_check "$what: the run ends at the guest's reboot" ended 4 ;;
	busy)
		guest_reaches 'guest: all busy' && sleep 1
		check "$what: hvctl info counts its VPs" sh -c "./hvctl info | grep -q '$vps VPs'"
		kill -KILL $pid
		guest_check "$what: killed in the midst of it" ended 137
		;;
	esac
	said_right "$vps"
	check "$what: no partition is left" nothing_left
done
check "work in the root" ./work
lost=$((before - $(free_kib)))
echo "# $lost KiB less memory is free than before"
check "memory came back" [ $lost -lt 16384 ]
log_clean "the root's kernel complained of nothing"
check "rmmod" unload_hvmod
finish
