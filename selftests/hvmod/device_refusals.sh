#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# What hvctl run refuses of devices, and of a user who is not root: with a sentence, and before there
# is a partition.
. ./tap.sh
. ./guest_script.sh

run() {
	./hvctl run --kernel vmlinuz --timeout 10 "$@"
}

load_hvmod
log_mark
mkdir -p /tmp/dir /tmp/mounted /tmp/fixed
truncate -s 1M /tmp/disk "/tmp/with,comma" /tmp/other
truncate -s 511 /tmp/short
: >/tmp/empty
rm -f /tmp/fifo
mkfifo /tmp/fifo

# Modules that are not there yet.
refused "no tun" 2 "modprobe tun" run --net tap=tap9
modprobe tun
refused "no vhost_net" 2 "modprobe vhost_net" run --net tap=tap9
refused "no vhost_vsock" 2 "modprobe vhost_vsock" run --vsock cid=9
for module in brd vhost_net vhost_vsock veth macvtap; do modprobe $module 2>/dev/null; done

refused "a disk that is not there" 2 "/nowhere.*No such file" run --disk path=/nowhere
refused "a directory for a disk" 2 "neither a file nor a block device" run --disk path=/tmp/dir
refused "a character device for a disk" 2 "/dev/null.*neither" run --disk path=/dev/null
refused "a FIFO for a disk" 2 "/tmp/fifo.*neither" run --disk path=/tmp/fifo
refused "a FIFO for a disk that is only read" 2 "/tmp/fifo.*neither" run --disk path=/tmp/fifo,readonly
refused "an empty disk" 2 "0 bytes" run --disk path=/tmp/empty
refused "a disk of less than a sector" 2 "511 bytes" run --disk path=/tmp/short
refused "a path with a comma, as it is" 2 "wants quotes" run --disk path=/tmp/with,comma
refused "a serial number that is too long" 2 "at most 20" run --disk path=/tmp/disk,serial=123456789012345678901
refused "one with a space" 2 "at most 20" run --disk "path=/tmp/disk,serial=a b"
refused "no path" 2 "missing field .path" run --disk readonly
refused "a key that there is not" 2 "unknown field .wet" run --disk path=/tmp/disk,wet
refused "a key twice" 2 "duplicate field .path" run --disk path=/tmp/disk,path=/tmp/other
refused "perhaps read-only" 2 "expected a boolean" run --disk path=/tmp/disk,readonly=perhaps
for queues in 0 65 -1 many; do
	refused "'$queues' queues" 2 "queues" run --disk path=/tmp/disk,queues=$queues
done
refused "the same disk twice" 2 "another --disk" run --disk path=/tmp/disk --disk path=/tmp/disk
ln -s disk /tmp/link
refused "also by another name" 2 "another --disk" run --disk path=/tmp/disk --disk path=/tmp/link
refused "also if one of them only reads" 2 "another --disk" run --disk path=/tmp/disk,readonly --disk path=/tmp/disk
mke2fs /dev/ram0 >/dev/null
mount -t ext4 /dev/ram0 /tmp/mounted || bail_out "a RAM disk cannot be mounted"
refused "a block device that is mounted" 2 "it is mounted, or" run --disk path=/dev/ram0
umount /tmp/mounted
mount -t tmpfs tmpfs /tmp/fixed
truncate -s 1M /tmp/fixed/disk
mount -o remount,ro /tmp/fixed
refused "a disk on a file system that is not written" 2 "say 'readonly'" run --disk path=/tmp/fixed/disk
umount /tmp/fixed
disks=
for number in $(seq 31); do disks="$disks --disk path=/tmp/disk,readonly"; done
refused "a device too many" 2 "32 devices are more than the 31" run $disks --rng

refused "an interface of nothing" 2 "one of tap=, bridge= and macvtap=" run --net mac=52:54:00:12:34:56
refused "of two things" 2 "one of tap=" run --net tap=tap9,bridge=br9
for name in sixteen-letters- a/b a:b "a b" . ..; do
	refused "an interface of the name '$name'" 2 "is no name for a network interface" run --net "tap=$name"
done
refused "no name" 2 "expected a string" run --net tap=
refused "no tap" 2 "it is no tap" run --net tap=lo
refused "no bridge" 2 "lo: it is no bridge" run --net bridge=lo
refused "a bridge that is not there" 2 "no network interface br9" run --net bridge=br9
refused "no macvtap" 2 "is no macvtap" run --net macvtap=lo
refused "a macvtap that is not there" 2 "no network interface macvtap9" run --net macvtap=macvtap9
for mac in 52:54:00:12:34 52:54:00:12:34:56:78 52:54:00:12:34:5g mac; do
	refused "an address $mac" 2 "$mac is no MAC address" run --net tap=tap9,mac=$mac
done
for mac in 01:00:5e:00:00:01 ff:ff:ff:ff:ff:ff 00:00:00:00:00:00; do
	refused "an address $mac" 2 "not the address of one interface" run --net tap=tap9,mac=$mac
done
refused "the same tap twice" 2 "the root's tap9" run --net tap=tap9 --net tap=tap9
tunctl -t tap9 >/dev/null
refused "a tap of one queue for two" 2 "leave out 'queues'" run --net tap=tap9,queues=2

for cid in 0 1 2 4294967295; do
	refused "a context ID $cid" 2 "cid is from 3" run --vsock cid=$cid
done
for cid in 4294967296 -1 x ''; do
	refused "a context ID '$cid'" 2 "--vsock" run --vsock "cid=$cid"
