#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# life.sh HOW: the machine's life goes on with hvmod loaded and a partition running.
#   here	what must be refused is, with a reason
#   reboot	the machine restarts
#   kexec	another kernel is started, and has the machine for itself
#   kexec-offline	the same, while an LP is offline, and comes online when hvmod has gone
#   crash	Linux panics, and its crash kernel starts and reads all of memory
# For the last four the emulator runs this program again when the machine is back: the
# first time leaves a mark on the disk.
how=$1
mark=/mnt/life.$how
# A crash kernel is above hvcore, which shows it no VMX.
[ ! -f $mark ] || without_vmx=1
. ./tap.sh

grub=/system/boot

start_child() {
	./hvctl run --kernel spin.elf --memory 64 </dev/null >/tmp/child.out 2>&1 &
	child=$!
	tries=0
	until grep -q ing /tmp/child.out || [ $tries -gt 100 ]; do
		usleep 50000
		tries=$((tries + 1))
	done
}

in_the_way() {
	load_hvmod
	[ -z "$CHILDREN" ] || start_child
	value core_spa >$mark
	sync
}

case $how in
here)
	load_hvmod
	log_mark
	for state in freeze mem disk; do
		grep -q $state /sys/power/state || continue
		refused "suspend without partitions: $state is refused" 1 "not permitted" sh -c "echo $state >/sys/power/state"
	done
	if [ -n "$CHILDREN" ]; then
		for way in inherited mapped; do
			heir=$(./inherit ${way#inherited})
			refused "rmmod is refused while a partition was $way" 1 "busy\|unavailable" rmmod hvmod
			check "hvctl info says by whom it was $way" sh -c "./hvctl info |
				grep -q 'made by inherit, which is gone, held by inherit (process $heir)'"
			kill -KILL "$heir"
			tries=0
			while ./hvctl info | grep -q inherit && [ $tries -lt 20 ]; do
				usleep 100000
				tries=$((tries + 1))
			done
		done
	fi
	start_child
	refused "rmmod is refused while a partition lives" 1 "busy\|unavailable" rmmod hvmod
	check "hvctl info says who has it" sh -c "./hvctl info | grep -q ': hvctl (process $child)'"
	for state in freeze mem disk; do
		grep -q $state /sys/power/state || { skip "suspend: $state" "this kernel has it not here"; continue; }
		refused "suspend: $state is refused" 1 "not permitted" sh -c "echo $state >/sys/power/state"
	done
	check "suspend: the kernel's log says why, and what to do" log_says "cannot suspend while hvmod is loaded: rmmod hvmod first"
	check "the child still runs" sh -c "grep -q 'State:.*[RSD] ' /proc/$child/status"
	kill -KILL $child
	wait $child
	check "rmmod, when it is gone" unload_hvmod
	if grep -q freeze /sys/power/state; then
		check "without hvmod, suspending is not refused" sh -c "echo freezer >/sys/power/pm_test && echo freeze >/sys/power/state"
	fi
	finish
	;;
reboot)
	if [ ! -f $mark ]; then
		in_the_way
		# Of the ways to restart, this one clears IA32_FEATURE_CONTROL in the emulator too: its
		# firmware expects that.
		echo pci >/sys/kernel/reboot/type
		reboot -f
		sleep 100
		bail_out "the machine did not restart"
	fi
	check "the machine restarted" true
	check "no hypervisor is beneath the new kernel" ./identity outside
	check "every LP works" every_lp_works
	check "hvmod loads again" insmod ./hvmod.ko
	check "rmmod" unload_hvmod
	;;
kexec | kexec-offline)
	if [ ! -f $mark ]; then
		check "the next kernel is loaded" ./kexec load $grub/vmlinuz $grub/initramfs "$(cat /proc/cmdline)"
		in_the_way
		if [ $how = kexec-offline ]; then
			echo 0 >/sys/devices/system/cpu/cpu1/online
			insmod ./hvattack.ko restart_cpu=1 || bail_out "hvattack.ko"
		fi
		./kexec go
		sleep 100
		bail_out "the other kernel did not start"
	fi
	check "the other kernel started" true
	check "no hypervisor is beneath it" ./identity outside
	check "every LP works" every_lp_works
	check "hvmod loads there" insmod ./hvmod.ko
	check "rmmod" unload_hvmod
	;;
crash)
	if [ ! -f $mark ]; then
		./kexec crash $grub/vmlinuz $grub/initramfs "$(cat /proc/cmdline) maxcpus=1 irqpoll reset_devices" ||
			bail_out "the crash kernel cannot be loaded"
		in_the_way
		echo c >/proc/sysrq-trigger
		sleep 100
		bail_out "Linux did not panic"
	fi
	check "the crash kernel started" true
	check "it has the memory of the one that crashed" [ -s /proc/vmcore ]
	check "it can read all of it" dd if=/proc/vmcore of=/dev/null bs=1M
	check "it works" ./work
	;;
*)
	bail_out "life.sh here|reboot|kexec|kexec-offline|crash"
	;;
esac
finish
