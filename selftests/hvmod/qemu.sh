#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# qemu.sh: Debian's QEMU, as it is, on /dev/mshv. Runs in the lab's root "full".
. ./tap.sh
. ./guest_console.sh

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
$(tail -n 25 $out $out.err /tmp/mon.said 2>/dev/null | tr -d '\r\033' | cut -c -160)"
	fi
}

# boots NAME OPTION...: the stock kernel, to a power-off of its own. It has the clock's speed from
# Hyper-V's frequency MSRs.
boots() {
	what=$1
	shift
	qemu 400 -m 192 -serial stdio -kernel vmlinuz -initrd initrd \
		-append "console=ttyS0 quiet panic=-1 $quick test=poweroff" "$@"
	qemu_check "$what: the stock kernel runs" [ "$(told uname | awk '{ print $3 }')" = "$(uname -r)" ]
	qemu_check "$what: it computes" [ "$(told computed)" = 333833500 ]
	qemu_check "$what: its clock is Hyper-V's" [ "$(told clocksource)" = hyperv_clocksource_tsc_page ]
	qemu_check "$what: so is its timer" [ "$(told 'Hyper-V timer')" -gt 0 ]
	qemu_check "$what: 2 seconds are 2 or 3" [ "$(told slept)" -le 3 ]
	qemu_check "$what: its kernel complains of nothing" [ "$(told complaints)" = 0 ]
	qemu_check "$what: it powers off, and QEMU ends" [ $status -eq 0 ]
}

# ask_monitor COMMAND SECONDS TEXT: false if QEMU's monitor does not say that by then.
ask_monitor() {
	: >/tmp/mon.said
	echo "$1" >&4
	until_says "$2" /tmp/mon.said "$3"
}

# keep_asking COMMAND TIMES TEXT: false if the monitor never answers that.
keep_asking() {
	left_to_ask=$2
	until ask_monitor "$1" 2 "$3"; do
		left_to_ask=$((left_to_ask - 1))
		[ $left_to_ask -gt 0 ] || return 1
	done
}

# types LINE NUMBER: the guest repeats it, as the line with that number.
types() {
	: >$out
	echo "$1" >&3
	until_says 60 $out "guest: read: $1" && until_says 10 $out "guest: line $2"
}

# begins OPTION...: QEMU in the background. Its console reads descriptor 3, and is in $out.
begins() {
	: >$out
	timeout -k 5 400 qemu-system-x86_64 $plain -serial stdio "$@" <&3 >>$out 2>$out.err & pid=$!
}

# What it ended with is in $status.
ended() {
	wait $pid
	status=$?
	tr -d '\r' <$out >$out.lines
}

# A guest with two VPs that repeats what is typed at descriptor 3; QEMU's monitor reads 4.
begins_echo() {
	rm -f /tmp/typed /tmp/mon.in /tmp/mon.out
	mkfifo /tmp/typed /tmp/mon.in /tmp/mon.out
	exec 3<>/tmp/typed 4<>/tmp/mon.in 5<>/tmp/mon.out
	cat <&5 >>/tmp/mon.said & reader=$!
	begins -m 192 -smp 2 -monitor pipe:/tmp/mon -kernel vmlinuz -initrd initrd \
		-drive if=virtio,format=qcow2,file=/tmp/snapshots.qcow2 \
		-append "console=ttyS0 quiet panic=-1 $quick test=echo" "$@"
}

quits() {
	echo quit >&4
	ended
	kill $reader
}

pauses() {
	ask_monitor stop 30 '(qemu) $' && ask_monitor "info status" 30 'paused'
}

# A guest is saved in its disk, goes on, and is put back to where it was; then saved to a file.
save_and_restore() {
	qemu-img create -q -f qcow2 /tmp/snapshots.qcow2 64M
	begins_echo
	qemu_check "snapshot: a guest with two VPs runs" until_says 300 $out 'guest: test echo'
	qemu_check "snapshot: it reads what is typed" types one 1
	qemu_check "stop: it is paused" pauses
	ask_monitor cont 30 '(qemu) $'
	qemu_check "cont: it goes on" types two 2
	qemu_check "savevm: QEMU saves it" ask_monitor "savevm here" 120 '(qemu) $'
	qemu_check "savevm: in the qcow2 disk" ask_monitor "info snapshots" 30 ' here '
	qemu_check "savevm: the guest goes on" types three 3
	qemu_check "savevm: its timers too" types sleep 4
	qemu_check "loadvm: QEMU restores it" ask_monitor "loadvm here" 120 '(qemu) $'
	qemu_check "loadvm: the guest is back where it was, and reads" types four 3
	qemu_check "loadvm: its timers run" types sleep 4
	rm -f /tmp/saved
	echo "migrate file:/tmp/saved" >&4
	qemu_check "migration: a guest is saved to a file" keep_asking "info migrate" 60 'completed'
	quits
	begins_echo -incoming file:/tmp/saved
	qemu_check "-incoming: another QEMU takes the file" keep_asking "info status" 60 'VM status: running'
	quits
	rm -f /tmp/saved /tmp/snapshots.qcow2
	skip "-incoming: the guest goes on" "QEMU 11.1 saves no local APIC: the guest of another QEMU gets no interrupts"
}