done
refused "two sockets" 2 "multiple times" run --vsock cid=8 --vsock cid=9

refused "a share of a folder that is not there" 2 "cannot share /nowhere" run --share dir=/nowhere,tag=a
refused "two shares of one tag" 2 "two shares have the tag a" run --share dir=/tmp,tag=a --share dir=/tmp/dir,tag=a
refused "a share where there is no virtiofsd" 2 "install the package" run --share dir=/tmp,tag=a
refused "two consoles for one file" 2 "both consoles" run --console file:/tmp/c --virtio-console file:/tmp/c
for name in '' 'a b' a/b "$(head -c 65 /dev/zero | tr '\0' x)"; do
	refused "a run of the name '$name'" 2 "a name is up to 64" run --name "$name"
done

# What is down when a run begins, which another may yet switch on.
modprobe bridge
ip link add br9 type bridge
ip link add below9 type veth
ip link add link below9 name macvtap9 type macvtap
# warned WORDS OPTION: what a run with that network is told.
warned() {
	wanted=$1
	shift
	./hvctl run --kernel exit.elf --memory 16 --exit-port --timeout 60 --net "$@" </dev/null >/tmp/warned 2>&1
	found=$(sed -n "s/.*network interface \([^ ]*\) is down.*ip link set \1 up.*/\1/p" /tmp/warned | tr '\n' ' ')
	[ "$found" = "$wanted" ] || { echo "down: $found"; cat /tmp/warned; return 1; }
}
check "a tap that is down gets a warning" warned "tap9 " tap=tap9
check "a bridge that is down, too" warned "br9 " bridge=br9
check "a macvtap, and what it lies on" warned "macvtap9 below9 " macvtap=macvtap9
for interface in tap9 br9 below9 macvtap9; do ifconfig $interface up; done
check "none of a tap that is up" warned "" tap=tap9
check "nor of a bridge" warned "" bridge=br9
check "nor of a macvtap" warned "" macvtap=macvtap9
for interface in macvtap9 below9 br9; do ip link del $interface; done

# What another run has.
./hvctl run --kernel spin.elf --memory 16 --name first --console null --disk path=/tmp/disk \
	--disk path=/tmp/other,readonly --net tap=tap9 --vsock cid=9 </dev/null >/tmp/first 2>&1 & pid=$!
tries=0
until ./hvctl info | grep -q '^partition' || [ $tries -ge 100 ]; do tries=$((tries + 1)); usleep 100000; done
refused "a name that another has" 2 "choose another --name" run --name first
refused "a disk that another has" 2 "it is in use" run --disk path=/tmp/disk
refused "to write what another reads" 2 "it is in use" run --disk path=/tmp/other
refused "a tap that another has" 2 "tap9: another program has it" run --net tap=tap9
refused "a context ID that another has" 2 "vsock: the context ID 9 cannot be had" run --vsock cid=9
check "which is said once" [ "$(run --vsock cid=9 2>&1 | grep -o 'cannot be had' | wc -l)" = 1 ]
check "the one that has all of it runs on" kill -0 $pid
kill $pid
wait $pid 2>/dev/null

# Somebody else than root, who may have /dev/mshv, and then nothing but that.
as_user() {
	./as_user 1000 ./hvctl "$@" </dev/null
}
without_complaint() {
	! grep -i -e refused -e confined -e landlock /tmp/user
}
chown 1000 /tmp/disk
# KiB; more than the limit is root's to lock.
ulimit -l 65536
refused "a user who may not" 2 "cannot open /dev/hvmod: Permission denied.*group of yours" \
	as_user run --kernel exit.elf --memory 16 --exit-port --cmdline 3
chgrp 1000 /dev/mshv
chmod 660 /dev/mshv
ulimit -l 8192
refused "more memory than a user may lock" 2 "ulimit -l" as_user run --kernel exit.elf --memory 16 --exit-port
ulimit -l 65536
refused "a bridge, for a user" 2 "may not\|CAP_NET_ADMIN" as_user run --kernel exit.elf --memory 16 --net bridge=lo
refused "sockets, for a user" 2 "cannot open /dev/vhost-vsock.*owner and mode" \
	as_user run --kernel exit.elf --memory 16 --vsock cid=9
as_user run --kernel exit.elf --memory 16 --exit-port --cmdline 3 --timeout 60 --disk path=/tmp/disk --rng --balloon >/tmp/user 2>&1
status=$?
check "a user of the group runs a guest" [ $status = 7 ]
check "and nothing is refused to it" without_complaint
./as_user 1000 ./hvctl run --kernel spin.elf --memory 16 --console null --disk path=/tmp/disk \
	--rng --balloon </dev/null 2>/tmp/user & pid=$!
becomes_confined() {
	tries=0
	until said=$(confined); do
		tries=$((tries + 1))
		[ $tries -lt 20 ] || { echo "$said"; return 1; }
		usleep 100000
	done
}
check "it becomes confined as root's is" becomes_confined
for one in "2 stop" "1 devices"; do
	refused "hvctl ${one#* } does not believe another user's run" ${one% *} "process $pid of user 1000" ./hvctl ${one#* } $pid
done
refused "a name that another user has" 2 "of user 1000.*choose another --name" \
	./hvctl run --kernel exit.elf --memory 16 --name $pid
check "that user's own hvctl does" as_user devices $pid
kill $pid
wait $pid 2>/dev/null

check "no partition is left" sh -c '! ./hvctl info | grep -q "^partition"'
log_clean "the kernel complained of nothing"
check "rmmod" unload_hvmod
finish
