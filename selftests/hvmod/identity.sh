#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Every LP says by CPUID whether it is in the root partition, and the device says the same.
. ./tap.sh

check "before insmod no LP is in the root partition" ./identity outside
load_hvmod
check "every LP is in the root partition, as the device says" ./identity inside
check "debugfs has the log" grep -q . /sys/kernel/debug/hvmod/log
if [ -x ./hvctl ]; then
	check "hvctl info agrees" ./hvctl info
	check "hvctl check is content" ./hvctl check
	check "hvctl log says something" sh -c './hvctl log | grep -q .'
else
	skip "hvctl info agrees" "there is no hvctl"
fi
for device in /dev/hvmod /dev/mshv; do
	check "$device belongs to root alone" sh -c "[ \"\$(stat -c %a:%u $device)\" = 600:0 ]"
done
check "rmmod" unload_hvmod
check "after rmmod no LP is in the root partition" ./identity outside
check "the devices are gone" sh -c '! [ -e /dev/hvmod ] && ! [ -e /dev/mshv ]'
load_hvmod_quietly() { insmod ./hvmod.ko mshv=0; }
check "insmod mshv=0" load_hvmod_quietly
check "then there is /dev/hvmod and no /dev/mshv" sh -c '[ -c /dev/hvmod ] && ! [ -e /dev/mshv ]'
check "rmmod again" unload_hvmod
finish
