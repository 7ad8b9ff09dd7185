#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# A guest with two processors: disks and networks with a queue for each, an interface on a macvtap;
# and what it discards, its disk's file in the root does not take up any more.
. ./tap.sh
. ./guest_script.sh

load_hvmod
log_mark
for module in tun vhost_net veth macvtap; do modprobe $module; done

cat >/tmp/script <<'END'
ifconfig lo 127.0.0.1
for interface in eth0 eth1; do
	ifconfig $interface 10.9.${interface#eth}.2 netmask 255.255.255.0 up
	echo "guest: $interface: $(cat /sys/class/net/$interface/address)"
done
echo "guest: disk queues: $(ls /sys/block/vda/mq | wc -l)"
echo "guest: net queues: $(ls /sys/class/net/eth0/queues | tr '\n' ' ')"
# The same from each processor.
for cpu in 1 2; do
	taskset $cpu dd if=/dev/vda of=/dev/null bs=64k count=32 iflag=direct 2>/dev/null
	taskset $cpu /stream send tcp 10.9.0.1 500$cpu </noise
	taskset $cpu /stream receive tcp 10.9.0.1 501$cpu | md5sum | sed "s/^/guest: received $cpu: /"
done
ping -c 3 -W 20 10.9.1.1 | sed -n 's/.* \([0-9]*\) packets received.*/guest: macvtap: \1/p'
/stream send tcp 10.9.1.1 5003 </noise
/stream receive tcp 10.9.1.1 5004 | md5sum | sed 's/^/guest: by macvtap: /'
echo "guest: trimmed: $(/disk_trim /dev/vdb)"
# How often each of a device's interrupts came.
grep -E 'virtio.-(req|input|output)' /proc/interrupts |
	awk '{ print "guest: irq: " $NF " " $2 + $3 }'
END
dd if=/dev/urandom of=/tmp/noise bs=64k count=16 2>/dev/null
dd if=/dev/urandom of=/tmp/disk bs=64k count=64 2>/dev/null
dd if=/dev/urandom of=/tmp/trimmed bs=64k count=128 2>/dev/null
make_initrd /tmp/script virtio_blk virtio_net -- stream disk_trim /tmp/noise
# The other end of what the macvtap is on is the root's; the kernel names it veth0.
ip link add below9 type veth
ip link add link below9 name macvtap9 type macvtap
for interface in below9 veth0 macvtap9; do ifconfig $interface up; done
ifconfig veth0 10.9.1.1 netmask 255.255.255.0
address=$(cat /sys/class/net/macvtap9/address)
noise=$(md5sum </tmp/noise)
pids=
for cpu in 1 2; do
	./stream listen tcp any 500$cpu >/tmp/sent$cpu & pids="$pids $!"
	./stream serve tcp any 501$cpu </tmp/noise & pids="$pids $!"
done
./stream listen tcp any 5003 >/tmp/sent3 & pids="$pids $!"
./stream serve tcp any 5004 </tmp/noise & pids="$pids $!"
before=$(du -k /tmp/trimmed | cut -f 1)
quarter() {
	dd if=/tmp/trimmed bs=64k skip="$1" count=32 2>/dev/null | md5sum
}
second=$(quarter 32)
{
	# It is there from when hvctl has opened it.
	until ifconfig tap9 10.9.0.1 netmask 255.255.255.0 up 2>/dev/null; do usleep 100000; done
} & pids="$pids $!"
run_guest --cpus 2 --disk path=/tmp/disk,queues=2 --disk path=/tmp/trimmed --net tap=tap9,queues=2 \
	--net macvtap=macvtap9
kill $pids 2>/dev/null
guest_check "a guest with two processors and many queues powers off" [ $status -eq 0 ]
guest_check "its disk has two queues" [ "$(says 'disk queues')" = 2 ]
guest_check "its interface has two pairs" [ "$(says 'net queues')" = "rx-0 rx-1 tx-0 tx-1 " ]
for cpu in 1 2; do
	guest_check "bytes from the root arrive on processor $cpu" [ "$(says "received $cpu")" = "$noise" ]
	check "bytes from processor $cpu arrive" cmp /tmp/noise /tmp/sent$cpu
done
# has_irqs NAME: whether it interrupted.
has_irqs() {
	says irq | grep -q "^$1 [1-9]"
}
for queue in 0 1; do
	guest_check "queue $queue of the disk was used" grep -q "INFO disk 0.*queue $queue: .* [1-9][0-9]* chains" $guest_out.err
	guest_check "and interrupted" has_irqs virtio0-req.$queue
	guest_check "what the network receives comes by pair $queue" has_irqs virtio2-input.$queue
done
vhost_alone() {
	# The control queue is hvctl's.
	grep -E 'INFO net' $guest_out.err | grep -v 'net tap9: queue 4' >/tmp/queues &&
		! grep -v 'queue .: 0 doorbells (0 by intercept), 0 chains' /tmp/queues
}
guest_check "no doorbell of the networks came to hvctl" vhost_alone
guest_check "an interface on a macvtap has its address" [ "$(says eth1)" = "${address:-none}" ]
guest_check "the other side answers to it" [ "$(says macvtap)" = 3 ]
guest_check "bytes from there arrive" [ "$(says 'by macvtap')" = "$noise" ]
check "bytes to there arrive" cmp /tmp/noise /tmp/sent3
guest_check "discarded and zeroed is zeros, all else is as it was" [ "$(says trimmed)" = "zeros other zeros other" ]
after=$(du -k /tmp/trimmed | cut -f 1)
check "what was discarded takes up no room: $before KiB, now $after KiB" [ "$after" -le $((before - 2048)) ]
check "what was not is in the file as before" [ "$(quarter 32)" = "$second" ]
nothing_refused
grep queue $guest_out.err | sed 's/^/# /'
says irq | sed 's/^/# irq /'

ip link del macvtap9
ip link del below9
log_clean "the root's kernel complained of nothing"
check "rmmod" unload_hvmod
finish
