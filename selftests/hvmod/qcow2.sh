#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# A disk in a qcow2 image: what the guest flushed is in it also when the run was killed.
. ./tap.sh
. ./guest_script.sh

load_hvmod
log_mark
modprobe fuse 2>/dev/null

cat >/tmp/script <<'END'
echo "guest: serial: $(cat /sys/block/vda/serial)"
echo "guest: size: $(cat /sys/block/vda/size)"
echo "guest: before: $(dd if=/dev/vda bs=64k count=32 2>/dev/null | md5sum)"
# Where the image has nothing yet: it has to note where it puts it.
dd if=/noise of=/dev/vda bs=64k seek=80 conv=fsync 2>/dev/null && echo "guest: written: yes"
echo "guest: read-only: $(cat /sys/block/vdb/ro) $(dd if=/dev/vdb bs=64k count=32 2>/dev/null | md5sum)"
echo "guest: waits"
sleep 100
END
dd if=/dev/urandom of=/tmp/raw bs=64k count=64 2>/dev/null
dd if=/dev/urandom of=/tmp/noise bs=64k count=16 2>/dev/null
truncate -s 8M /tmp/raw
qemu-img convert -f raw -O qcow2 /tmp/raw /tmp/disk.qcow2 || bail_out "qemu-img"
cp /tmp/disk.qcow2 /tmp/base.qcow2
qemu-img create -q -f qcow2 -F qcow2 -b /tmp/base.qcow2 /tmp/top.qcow2
make_initrd /tmp/script virtio_blk -- /tmp/noise
begins=$(dd if=/tmp/raw bs=64k count=32 2>/dev/null | md5sum)

start_guest --disk path=/tmp/disk.qcow2,format=qcow2,serial=Q --disk path=/tmp/top.qcow2,format=qcow2,backing,readonly
refused "another run cannot have it" 2 "lock" ./hvctl run --kernel vmlinuz --disk path=/tmp/disk.qcow2,format=qcow2
check "nothing is left where it was shown" sh -c '! ls -d /tmp/hvctl-* 2>/dev/null'
# The one that has the written image gets no chance to save what it has not; the other ends by itself.
kill -KILL $(pgrep -f 'qemu-storage-daemon.*/tmp/disk.qcow2') $pid
end_guest
guest_check "a guest finds a disk of the image's size" [ "$(says size)" = 16384 ]
guest_check "with the serial number" [ "$(says serial)" = Q ]
guest_check "and reads what is in the image" [ "$(says before)" = "$begins" ]
guest_check "it writes and flushes" [ "$(says written)" = yes ]
guest_check "an image on another, read-only" [ "$(says read-only)" = "1 $begins" ]
check "kill -9 of hvctl ends QEMU's daemons" without qemu-storage
nothing_refused
check "the image is sound" qemu-img check -q /tmp/disk.qcow2
qemu-img convert -f qcow2 -O raw /tmp/disk.qcow2 /tmp/after
check "what was flushed is in it" [ "$(dd if=/tmp/after bs=64k skip=80 count=16 2>/dev/null | md5sum)" = "$(md5sum </tmp/noise)" ]
check "what was not written is as it was" [ "$(dd if=/tmp/after bs=64k count=80 2>/dev/null | md5sum)" = "$(dd if=/tmp/raw bs=64k count=80 2>/dev/null | md5sum)" ]

run() {
	./hvctl run --kernel vmlinuz --timeout 10 "$@"
}
refused "an image that is not said to be one" 2 "say format=qcow2" run --disk path=/tmp/disk.qcow2
refused "one that is none" 2 "no qcow2 image" run --disk path=/tmp/raw,format=qcow2
refused "one on another, unasked" 2 "say 'backing'" run --disk path=/tmp/top.qcow2,format=qcow2
refused "a format that is not known" 2 "vhdx" run --disk path=/tmp/raw,format=vhdx
check "refusals leave nothing" sh -c '! ls -d /tmp/hvctl-* 2>/dev/null'
check "and no daemon" without qemu-storage

log_clean "the root's kernel complained of nothing"
check "rmmod" unload_hvmod
finish
