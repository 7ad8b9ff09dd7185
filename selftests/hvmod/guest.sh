#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# guest.sh [short|together]: the stock kernel as a guest, again and again in one load of the
# module: its memory, its clock, its console, its ways to end. Short: only once. Together: once,
# then two at the same time that are driven from LP to LP, while the root has work for each.
. ./tap.sh

short=$1
rounds=1
[ -z "$SOAK" ] || rounds=20
out=/tmp/guest.out
# As for the root: Linux mistakes the speed of the emulated machine's clock. The rest saves time.
lab="tsc_early_khz=50000 nowatchdog audit=0 apparmor=0 random.trust_cpu=on cryptomgr.notests"

# boot MEMORY TEST [OPTION...]: sets $status
boot() {
	size=$1 test=$2
	shift 2
	./hvctl run --kernel vmlinuz --initrd initrd --memory "$size" --timeout 280 \
		--cmdline "console=ttyS0 panic=-1 $lab test=$test" "$@" >$out 2>$out.err
	status=$?
	tr -d '\r' <$out >$out.lines
}

says() {
	sed -n "s/.*guest: $1: //p" $out.lines
}

# check NAME COMMAND..., and what the guest said if it fails.
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
	guest_check "$what: its kernel complains of nothing" [ "$(says complaints)" = 0 ]
}

# ends NAME STATUS: false, and the rest of this guest is not asked for, if it does not.
ends() {
	guest_check "$what: $1: status $2" [ $status -eq "$2" ]
	[ $status -eq "$2" ]
}

# Types when the guest asks for it.
type_lines() {
	until grep -q 'guest: test echo' $out 2>/dev/null; do usleep 200000; done
	sleep 1
	echo "first line"
	sleep 1
	echo "second line"
	echo end
	sleep 100
}

# Boots a guest that writes to its own files, for `joined`.
apart() {
	(
		out=$out.$1
		boot "$1" poweroff </dev/null
		echo $status >$out.status
	) &
}

# What the guest of `apart` says.
joined() {
	alone=$out
	out=$out.$1
	status=$(cat $out.status)
	what="round $round: two at once, $1 MiB"
	ends "the guest powers off" 0 && said_right "$1"
	out=$alone
}

# All threads of both guests go to one LP, and a moment later to the other.
drive() {
	while :; do
		for lp in 1 2; do
			for pid in $(pidof hvctl); do taskset -ap $lp "$pid" >/dev/null 2>&1; done
			usleep 100000
		done
	done
}

together() {
	apart 128
	first=$!
	apart 512
	second=$!
	drive &
	driver=$!
	(while :; do ./work; done) >/dev/null 2>&1 &
	worker=$!
	wait $first $second
	kill $driver $worker
	wait $driver $worker 2>/dev/null
	joined 128
	joined 512
}

round=1
while [ $round -le "$rounds" ]; do
	[ "$short" != together ] || together
	what="round $round: 128 MiB"
	boot 128 poweroff </dev/null
	ends "the guest powers off" 0 && said_right 128

	if [ -z "$short" ]; then
		what="round $round: 128 MiB, typed at"
		rm -f $out /tmp/typed
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
			guest_check "$what: hvctl says so" grep -q "asked for a reset" $out.err
		fi

		what="round $round: 512 MiB, crashing"
		boot 512 crash </dev/null
		ends "a panic with panic=-1 is a reset" 4 && said_right 512
	fi
	round=$((round + 1))
done
check "exits were counted" sh -c './hvctl info | grep -q -i -E "cpuid|port|i/o"'
check "no partition is left" sh -c '! ./hvctl info --json | tr -d " \n" | grep -q "\"partitions\":\[{"'
log_clean "the root's kernel complained of nothing"
check "work in the root" ./work
check "rmmod" unload_hvmod
finish
