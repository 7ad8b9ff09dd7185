#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# A guest's devices: found by the stock kernel with no option, and served by the root.
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
guest_check "the second is read-only" [ "$(says read-only)" = 1 ]
guest_check "the guest reads what is in the file" [ "$(says before)" = "$before" ]
guest_check "what it wrote it reads again" [ "$(says 'read back')" = "$(says written)" ]
check "and it is in the file" [ "$(dd if=/tmp/disk bs=64k skip=8 count=40 2>/dev/null | md5sum)" = "$(says written)" ]
guest_check "the read-only disk was not written" [ -z "$(says readonly)" ]
guest_check "interrupts are messages" [ "$(says vectors)" -ge 2 ]
guest_check "doorbells do not wait for a processor's thread" grep -q ' (0 by intercept)' $guest_out.err
grep queue $guest_out.err | sed 's/^/# /'

# Network, sockets, random numbers and a second console in one guest.
cat >/tmp/script <<'END'
ifconfig lo 127.0.0.1
ifconfig eth0 10.9.8.2 netmask 255.255.255.0 up
echo "guest: mac: $(cat /sys/class/net/eth0/address)"
ping -c 3 -W 20 10.9.8.1 | sed -n 's/.* \([0-9]*\) packets received.*/guest: answers: \1/p'
# Bytes both ways, checked at both ends.
nc 10.9.8.1 5001 </dev/null >/received
echo "guest: received: $(md5sum </received)"
nc 10.9.8.1 5002 </noise
echo "guest: sent: $(md5sum </noise)"
/vsock send 2 5003 </noise
/vsock receive 2 5004 | md5sum | sed 's/^/guest: by vsock: /'
echo "guest: rng: $(cat /sys/class/misc/hw_random/rng_current)"
echo "guest: random: $(dd if=/dev/hwrng bs=512 count=4 2>/dev/null | wc -c)"
echo "said on hvc0" >/dev/hvc0
sleep 1
END
dd if=/dev/urandom of=/tmp/noise bs=64k count=16 2>/dev/null
make_initrd /tmp/script virtio_net vmw_vsock_virtio_transport virtio-rng -- vsock /tmp/noise
for module in tun vhost_net vhost_vsock; do modprobe $module; done
tunctl -t tap9 >/dev/null
ifconfig tap9 10.9.8.1 netmask 255.255.255.0 up
nc -l -p 5001 </tmp/noise >/dev/null & pids=$!
nc -l -p 5002 </dev/null >/tmp/by-net & pids="$pids $!"
./vsock listen 5003 >/tmp/by-vsock & pids="$pids $!"
./vsock serve 5004 </tmp/noise & pids="$pids $!"
run_guest --net tap=tap9,mac=52:54:00:12:34:56 --vsock cid=9 --rng --virtio-console file:/tmp/hvc0
kill $pids 2>/dev/null
noise=$(md5sum </tmp/noise)
guest_check "a guest with a network powers off" [ $status -eq 0 ]
guest_check "its interface has the address it was given" [ "$(says mac)" = 52:54:00:12:34:56 ]
guest_check "the root answers to it" [ "$(says answers)" = 3 ]
guest_check "bytes from the root arrive" [ "$(says received)" = "$noise" ]
guest_check "bytes to the root arrive" [ "$(md5sum </tmp/by-net)" = "$noise" ]
guest_check "bytes to the root by vsock arrive" [ "$(md5sum </tmp/by-vsock)" = "$noise" ]
guest_check "bytes from the root by vsock arrive" [ "$(says 'by vsock')" = "$noise" ]
guest_check "it has a source of random numbers" [ "$(says random)" = 2048 ]
guest_check "and a second console" grep -q "said on hvc0" /tmp/hvc0
vhost_alone() {
	grep -E 'INFO (net|vsock)' $guest_out.err >/tmp/queues && ! grep -v 'queue .: 0 doorbells (0 by intercept), 0 chains' /tmp/queues
}
guest_check "no doorbell of network or vsock came to hvctl" vhost_alone
check "they went through the kernel's vhost" [ "$(cat /sys/class/net/tap9/statistics/rx_bytes)" -gt 1048576 ]
grep queue $guest_out.err | sed 's/^/# /'

# The power button, with and without somebody who hears it.
cat >/tmp/script <<'END'
echo "guest: button: $(cat /sys/bus/acpi/devices/PNP0C0C:00/hid)"
echo "guest: waits"
if grep -q deaf /proc/cmdline; then sleep 200; fi
cat /dev/input/event0 | dd bs=24 count=1 2>/dev/null | wc -c | sed 's/^/guest: pressed: /'
END
make_initrd /tmp/script evdev button
start_guest() {
	./hvctl run --name "$1" --kernel vmlinuz --initrd /tmp/initrd --memory 192 --timeout 280 \
		--cmdline "console=ttyS0 panic=-1 $lab test=script $2" </dev/null >$guest_out 2>$guest_out.err & pid=$!
	tries=0
	until grep -q "guest: waits" $guest_out; do
		tries=$((tries + 1))
		[ $tries -lt 600 ] || return
		usleep 200000
	done
}
start_guest hears
guest_check "stop: the guest hears of its power button and ends" ./hvctl stop hears --timeout 100
wait $pid
status=$?
guest_check "and the run ends as after a power-off" [ $status -eq 0 ]
start_guest deaf deaf
./hvctl stop deaf --timeout 3 2>/dev/null
stopped=$?
wait $pid
status=$?
guest_check "stop: who does not hear is ended: both say so" [ $stopped -eq 14 ] && [ $status -eq 14 ]
refused "stop: a run that is not there" 2 "no run of the name" ./hvctl stop deaf

log_clean "the root's kernel complained of nothing"
check "rmmod" unload_hvmod
finish
