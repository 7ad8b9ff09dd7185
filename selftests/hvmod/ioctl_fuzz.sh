#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Random calls on hvmod's files, from several threads and processes, some of which are killed:
# see ioctl_fuzz.c. SEEDS and COUNT choose others.
. ./tap.sh

count=${COUNT:-4000} seeds=${SEEDS:-1 2}
[ -z "$SOAK" ] || { count=${COUNT:-100000} seeds=${SEEDS:-$(seq 1 10)}; }

nothing_held() {
	tries=0
	until ./hvctl info | grep -q 'child partitions: none'; do
		tries=$((tries + 1))
		[ $tries -lt 50 ] || { ./hvctl info | head -n 12; return 1; }
		usleep 100000
	done
}

run_once() {
	./hvctl run --kernel exit.elf --memory 64 --exit-port --cmdline value=1 --timeout 100 </dev/null
	[ $? -eq 3 ]
}

load_hvmod
log_mark
run_once >/dev/null 2>&1
# What the first files and processes leave in Linux's caches is not counted.
./ioctl_fuzz 99 4000 >/dev/null
before=$(free_kib)
for seed in $seeds; do
	said=$(./ioctl_fuzz "$seed" "$count")
	status=$?
	echo "$said" | sed 's/^[^#]/# &/'
	check "random calls, seed $seed: all rounds ended" [ $status -eq 0 ]
done
echo "# ioctl: $(($(echo $seeds | wc -w) * count)) calls"
check "no partition is left" nothing_held
check "every LP is in the root partition" ./identity inside
[ -z "$CHILDREN" ] || check "a child runs after all this" run_once
after=$(free_kib)
echo "# $((before - after)) KiB less memory is free than before"
check "memory came back" [ $((before - after)) -lt 16384 ]
check "every LP works" ./work
log_clean "the kernel complained of nothing"
check "rmmod" unload_hvmod
check "insmod again" insmod ./hvmod.ko
check "rmmod again" unload_hvmod
finish
