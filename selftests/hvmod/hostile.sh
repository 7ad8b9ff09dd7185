#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# A guest whose driver does what none may: its device stops, hvctl and the root live, and a
# good driver finds the device as it was.
. ./tap.sh
. ./guest_script.sh

load_hvmod
log_mark
cat >/tmp/script <<'END'
# From Linux's driver to ours, and back.
echo 0000:00:01.0 >/sys/bus/pci/drivers/virtio-pci/unbind
echo 1 >/sys/bus/pci/devices/0000:00:01.0/enable
/hostile_driver /sys/bus/pci/devices/0000:00:01.0/resource0
echo 0000:00:01.0 >/sys/bus/pci/drivers/virtio-pci/bind
insmod $(find /system /lib/modules /usr/lib/modules -name virtio_blk.ko 2>/dev/null | head -n 1)
echo "guest: disk: $(dd if=/dev/vda bs=64k 2>/dev/null | md5sum)"
END
make_initrd /tmp/script virtio_blk -- hostile_driver
sed -i '/^insmod .*virtio_blk.* 2>.dev.null$/d' /tmp/initrd.root/script
(cd /tmp/initrd.root && find . | cpio -o -H newc 2>/dev/null) | cat - initrd >/tmp/initrd
dd if=/dev/urandom of=/tmp/disk bs=64k count=16 2>/dev/null
run_guest --disk path=/tmp/disk
guest_check "the guest lives to its end" [ $status -eq 0 ]
for what in "a good request" "a queue outside of memory" "a loop" "a buffer outside of memory" \
	"a head that is none" "an index that ran away" "a good request after that" \
	"it stops each time" "no memory is touched after a reset" "after resets in flight" "after a flood of doorbells" \
	"after a ring that changed underfoot" "after writes to any register"; do
	guest_check "$what" [ "$(says "$what")" = ok ]
done
guest_check "hvctl says why the device stopped" grep -q "stops until its driver resets it" $guest_out.err
guest_check "and does not say it for ever" [ "$(grep -c WARN $guest_out.err)" -le 60 ]
guest_check "Linux's own driver reads the disk" [ "$(says disk)" = "$(md5sum </tmp/disk)" ]
nothing_refused
log_clean "the root's kernel complained of nothing"
check "rmmod" unload_hvmod
finish
