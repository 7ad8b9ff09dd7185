#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Random calls on hvmod's files, from several threads and processes, some of which are killed:
# see ioctl_fuzz.c. SEEDS and COUNT choose others.
. ./tap.sh
. ./payload.sh

count=${COUNT:-4000} seeds=${SEEDS:-1 2}
[ -z "$SOAK" ] || { count=${COUNT:-100000} seeds=${SEEDS:-$(seq 1 10)}; }

load_hvmod
log_mark
run_once >/dev/null 2>&1
# What the first files and processes leave in Linux's caches is not counted.
./ioctl_fuzz 99 4000 >/dev/null
before=$(free_kib) core=$(value core_bytes)
for seed in $seeds; do
	said=$(./ioctl_fuzz "$seed" "$count")
	status=$?
	echo "$said" | sed 's/^[^#]/# &/'
	check "random calls, seed $seed: all rounds ended, and every call succeeded at times" [ $status -eq 0 ]
done
echo "# ioctl: $(($(echo $seeds | wc -w) * count)) calls"
check "no partition is left, nor memory of one" nothing_held
check "hvcore has no more memory than before" [ $(($(value core_bytes) - core)) -le 1048576 ]
check "every LP is in the root partition" ./identity inside
[ -z "$CHILDREN" ] || check "a child runs after all this" run_once
after=$(free_kib)
echo "# $((before - after)) KiB less memory is free than before"
check "memory came back" [ $((before - after)) -lt 16384 ]
check "every LP works" every_lp_works
check "rmmod" unload_hvmod
check "insmod again" insmod ./hvmod.ko
check "rmmod again" unload_hvmod
log_clean "the kernel complained of nothing"
finish
