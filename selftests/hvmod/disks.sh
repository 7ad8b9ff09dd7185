#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# A guest's disks: found by the stock kernel with no option.
. ./tap.sh
. ./guest_script.sh

load_hvmod
log_mark

cat >/tmp/script <<'END'
for device in /sys/bus/pci/devices/*; do
	echo "guest: pci: ${device##*/} $(cat $device/vendor) $(cat $device/device)"
done
echo "guest: disks: $(ls /sys/block | grep vd | tr '\n' ' ')"
echo "guest: size: $(cat /sys/block/vda/size)"
echo "guest: serial: $(cat /sys/block/vda/serial)"
echo "guest: read-only: $(cat /sys/block/vdb/ro)"
echo "guest: features: $(cat /sys/block/vda/device/features)"
echo "guest: cache: $(cat /sys/block/vda/cache_type)"
echo "guest: discards: $(cat /sys/block/vda/queue/discard_max_bytes) $(cat /sys/block/vdb/queue/discard_max_bytes)"
dd if=/dev/vda bs=64k 2>/dev/null | md5sum | sed 's/^/guest: before: /'
dd if=/dev/urandom of=/noise bs=64k count=40 2>/dev/null
dd if=/noise of=/dev/vda bs=64k conv=fsync seek=8 2>/dev/null
echo "guest: written: $(md5sum </noise)"
echo 3 >/proc/sys/vm/drop_caches
echo "guest: read back: $(dd if=/dev/vda bs=64k skip=8 count=40 2>/dev/null | md5sum)"
echo x | dd of=/dev/vdb conv=fsync 2>/dev/null && echo "guest: readonly: written"
echo "guest: vectors: $(grep -c 'MSI.*virtio' /proc/interrupts)"
echo "guest: interrupts: $(awk '/virtio.*req/ { print $2 }' /proc/interrupts | head -n 1)"
dmesg | grep -i -E 'virtio|pci |blk' | sed 's/^/guest: dmesg: /'
END
make_initrd /tmp/script virtio_blk
dd if=/dev/urandom of=/tmp/disk bs=64k count=64 2>/dev/null
dd if=/dev/zero of=/tmp/readonly bs=64k count=4 2>/dev/null
before=$(md5sum </tmp/disk)
run_guest --disk path=/tmp/disk,serial=HVMOD-1 --disk path=/tmp/readonly,readonly
guest_check "a guest with two disks powers off" [ $status -eq 0 ]
guest_check "it finds the host bridge and both" [ "$(says pci | wc -l)" = 3 ]
guest_check "the first disk has its size" [ "$(says size)" = 8192 ]
guest_check "and its serial number" [ "$(says serial)" = HVMOD-1 ]
# Bit 0 comes first.
for feature in 9:flush 12:multi-queue 13:discard 14:write-zeroes 28:indirect 29:event-index 32:version-1; do
	guest_check "both sides agree on ${feature#*:}" [ "$(says features | cut -c $((${feature%:*} + 1)))" = 1 ]
done
guest_check "it has a cache, which it flushes" [ "$(says cache)" = "write back" ]
guest_check "it can discard, the read-only one cannot" [ "$(says discards)" = "1073741824 0" ]
guest_check "the second is read-only" [ "$(says read-only)" = 1 ]
guest_check "the guest reads what is in the file" [ "$(says before)" = "$before" ]
guest_check "what it wrote it reads again" [ "$(says 'read back')" = "$(says written)" ]
check "and it is in the file" [ "$(dd if=/tmp/disk bs=64k skip=8 count=40 2>/dev/null | md5sum)" = "$(says written)" ]
guest_check "the guest cannot write the read-only disk" [ -z "$(says readonly)" ]
check "and its file is as it was" [ "$(tr -d '\0' </tmp/readonly | wc -c)" = 0 ]
guest_check "interrupts are messages" [ "$(says vectors)" -ge 2 ]
no_intercepts() {
	grep 'INFO disk' $guest_out.err >/tmp/queues && ! grep -v ' [1-9][0-9]* doorbells (0 by intercept)' /tmp/queues
}
guest_check "doorbells do not wait for a processor's thread" no_intercepts
nothing_refused
grep queue $guest_out.err | sed 's/^/# /'

log_clean "the root's kernel complained of nothing"
check "rmmod" unload_hvmod
finish
