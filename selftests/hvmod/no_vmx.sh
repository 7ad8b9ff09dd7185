#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# On a machine without VMX hvmod says so and stays out.
without_vmx=1
. ./tap.sh

grep -q '^flags.*\bvmx\b' /proc/cpuinfo && skip_all "this machine has VMX"
log_mark
refused "insmod gives ENODEV" 19 "No such device" insmod ./hvmod.ko
check "the kernel's log says why in one sentence" log_says "VMX"
# (busybox tries twice: two ways to load a module.)
sentences=$(log_since_mark | grep 'hvmod: .*VMX' | sed 's/^\[[^]]*\] //' | sort -u)
check "one only" [ "$(echo "$sentences" | wc -l)" = 1 ]
refused "hvctl check fails and explains" 1 "VMX" ./hvctl check
refused "hvctl check says what to do" 1 "fix:" ./hvctl check
refused "hvctl info says that hvmod is not loaded" 1 "hvmod is not loaded" ./hvctl info
refused "hvctl run says so too" 2 "hvmod is not loaded" ./hvctl run --kernel vmlinuz
check "no device appeared" sh -c '! [ -e /dev/hvmod ] && ! [ -e /dev/mshv ]'
check "Linux goes on" ./work
log_clean "the kernel complained of nothing"
finish
