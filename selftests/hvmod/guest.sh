#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# guest.sh [RUNS]: the stock kernel as a guest, RUNS times with each size of memory in one
# load of the module; its clock, its console, its ways to end.
. ./tap.sh

runs=${1:-3}
[ -z "$SOAK" ] || runs=$((runs * 20))
out=/tmp/guest.out

# boot MEMORY TEST [OPTION...]: sets $status
boot() {
	size=$1 test=$2
	shift 2
	./hvctl run --kernel vmlinuz --initrd initrd --memory "$size" --timeout 280 \
		--cmdline "console=ttyS0 quiet panic=-1 test=$test" "$@" >$out 2>$out.err
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
	[ "${told:-0}" -gt $(($1 * 1024 * 6 / 10)) ] && [ "$told" -le $(($1 * 1024)) ]
}

time_advances() {
	first=$(says date | head -n 1) second=$(says date | tail -n 1)
	[ "${second:-0}" -ge $((${first:-0} + 2)) ] && [ "$second" -le $((first + 30)) ]
}

date_is_ours() {
	first=$(says date | head -n 1) now=$(date +%s)
	[ "${first:-0}" -gt $((now - 3600)) ] && [ "$first" -lt $((now + 3600)) ]
}

for memory in 128 512; do
	run=1
	while [ $run -le "$runs" ]; do
		what="$memory MiB, run $run"
		boot $memory poweroff </dev/null
		guest_check "$what: the guest powers off: status 0" [ $status -eq 0 ]
		if [ $status -ne 0 ]; then
			run=$((run + 1))
			continue
		fi
		guest_check "$what: it is the kernel we gave it" [ "$(says uname | awk '{ print $3 }')" = "$(uname -r)" ]
		guest_check "$what: the processor has the machine's name" [ "$(says model)" = "$model" ]
		guest_check "$what: it has its memory" memory_is_near $memory
		guest_check "$what: it computes" [ "$(says computed)" = 333833500 ]
		guest_check "$what: its date is ours" date_is_ours
		guest_check "$what: its clock advances" time_advances
		guest_check "$what: it slept for 2 s" [ "$(says slept)" -ge 2 -a "$(says slept)" -le 4 ]
		guest_check "$what: its kernel complains of nothing" [ "$(says complaints)" = 0 ]
		run=$((run + 1))
	done
done

( sleep 1; echo "first line"; sleep 1; echo "second line"; echo end; sleep 200 ) | {
	boot 128 echo
	guest_check "console input: the guest ends" [ $status -eq 0 ]
	guest_check "console input: both lines came" [ "$(says read | head -n 2 | tr '\n' '|')" = "first line|second line|" ]
	guest_check "console input: by interrupts" [ "$(says 'serial interrupts')" -gt 0 ]
	echo "$tap_number $tap_failed" >/tmp/guest.counts
} &
echoing=$!
wait $echoing
read -r tap_number tap_failed </tmp/guest.counts

boot 128 reboot </dev/null
guest_check "a reboot ends the run with status 4" [ $status -eq 4 ]
guest_check "and hvctl says so" grep -q "asked for a reset" $out.err
boot 128 crash </dev/null
guest_check "a panic with panic=-1 is a reset" [ $status -eq 4 ]

check "exits were counted" sh -c './hvctl info | grep -q -i -E "cpuid|port|i/o"'
check "no partition is left" sh -c '! ./hvctl info --json | tr -d " \n" | grep -q "\"partitions\":\[{"'
log_clean "the root's kernel complained of nothing"
check "work in the root" ./work
check "rmmod" unload_hvmod
finish