# From memory: with its variables in flash, QEMU 11.1 unmaps the flash's region twice, and gives up
# at the ENOENT that the kernel's driver has for that too.
ovmf() {
	exec 3</dev/null
	begins -m 256 -bios /usr/share/ovmf/OVMF.fd
	qemu_check "OVMF: its shell" until_says 300 $out 'Shell>'
	kill $pid
	ended
	skip "OVMF: with its variables in flash" "QEMU unmaps the flash's region twice, and gives up at the ENOENT that the kernel's driver has too"
}

# sector FILE CODE: a disk whose boot sector is that code, in printf's octal.
sector() {
	truncate -s 1M "$1"
	printf "$2" | dd of="$1" conv=notrunc 2>/dev/null
	printf '\125\252' | dd of="$1" bs=1 seek=510 conv=notrunc 2>/dev/null
}

# Writes 42 to the port of isa-debug-exit: QEMU ends with twice that, and 1.
make_sectors() {
	sector /tmp/boots.img '\272\001\005\260\052\356\364\353\375' # mov dx, 0x501; mov al, 42; out dx, al; hlt
	sector /tmp/keyboard.img '\260\376\346\144\364\353\375' # mov al, 0xfe; out 0x64, al; hlt
	sector /tmp/cf9.img '\272\371\014\260\006\356\364\353\375' # mov dx, 0xcf9; mov al, 6; out dx, al; hlt
	sector /tmp/spins.img '\353\376' # jmp .
}

# from_sector NAME OPTION...: SeaBIOS reads the sector from the disk d, and runs it.
from_sector() {
	what=$1
	shift
	qemu 60 -device isa-debug-exit,iobase=0x501,iosize=2 \
		-drive if=none,id=d,file=/tmp/boots.img,format=raw "$@"
	qemu_check "$what: a disk's boot sector runs" [ $status -eq 85 ]
}

# What nobody asks QEMU for in the tests above: other processors, disks and memory.
other_machines() {
	from_sector "q35, AHCI, 4 VPs, memory above 4 GiB" -M q35,max-ram-below-4g=64M -m 128 -smp 4 \
		-cpu Skylake-Client -device ide-hd,drive=d
	from_sector "NVMe, shared memory, -cpu max" -m 64 -cpu max -device nvme,drive=d,serial=1 \
		-object memory-backend-memfd,id=m,size=64M,share=on,prealloc=on -machine memory-backend=m
	echo 40 >/proc/sys/vm/nr_hugepages
	from_sector "virtio-scsi, huge pages, no local APIC" -m 64 -cpu host,-apic -device virtio-scsi-pci \
		-device scsi-hd,drive=d -object memory-backend-memfd,id=m,size=64M,hugetlb=on,hugetlbsize=2M \
		-machine memory-backend=m
	echo 0 >/proc/sys/vm/nr_hugepages
	for way in keyboard cf9; do
		qemu 60 -m 64 -drive file=/tmp/$way.img,format=raw
		qemu_check "-no-reboot: QEMU ends with a reset by $way" [ $status -eq 0 ]
	done
}

# QEMU is killed while it sets up, while firmware runs, and while a guest does.
killed() {
	for ms in 200 600 1500 5000; do
		qemu-system-x86_64 $plain -m 64 -smp 2 -drive file=/tmp/spins.img,format=raw \
			>/dev/null 2>&1 </dev/null & pid=$!
		usleep ${ms}000
		kill -9 $pid
		wait $pid 2>/dev/null
		check "killed after $ms ms: nothing is left" nothing_left
	done
}

# The partition goes with QEMU's last thread, a moment after its end.
nothing_left() {
	tries=0
	until ./hvctl info | grep -q '^child partitions: none'; do
		tries=$((tries + 1))
		[ $tries -lt 50 ] || { ./hvctl info; return 1; }
		usleep 100000
	done
}

load_hvmod
log_mark
make_sectors

# In real mode from the reset vector, through ROM that is shadowed in RAM, to the end of its list.
qemu 60 -m 64 -chardev stdio,id=log -device isa-debugcon,iobase=0x402,chardev=log
qemu_check "pc: SeaBIOS says its version" grep -q '^SeaBIOS (version' $out.lines
qemu_check "pc: SeaBIOS finds nothing to boot" grep -q '^No bootable device' $out.lines

other_machines
killed
boots pc
boots q35 -M q35 -smp 2
save_and_restore
# Linux reads its sleep register without a pause until QEMU ends: the signal that tells a VP's thread
# to stop comes while QEMU answers that.
boots microvm -M microvm
ovmf

finish_qemu() {
	check "hvmod can be unloaded" unload_hvmod
	log_clean "the kernel complained of nothing"
	finish
}
finish_qemu
