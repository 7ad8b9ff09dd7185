#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# hvctl stop: the power button, with and without somebody in the guest who hears it.
. ./tap.sh
. ./guest_script.sh

load_hvmod
log_mark

cat >/tmp/script <<'END'
echo "guest: button: $(cat /sys/bus/acpi/devices/PNP0C0C:00/hid)"
echo "guest: clock: $(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)"
echo "guest: waits"
if grep -q deaf /proc/cmdline; then sleep 200; fi
cat /dev/input/event0 | dd bs=24 count=1 2>/dev/null | wc -c | sed 's/^/guest: pressed: /'
END
make_initrd /tmp/script evdev button
start_guest --name hears
guest_check "stop: the guest hears of its power button and ends" ./hvctl stop hears --timeout 100
end_guest
guest_check "and the run ends as after a power-off" [ $status -eq 0 ]
nothing_refused
guest_words="deaf $clock_speed"
start_guest --name deaf --plain
./hvctl stop deaf --timeout 3 2>/dev/null
stopped=$?
end_guest
guest_check "stop: who does not hear is ended: both say so" [ "$stopped $status" = "14 14" ]
guest_check "with --plain it found no hypervisor" [ "$(says clock | sed 's/-early//')" = tsc ]
refused "stop: a run that is not there" 2 "no run of the name" ./hvctl stop deaf

log_clean "the root's kernel complained of nothing"
check "rmmod" unload_hvmod
finish
