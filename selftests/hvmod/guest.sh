#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# guest.sh [short|together]: the stock kernel as a guest, again and again in one load of the
# module: its memory, its clock, its console, its ways to end. Short: only once. Together: once
# with each memory, then both at the same time, driven from LP to LP while the root has work too.
. ./tap.sh
. ./guest_console.sh

kind=$1
rounds=1
[ -z "$SOAK" ] || rounds=20

# boot MEMORY TEST: sets $status
boot() {
	guest_run --initrd initrd --memory "$1" --timeout 280 --cmdline "console=ttyS0 panic=-1 $quick test=$2"
}

model=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
load_hvmod
log_mark

memory_is_near() {
	told=$(says memory | sed 's/ KiB//')
	[ "${told:-0}" -gt $(($1 * 1024 / 2)) ] && [ "$told" -le $(($1 * 1024)) ]
}

time_advances() {
	first=$(says date | head -n 1) second=$(says date | tail -n 1)
	[ "${second:-0}" -ge $((${first:-0} + 2)) ] && [ "$second" -le $((first + 30)) ]
}

date_is_ours() {
	first=$(says date | head -n 1) now=$(date +%s)
	[ "${first:-0}" -gt $((now - 3600)) ] && [ "$first" -lt $((now + 3600)) ]
}

# What every guest must say of itself, whatever it does then.
said_right() {
	guest_check "$what: it is the kernel we gave it" [ "$(says uname | awk '{ print $3 }')" = "$(uname -r)" ]
	guest_check "$what: the processor has the machine's name" [ "$(says model)" = "$model" ]
	guest_check "$what: it has its memory" memory_is_near "$1"
	guest_check "$what: it computes" [ "$(says computed)" = 333833500 ]
	guest_check "$what: its date is ours" date_is_ours
	guest_check "$what: its clock advances" time_advances
	guest_check "$what: it has a clock that it reads from memory" [ "$(says clocksource)" = hyperv_clocksource_tsc_page ]
	guest_check "$what: its kernel complains of nothing" [ "$(says complaints)" = 0 ]
}

# ends NAME STATUS: false, and the rest of this guest is not asked for, if it does not.
ends() {
	guest_check "$what: $1: status $2" [ $status -eq "$2" ]
	[ $status -eq "$2" ]
}

# Types when the guest asks for it.
type_lines() {
	until grep -q 'guest: test echo' $guest_out.raw 2>/dev/null; do usleep 200000; done
	sleep 1
	echo "first line"
	sleep 1
	echo "second line"
	echo end
	sleep 100
}

# plain MEMORY
plain() {
	what="round $round: $1 MiB"
	boot "$1" poweroff </dev/null
	ends "the guest powers off" 0 && said_right "$1"
}

# Boots a guest that writes to its own files, for `joined`.
apart() {
	(
		guest_out=$guest_out.$1
		boot "$1" poweroff </dev/null
		echo $status >$guest_out.status
	) &
}

# What the guest of `apart` says.
joined() {
	alone=$guest_out
	guest_out=$guest_out.$1
	status=$(cat $guest_out.status)
	what="round $round: two at once, $1 MiB"
	ends "the guest powers off" 0 && said_right "$1"
	guest_out=$alone
}

# All threads of both guests go to one LP, and a moment later to the other. The other has room
# for the root's work meanwhile. Looking for processes takes as long as a guest runs between moves.
drive() {
	while :; do
		guests=$(pidof hvctl)
		for lp in 1 2 1 2 1 2 1 2; do
			for pid in $guests; do taskset -ap $lp "$pid" >/dev/null 2>&1; done
			usleep 200000
		done
	done
}

# The root's work does not keep the guests from theirs, but is there at each of their breaks.
together() {
	apart 128
	first=$!
	apart 512
	second=$!
	drive &
	driver=$!
	(while :; do nice -n 10 ./work; done) >/dev/null 2>&1 &
	worker=$!
	wait $first $second
	kill $driver $worker
	wait $driver $worker 2>/dev/null
	joined 128
	joined 512
}

round=1
while [ $round -le "$rounds" ]; do
	plain 128
	case $kind in
	short) ;;
	together)
		plain 512
		together
		;;
	*)
		what="round $round: 128 MiB, typed at"
		rm -f $guest_out.raw /tmp/typed
		mkfifo /tmp/typed
		type_lines >/tmp/typed & typist=$!
		boot 128 echo </tmp/typed
		kill $typist 2>/dev/null
		if ends "the guest powers off" 0; then
			said_right 128
			guest_check "$what: both lines came" [ "$(says read | head -n 2 | tr '\n' '|')" = "first line|second line|" ]
			guest_check "$what: by interrupts" [ "$(says 'serial interrupts')" -gt 0 ]
		fi

		what="round $round: 128 MiB, rebooting"
		boot 128 reboot </dev/null
		if ends "the run ends at the reset" 4; then
			said_right 128
			guest_check "$what: hvctl says so" grep -q "asked for a reset" $guest_out.err
		fi

		what="round $round: 512 MiB, crashing"
		boot 512 crash </dev/null
		ends "a panic with panic=-1 is a reset" 4 && said_right 512
		;;
	esac
	round=$((round + 1))
done
check "exits were counted" sh -c './hvctl info | grep -q -i -E "cpuid|port|i/o"'
check "no partition is left" sh -c '! ./hvctl info --json | tr -d " \n" | grep -q "\"partitions\":\[{"'
log_clean "the root's kernel complained of nothing"
check "work in the root" ./work
check "rmmod" unload_hvmod
finish
