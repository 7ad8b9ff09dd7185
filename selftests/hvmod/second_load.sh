#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# A second hvmod is refused, whatever it calls itself, and the first goes on.
. ./tap.sh

load_hvmod
refused "the same module again: EEXIST" 17 "File exists" insmod ./hvmod.ko
log_mark
refused "a copy of another name: EBUSY" 16 "Device or resource busy" insmod ./hvmod_copy.ko
check "and the kernel's log says why" log_says "beneath this kernel already"
check "and what to do" log_says "rmmod hvmod"
log_clean "the kernel complained of nothing"
check "the first is still there" ./identity inside
check "work" ./work
check "rmmod" unload_hvmod
check "then the copy loads" insmod ./hvmod_copy.ko
check "and every LP is in the root partition" ./identity inside
check "the copy goes" rmmod hvcpy
check "every LP is outside" ./identity outside
finish
