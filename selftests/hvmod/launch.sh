#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Each step of loading hvmod fails once: then nothing of it is left, and it loads when the
# cause is gone. (Those that hvcore takes on an LP: death.sh.)
# launch.sh lost: an LP does not come back from the launch in time, but later. Nothing gives it back
# then but a restart, after which the emulator runs this program again.
. ./tap.sh

if [ "$1" = lost ]; then
	mark=/mnt/launch.lost
	if [ -f $mark ]; then
		check "the machine lived until it was restarted on purpose" grep -q purpose $mark
		finish
	fi
	touch $mark
	sync
	log_mark
	# What runs on the other one, or is woken there, is lost with it.
	taskset -p 1 $$ >/dev/null
	begin=$(date +%s)
	# Where hvcore is told to come late, 20 s: arch/inject.rs.
	insmod ./hvmod-debug.ko inject_core=$((3 | 2 << 8 | 1 << 16)) >/dev/null 2>&1 &
	tries=0
	until log_says "CPU 1 did not come back from the launch" || [ $tries -gt 400 ]; do
		usleep 100000
		tries=$((tries + 1))
	done
	check "an LP that does not come back: the kernel's log says so" [ $tries -le 400 ]
	# Linux has no more use for the module's memory than others have.
	until ! grep -q '^hvmod ' /proc/modules || [ $tries -gt 450 ]; do
		usleep 100000
		tries=$((tries + 1))
	done
	check "and nothing of hvmod stays" [ $tries -le 450 ]
	works='i=0; while [ $i -lt 50 ]; do /bin/busybox true || exit 1; i=$((i + 1)); done'
	check "and the other one works" sh -c "$works"
	while [ $(($(date +%s) - begin)) -lt 25 ]; do
		sleep 1
	done
	check "the other one works when it is too late back" sh -c "$works"
	echo purpose >$mark
	sync
	# See life.sh.
	echo pci >/sys/kernel/reboot/type
	sleep 1
	echo b >/proc/sysrq-trigger
	sleep 100
	bail_out "the machine did not restart"
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
