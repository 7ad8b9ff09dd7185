#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# While a program has one of hvmod's files open the module stays, and closing it does no harm.
. ./tap.sh

load_hvmod
log_mark
for file in /dev/hvmod /dev/mshv /sys/kernel/debug/hvmod/log /sys/kernel/debug/hvmod/lps; do
	exec 3<$file
	refused "$file is open: rmmod is refused" 1 "busy\|unavailable" rmmod hvmod
	exec 3<&-
	is_loaded || load_hvmod
done
check "all are closed: rmmod" unload_hvmod
log_clean "the kernel complained of nothing"
finish
