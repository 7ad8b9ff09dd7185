#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# load.sh ROUNDS: insmod, work on every LP, rmmod, again and again; then Linux must
# be what it was.
. ./tap.sh

rounds=${1:-20}
[ -z "$SOAK" ] || rounds=$((rounds * 10))

# One round; what went wrong, if anything did.
round() {
	insmod ./hvmod.ko || return
	./identity inside || return
	./work || return
	unload_hvmod || { echo "$tap_said"; return 1; }
	./identity outside
}

check "work without hvmod" ./work
log_mark
check "the first round of insmod, work on every LP, rmmod" round
# Linux keeps some memory of each of the first twenty or so loads, and no more from then on.
warm=0
while [ $warm -lt 20 ]; do
	insmod ./hvmod.ko && unload_hvmod || break
	warm=$((warm + 1))
done
check "twenty quick rounds" [ $warm -eq 20 ]
before=$(free_kib)
number=2
while [ $number -le "$rounds" ]; do
	said=$(round 2>&1) || { not_ok "round $number" "$said"; break; }
	number=$((number + 1))
done
[ $number -le "$rounds" ] || ok "$rounds rounds"
is_loaded && bail_out "hvmod stays loaded"
log_clean "the kernel complained of nothing"
after=$(free_kib)
lost=$((before - after))
echo "# $lost KiB less memory is free than before"
# Free memory goes up and down by half of this; a load takes more than 1.5 MiB, so that twenty
# which gave nothing back would show.
check "memory came back" [ $lost -lt 16384 ]

# Linux fully working: modules, programs, file systems, the network, time.
check "work after hvmod" ./work
check "a module loads and unloads" sh -c 'modprobe loop && modprobe -r loop'
check "the network answers" ping -c 2 -q 127.0.0.1
check "a file system can be made and used" sh -c '
	set -e
	dd if=/dev/zero of=/tmp/fs bs=1M count=8 2>/dev/null
	modprobe loop
	device=$(losetup -f)
	losetup "$device" /tmp/fs
	mke2fs "$device" >/dev/null
	mkdir -p /tmp/m
	mount -t ext4 "$device" /tmp/m
	cp tap.sh /tmp/m/x
	umount /tmp/m
	mount -t ext4 "$device" /tmp/m
	cmp tap.sh /tmp/m/x
	umount /tmp/m
	losetup -d "$device"
	modprobe -r loop'
check "many programs in a row" sh -c 'i=0; while [ $i -lt 100 ]; do /bin/busybox true || exit 1; i=$((i + 1)); done'
if [ "$(nproc)" -gt 1 ]; then
	check "a CPU goes offline and online" sh -c '
		echo 0 >/sys/devices/system/cpu/cpu1/online && echo 1 >/sys/devices/system/cpu/cpu1/online'
fi
log_clean "the kernel still complains of nothing"
finish
