#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# A stock Debian 13 with systemd under Debian's QEMU, from SeaBIOS and GRUB on, with two VPs and
# its network through the kernel's vhost; and a copy of its disk under hvctl at the same time.
. ./tap.sh
. ./guest_console.sh
. ./debian_console.sh

place=../guest
[ -f $place/guest.img ] || skip_all "there is no disk of a Debian guest"
command -v qemu-system-x86_64 >/dev/null || skip_all "no QEMU here: needs the lab's root 'full'"

# of qemu|hvctl: whom the next steps are about.
of() {
	out=/tmp/debian.$1
	case $1 in
	qemu) pid=$qemu_pid; exec 3>&6 ;;
	hvctl) pid=$hvctl_pid; exec 3>&7 ;;
	esac
}

ended_well() {
	wait "$1"
	[ $? -eq 0 ]
}

load_hvmod
log_mark
modprobe tun
modprobe vhost_net
ip tuntap add tap9 mode tap
ip addr add 192.0.2.1/24 dev tap9
ip link set tap9 up
cp --sparse=always $place/guest.img /tmp/copy.img
mkfifo /tmp/typed.qemu /tmp/typed.hvctl
exec 6<>/tmp/typed.qemu 7<>/tmp/typed.hvctl
: >/tmp/debian.qemu
: >/tmp/debian.hvctl
qemu-system-x86_64 -accel mshv -nodefaults -display none -no-reboot -m 512 -smp 2 -serial stdio \
	-drive file=$place/guest.img,if=none,id=root,format=raw -device virtio-blk-pci,drive=root,serial=ROOT \
	-drive file=grub.img,if=none,id=grub,format=raw -device virtio-blk-pci,drive=grub,bootindex=1 \
	-netdev tap,id=net,ifname=tap9,script=no,downscript=no,vhost=on -device virtio-net-pci,netdev=net \
	<&6 >>/tmp/debian.qemu 2>/tmp/debian.qemu.err & qemu_pid=$!
of qemu
step "QEMU: SeaBIOS boots GRUB from a disk" until_says "GRUB: starting" 600
step "QEMU: Debian boots to its login prompt" until_says "login:" 3000
step "QEMU: root logs in" log_in
cmdline=$(ask cmdline 'cat /proc/cmdline')
echo "# kernel $(ask kernel 'uname -r'), $cmdline"
# systemd's patience: as QEMU's guest was told.
patience=$(echo "$cmdline" | grep -o 'systemd\.[^ ]*' | tr '\n' ' ')
HVCTL_LOG=info ./hvctl run --name debian --kernel $place/vmlinuz --initrd $place/initrd.img --memory 512 \
	--disk path=/tmp/copy.img,serial=ROOT --cmdline "console=ttyS0 root=/dev/vda rw $quick quiet $patience" \
	<&7 >>/tmp/debian.hvctl 2>/tmp/debian.hvctl.err & hvctl_pid=$!
of hvctl
step "hvctl: a copy of the disk boots to its login prompt at the same time" until_says "login:" 3000
check "both partitions are there, by their processes" \
	sh -c "./hvctl info | grep -q 'process $qemu_pid' && ./hvctl info | grep -q 'process $hvctl_pid'"
step "hvctl: root logs in" log_in
for vmm in qemu hvctl; do
	of $vmm
	state=$(ask state "systemctl is-system-running --wait")
	check "$vmm: systemctl is-system-running: $state" [ "$state" = running ]
done
of qemu
check "QEMU: two processors" [ "$(ask cpus nproc)" = 2 ]
check "QEMU: its clock is Hyper-V's" [ "$(ask clock 'cat /sys/devices/system/clocksource/clocksource0/current_clocksource')" = hyperv_clocksource_tsc_page ]
check "QEMU: root is the virtio disk" [ "$(ask root 'findmnt -no SOURCE /')" = /dev/vda ]
check "QEMU: it writes and syncs a file" [ "$(ask written 'echo precious >/root/file; sync; cat /root/file')" = precious ]
ask network "printf '[Match]\\\\nName=e*\\\\n[Network]\\\\nAddress=192.0.2.2/24\\\\n' >/etc/systemd/network/x.network; systemctl restart systemd-networkd; sleep 5" >/dev/null
check "QEMU: its network answers to the root" sh -c "ping -c 5 -W 10 192.0.2.2 | grep -q ' [3-5] packets received\| [3-5] received'"
check "QEMU: through the kernel's vhost" sh -c "cat /proc/$qemu_pid/task/*/comm | grep -q '^vhost-'"
echo "systemctl poweroff" >&3
step "QEMU: it powers off, and QEMU ends" ended_well $qemu_pid
of hvctl
check "hvctl: it goes on, and shuts down as after its power button" ./hvctl stop debian --timeout 600
step "hvctl: and powers off" ended_well $hvctl_pid

ip link del tap9
log_clean "the root's kernel complained of nothing"
check "rmmod" unload_hvmod
finish
