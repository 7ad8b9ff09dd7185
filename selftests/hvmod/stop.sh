#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# hvctl stop: the power button, with and without somebody in the guest who hears it.
. ./tap.sh
. ./guest_script.sh

load_hvmod
log_mark

cat >/tmp/script <<'END'
echo "guest: button: $(cat /sys/bus/acpi/devices/PNP0C0C:00/hid)"
echo "guest: waits"
if grep -q deaf /proc/cmdline; then sleep 200; fi
cat /dev/input/event0 | dd bs=24 count=1 2>/dev/null | wc -c | sed 's/^/guest: pressed: /'
END
make_initrd /tmp/script evdev button
start_guest() {
	./hvctl run --name "$1" --kernel vmlinuz --initrd /tmp/initrd --memory 192 --timeout 280 \
		--cmdline "console=ttyS0 panic=-1 $lab quiet test=script $2" </dev/null >$guest_out 2>$guest_out.err & pid=$!
	tries=0
	until grep -q "guest: waits" $guest_out; do
		tries=$((tries + 1))
		[ $tries -lt 600 ] || return
		usleep 200000
	done
}
start_guest hears
guest_check "stop: the guest hears of its power button and ends" ./hvctl stop hears --timeout 100
wait $pid
status=$?
guest_check "and the run ends as after a power-off" [ $status -eq 0 ]
nothing_refused
start_guest deaf deaf
./hvctl stop deaf --timeout 3 2>/dev/null
stopped=$?
wait $pid
status=$?
guest_check "stop: who does not hear is ended: both say so" [ $stopped -eq 14 ] && [ $status -eq 14 ]
refused "stop: a run that is not there" 2 "no run of the name" ./hvctl stop deaf

log_clean "the root's kernel complained of nothing"
check "rmmod" unload_hvmod
finish
