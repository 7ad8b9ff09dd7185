#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Random I/O with verification on disks over a file, a loop device and a RAM disk of the
# root; a full disk and one with bad sectors, which a guest sees as I/O errors.
. ./tap.sh
. ./guest_script.sh

operations=1000
# On the three disks together more than a million.
[ -z "$SOAK" ] || operations=400000 guest_time=100000

load_hvmod
log_mark
for module in loop brd dm_mod; do modprobe $module 2>/dev/null; done
mkdir -p /tmp/small
mount -t tmpfs -o size=1m tmpfs /tmp/small
for file in /tmp/file /tmp/looped /tmp/bad /tmp/small/full; do
	dd if=/dev/zero of=$file bs=1 count=0 seek=8388608 2>/dev/null
done
loop=$(losetup -f)
losetup "$loop" /tmp/looped
below=$(losetup -f)
losetup "$below" /tmp/bad
bad=$(./dm_error "$below" 8192 8)
echo "# bad sectors on $bad"

cat >/tmp/script <<END
for disk in vda vdb vdc; do
	echo "guest: \$disk: \$(/disk_work /dev/\$disk $operations)"
done
echo "guest: good: \$(dd if=/dev/vdd bs=4k count=1 2>/dev/null | wc -c)"
dd if=/dev/vdd bs=4k skip=1024 count=1 iflag=direct 2>&1 | sed 's/^/guest: bad: /'
echo "guest: behind: \$(dd if=/dev/vdd bs=4k skip=1025 count=1 2>/dev/null | wc -c)"
dd if=/dev/urandom of=/dev/vde bs=64k count=64 oflag=direct 2>&1 | sed 's/^/guest: full: /'
echo "guest: queues: \$(ls /sys/block/vda/mq | wc -l)"
grep -E 'virtio.-req' /proc/interrupts | sed 's/^/guest: irq: /'
END
make_initrd /tmp/script virtio_blk -- disk_work
# Flushes that the device completed.
flushes() {
	awk '{ print $16 }' /sys/block/${loop##*/}/stat
}
flushed=$(flushes)
run_guest --disk path=/tmp/file,direct --disk "path=$loop" --disk path=/dev/ram0 \
	--disk "path=$bad" --disk path=/tmp/small/full
guest_check "the guest powers off" [ $status -eq 0 ]
guest_check "a file, past the page cache: $operations operations" [ "$(says vda)" = verified ]
guest_check "a loop device: $operations operations" [ "$(says vdb)" = verified ]
check "whose flushes are the device's" [ "$(flushes)" -gt "$flushed" ]
guest_check "a RAM disk: $operations operations" [ "$(says vdc)" = verified ]
guest_check "bad sectors: those before read well" [ "$(says good)" = 4096 ]
guest_check "bad sectors: they are I/O errors" grep -q "guest: bad:.*Input/output error" $guest_out
guest_check "bad sectors: those behind read well" [ "$(says behind)" = 4096 ]
guest_check "a full disk is an I/O error" grep -q "guest: full:.*Input/output error" $guest_out
guest_check "hvctl says why" grep -q "an I/O error for the guest: No space left" $guest_out.err
# Many requests are on their way at once: not each needs a doorbell or an interrupt.
for disk in 0 1 2; do
	chains=$(of_queue "disk $disk" 0 chains)
	guest_check "disk $disk: one doorbell for several requests" [ "$(of_queue "disk $disk" 0 doorbells)" -lt "$chains" ]
	guest_check "disk $disk: interrupts that its driver did not want were not sent" [ "$(of_queue "disk $disk" 0 suppressed)" -gt 0 ]
done
nothing_refused
grep queue $guest_out.err | sed 's/^/# /'

./dm_error remove
losetup -d "$loop"
losetup -d "$below"
umount /tmp/small
check "no partition is left" sh -c '! ./hvctl info --json | tr -d " \n" | grep -q "\"partitions\":\[{"'
check "rmmod" unload_hvmod
finish
