#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# KVM and hvmod want the same thing; who comes second is told so.
. ./tap.sh

log_mark
tap_said=$(modprobe kvm_intel 2>&1) || skip_all "kvm_intel does not load here: $tap_said"
[ -c /dev/kvm ] || skip_all "kvm_intel made no /dev/kvm"
# Since 6.12 KVM switches VMX on when it is loaded (enable_virt_at_load); a VM holds it anyway.
./kvm_vm & vm=$!
usleep 500000
log_mark
refused "KVM holds VMX: insmod gives EBUSY" 16 "Device or resource busy" insmod ./hvmod.ko
check "the kernel's log names KVM" log_says "KVM"
check "and says how to release VMX" log_says "modprobe -r kvm_intel"
if [ -x ./hvctl ]; then
	refused "hvctl check names it too" 1 "kvm_intel" ./hvctl check
fi
kill -0 $vm 2>/dev/null && ok "KVM's virtual machine lives" || not_ok "KVM's virtual machine lives"
kill $vm
wait $vm 2>/dev/null
check "modprobe -r kvm_intel" modprobe -r kvm_intel
check "then insmod works" insmod ./hvmod.ko
check "every LP is in the root partition" ./identity inside
refused "now KVM is the second and does not load" 1 "" modprobe kvm_intel
check "hvmod stays in place" ./identity inside
check "work" ./work
check "rmmod" unload_hvmod
check "and KVM loads again" modprobe kvm_intel
check "and runs a virtual machine" ./kvm_vm once
check "and goes" modprobe -r kvm_intel
log_clean "the kernel complained of nothing"
finish
