#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# A guest's network and sockets, served by the root's kernel; random numbers, a second console.
. ./tap.sh
. ./guest_script.sh

load_hvmod
log_mark

cat >/tmp/script <<'END'
ifconfig lo 127.0.0.1
ifconfig eth0 10.9.8.2 netmask 255.255.255.0 up
echo "guest: mac: $(cat /sys/class/net/eth0/address)"
ping -c 3 -W 20 10.9.8.1 | sed -n 's/.* \([0-9]*\) packets received.*/guest: answers: \1/p'
# Bytes both ways, checked at both ends.
/stream receive tcp 10.9.8.1 5001 >/received
echo "guest: received: $(md5sum </received)"
/stream send tcp 10.9.8.1 5002 </noise
echo "guest: sent: $(md5sum </noise)"
/stream send vsock 2 5003 </noise
/stream receive vsock 2 5004 | md5sum | sed 's/^/guest: by vsock: /'
echo "guest: rng: $(cat /sys/class/misc/hw_random/rng_current)"
for n in 1 2; do dd if=/dev/hwrng of=/random$n bs=512 count=4 2>/dev/null; done
echo "guest: random: $(cat /random1 /random2 | wc -c) $(gzip -c /random1 | wc -c)"
cmp -s /random1 /random2 || echo "guest: random numbers: differ"
echo "said on hvc0" >/dev/hvc0
sleep 1
END
dd if=/dev/urandom of=/tmp/noise bs=64k count=16 2>/dev/null
make_initrd /tmp/script virtio_net vmw_vsock_virtio_transport virtio-rng -- stream /tmp/noise
for module in tun vhost_net vhost_vsock; do modprobe $module; done
tunctl -t tap9 >/dev/null
ifconfig tap9 10.9.8.1 netmask 255.255.255.0 up
./stream serve tcp any 5001 </tmp/noise & pids=$!
./stream listen tcp any 5002 >/tmp/by-net & pids="$pids $!"
./stream listen vsock any 5003 >/tmp/by-vsock & pids="$pids $!"
./stream serve vsock any 5004 </tmp/noise & pids="$pids $!"
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
guest_check "it has a source of random numbers" [ "$(says rng)" = virtio_rng.0 ]
guest_check "of which it reads as many as it likes" [ "$(says random | cut -d ' ' -f 1)" = 4096 ]
guest_check "never the same" [ "$(says 'random numbers')" = differ ]
guest_check "nor any that gzip makes fewer" [ "$(says random | cut -d ' ' -f 2)" -ge 2048 ]
guest_check "and a second console" grep -q "said on hvc0" /tmp/hvc0
vhost_alone() {
	grep -E 'INFO (net|vsock)' $guest_out.err >/tmp/queues && ! grep -v 'queue .: 0 doorbells (0 by intercept), 0 chains' /tmp/queues
}
guest_check "no doorbell of network or vsock came to hvctl" vhost_alone
guest_check "the counters count: those of the random numbers" [ "$(of_queue rng 0 chains)" -gt 0 ]
check "they went through the kernel's vhost" [ "$(cat /sys/class/net/tap9/statistics/rx_bytes)" -gt 1048576 ]
nothing_refused
grep queue $guest_out.err | sed 's/^/# /'

log_clean "the root's kernel complained of nothing"
check "rmmod" unload_hvmod
finish
