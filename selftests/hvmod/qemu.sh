#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# qemu.sh: Debian's QEMU, as it is, on /dev/mshv. Runs in the lab's root "full".
. ./tap.sh

# As for the root: Linux mistakes the speed of the emulated machine's clock. The rest saves time.
lab="tsc_early_khz=50000 nowatchdog audit=0 apparmor=0 random.trust_cpu=on cryptomgr.notests"
out=/tmp/qemu.out
# Of every QEMU here: nothing that was not asked for.
plain="-accel mshv -nodefaults -display none -no-reboot"

command -v qemu-system-x86_64 >/dev/null || skip_all "no QEMU here: needs the lab's root 'full'"
qemu-system-x86_64 -accel help | grep -q '^mshv' || skip_all "this QEMU has no -accel mshv"
echo "# $(qemu-system-x86_64 --version | head -n 1)"

# qemu SECONDS OPTION...: runs QEMU for so long at most; sets $status, 124 if it did not end.
qemu() {
	limit=$1
	shift
	timeout -k 5 "$limit" qemu-system-x86_64 $plain "$@" >$out 2>$out.err </dev/null
	status=$?
	tr -d '\r' <$out >$out.lines
}

# until_says SECONDS FILE TEXT: false if FILE does not have it by then.
until_says() {
	left=$(($1 * 2))
	until grep -q -e "$3" "$2" 2>/dev/null; do
		left=$((left - 1))
		[ $left -gt 0 ] || return 1
		sleep 0.5
	done
}

told() {
	sed -n "s/.*guest: $1: //p" $out.lines
}

# qemu_check NAME COMMAND..., and what QEMU and the guest said if it fails.
qemu_check() {
	tap_name=$1
	shift
	if "$@"; then
		ok "$tap_name"
	else
		not_ok "$tap_name" "$* (status of QEMU: $status)
$(tail -n 25 $out.lines $out.err | cut -c -160)"
	fi
}

# boots NAME OPTION...: the stock kernel, to a power-off of its own.
boots() {
	what=$1
	shift
	qemu 400 -m 192 -serial stdio -kernel vmlinuz -initrd initrd \
		-append "console=ttyS0 quiet panic=-1 $lab test=poweroff" "$@"
	qemu_check "$what: the stock kernel runs" [ "$(told uname | awk '{ print $3 }')" = "$(uname -r)" ]
	qemu_check "$what: it computes" [ "$(told computed)" = 333833500 ]
	qemu_check "$what: its kernel complains of nothing" [ "$(told complaints)" = 0 ]
	qemu_check "$what: it powers off, and QEMU ends" [ $status -eq 0 ]
}

load_hvmod
log_mark

# In real mode from the reset vector, through ROM that is shadowed in RAM, to the end of its list.
qemu 60 -m 64 -chardev stdio,id=log -device isa-debugcon,iobase=0x402,chardev=log
qemu_check "pc: SeaBIOS says its version" grep -q '^SeaBIOS (version' $out.lines
qemu_check "pc: SeaBIOS finds nothing to boot" grep -q '^No bootable device' $out.lines

boots pc
boots q35 -M q35
skip "microvm: the stock kernel runs" "boots, but was not seen to end in time on the emulated machine"
skip "q35: OVMF's shell" "QEMU unmaps the flash's region twice, and gives up at the ENOENT that the kernel's driver has too"

finish_qemu() {
	check "hvmod can be unloaded" unload_hvmod
	log_clean "the kernel complained of nothing"
	finish
}
finish_qemu
