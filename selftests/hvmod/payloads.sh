#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Small programs on a partition's bare machine: what they find there, and how the
# run of each ends.
. ./tap.sh
. ./payload.sh

says() {
	check "$name: says '$1'" grep -q -e "$1" $said
}

load_hvmod
log_mark
./hvctl info >/tmp/info.before

printf 'module' >/tmp/module
payload multiboot 85 --initrd /tmp/module --cmdline 'one two=3' </dev/null
says 'multiboot.elf one two=3'
for digit in 0 1 7; do
	payload exit $((2 * digit + 1)) --cmdline "value=$digit" </dev/null
done
# By bytes, words and strings too, and no more than a status holds.
for form in b:7:15 w:258:5 l:127:255 l:128:1 l:4294967295:255 s:3:7; do
	IFS=: read -r width value status <<-E
	$form
	E
	payload exit_forms "$status" --cmdline "$width $value" </dev/null
done
printf 'hello, hvmod.' >/tmp/typed
payload echo 1 </tmp/typed
says 'HELLO, HVMOD'
payload timer 1 </dev/null
payload serial_irq 1 </dev/null
payload faults 1 </dev/null
payload cpu 1 </dev/null
says 'GenuineIntel'
payload longmode 1 </dev/null
payload modes 1 </dev/null
payload tasks 1 </dev/null
payload registers 1 </dev/null
payload exceptions 1 </dev/null
payload stepping 1 </dev/null
payload apic_modes 1 </dev/null
payload apic_events 1 </dev/null
payload devices 1 </dev/null
payload ports 1 </dev/null
payload reset 4 </dev/null
says 'asked for a reset'
payload init 4 </dev/null
for vps in 1 2 4; do
	payload smp 1 --cpus $vps --cmdline cpus=$vps </dev/null
done
[ -z "$SOAK" ] || payload smp 1 --cpus 64 --cmdline cpus=64 </dev/null
payload triple 6 </dev/null
says 'triple-faulted'
payload nowhere 8 </dev/null
says '0xd0000000'
limit=2
payload wait 124 </dev/null
says 'time limit'
payload spin 124 </dev/null
says 'looping'
payload spin_masked 124 </dev/null
says 'looping masked'

# Without the exit port a write there is a write to nothing.
./hvctl run --kernel exit.elf --memory 16 --timeout 5 --cmdline 1 >$said 2>&1 </dev/null
name=exit
check "without --exit-port the run does not end there" grep -q 'not ok the exit port' $said

partitions=$(grep -c '^partition' /tmp/info.before)
check "no partition is left" [ "$(./hvctl info | grep -c '^partition')" = "$partitions" ]
log_clean "the kernel complained of nothing"
check "rmmod" unload_hvmod
finish
