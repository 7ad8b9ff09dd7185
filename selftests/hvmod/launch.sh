#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Each step of loading hvmod fails once: then nothing of it is left, and it loads when the
# cause is gone. (Those that hvcore takes on an LP: death.sh.)
# launch.sh lost: an LP does not come back from the launch in time, but later.
. ./tap.sh

if [ "$1" = lost ]; then
	log_mark
	# What runs on the other one, or is woken there, has to wait.
	taskset -p 1 $$ >/dev/null
	# Where hvcore is told to come late, 30 s: arch/inject.rs.
	# By one call: another would find the LP back, and load.
	./insmod_once ./hvmod-debug.ko inject_core=$((3 | 2 << 8 | 1 << 16)) >/tmp/insmod.out 2>&1 &
	tries=0
	until log_says "CPU 1 did not come back from the launch" || [ $tries -gt 400 ]; do
		usleep 100000
		tries=$((tries + 1))
	done
	check "an LP that does not come back: the kernel's log says so" [ $tries -le 400 ]
	check "and the other one works" sh -c 'i=0; while [ $i -lt 50 ]; do /bin/busybox true || exit 1; i=$((i + 1)); done'
	wait $!
	status=$?
	check "when it is back insmod fails with ETIMEDOUT" [ $status -eq 110 ]
	check "nothing of hvmod stays" sh -c '! grep -q "^hvmod " /proc/modules && ! [ -e /dev/hvmod ]'
	taskset -p 3 $$ >/dev/null
	check "no LP is in VMX operation" ./identity outside
	check "every LP works" every_lp_works
	check "hvmod loads" insmod ./hvmod-debug.ko
	check "every LP is in the root partition" ./identity inside
	check "rmmod" unload_hvmod
	finish
fi

number=1
for step in "no memory for hvcore" "no memory to leave with" "no notifiers" \
	"the second LP is not sent, when the first is in" "no hotplug callback, when all LPs are in" \
	"no service, when all LPs are in"; do
	log_mark
	if [ $number = 4 ] && [ "$(nproc)" = 1 ]; then
		skip "$step" "it takes two LPs"
		number=$((number + 1))
		continue
	fi
	refused "$step: insmod fails with ENOMEM" 12 "memory" insmod ./hvmod-debug.ko inject_step=$number
	check "$step: hvmod is not loaded" sh -c '! grep -q "^hvmod " /proc/modules'
	check "$step: no LP is in VMX operation" ./identity outside
	check "$step: no device is left" sh -c '! [ -e /dev/hvmod ] && ! [ -e /dev/mshv ]'
	log_clean "$step: the kernel complains of nothing"
	number=$((number + 1))
done
check "every LP works" every_lp_works
check "then it loads" insmod ./hvmod-debug.ko
check "every LP is in the root partition" ./identity inside
check "rmmod" unload_hvmod

# Sizes of free memory, after so many failures.
warm=0
while [ $warm -lt 5 ]; do
	insmod ./hvmod-debug.ko inject_step=5 2>/dev/null
	warm=$((warm + 1))
done
before=$(free_kib)
warm=0
while [ $warm -lt 10 ]; do
	insmod ./hvmod-debug.ko inject_step=5 2>/dev/null
	warm=$((warm + 1))
done
lost=$((before - $(free_kib)))
echo "# $lost KiB less memory is free after 10 launches that failed"
check "memory came back" [ $lost -lt 8192 ]

finish
