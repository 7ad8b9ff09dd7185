#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# What hvctl run refuses, with which status and sentence; a refusal leaves nothing behind.
. ./tap.sh

run() {
	./hvctl run "$@"
}

load_hvmod
log_mark
printf '\177ELF\001\001\001' >/tmp/short.elf
head -c 300000 vmlinuz >/tmp/cut
head -c 4096 /dev/urandom >/tmp/noise
dd if=/dev/zero of=/tmp/large bs=1M count=70 2>/dev/null
: >/tmp/empty
{ head -c 510 /dev/zero; printf '\125\252'; } >/tmp/bootsector
truncate -s 64G /tmp/sparse
mkfifo /tmp/fifo
# Of what is available Linux keeps some.
available=$(($(sed -n 's/^MemAvailable: *\([0-9]*\) kB/\1/p' /proc/meminfo) / 1024))

refused "a kernel that is not there" 2 "cannot read the kernel /nowhere" run --kernel /nowhere
refused "a kernel that is a directory" 2 "cannot read the kernel /tmp" run --kernel /tmp
refused "a kernel that is not one" 2 "is not a kernel: neither" run --kernel tap.sh
refused "a kernel of noise" 2 "is not a kernel: neither" run --kernel /tmp/noise
refused "an empty kernel" 2 "is not a kernel: neither" run --kernel /tmp/empty
refused "a boot sector" 2 "is not a kernel: neither" run --kernel /tmp/bootsector
refused "an initrd for a kernel" 2 "is not a kernel: neither" run --kernel initrd
refused "a device for a kernel" 2 "not a regular file" run --kernel /dev/zero
refused "a FIFO for a kernel" 2 "not a regular file" run --kernel /tmp/fifo
refused "a kernel with nothing for a name" 2 "--kernel" run --kernel ''
refused "an ELF without a Multiboot header" 2 "/tmp/short.elf" run --kernel /tmp/short.elf
refused "a 64-bit program" 2 "hvctl" run --kernel hvctl
refused "a bzImage that was cut" 2 "damaged" run --kernel /tmp/cut
refused "an initrd that is not there" 2 "cannot read the initrd /nowhere" run --kernel vmlinuz --initrd /nowhere
refused "an initrd that is a directory" 2 "the initrd /tmp is not a file" run --kernel vmlinuz --initrd /tmp
refused "a device for an initrd" 2 "is not a file" run --kernel vmlinuz --initrd /dev/zero
refused "a FIFO for an initrd" 2 "is not a file" run --kernel vmlinuz --initrd /tmp/fifo
refused "an initrd larger than any machine" 2 "does not fit" run --kernel vmlinuz --initrd /tmp/sparse
refused "a module larger than any machine" 2 "does not fit" run --kernel exit.elf --initrd /tmp/sparse
refused "an initrd that does not fit" 2 "does not fit" run --kernel vmlinuz --initrd /tmp/large --memory 80
refused "a kernel that does not fit" 2 "give it more with --memory" run --kernel vmlinuz --memory 8
refused "no memory" 2 "a guest needs memory" run --kernel vmlinuz --memory 0
refused "memory of a broken size" 2 "are not whole MiB" run --kernel vmlinuz --memory 4097k
refused "memory that is no number" 2 "512M" run --kernel vmlinuz --memory plenty
refused "more memory than the machine has" 2 "more than this machine can give" run --kernel vmlinuz --memory 64G
refused "far more memory" 2 "--memory" run --kernel vmlinuz --memory 99999999999G
for size in 16E 1e99 99999999999999999999 -1 -1M 0x10 1Q '' ' ' 512M512M 1.5; do
	refused "memory of '$size'" 2 "--memory" run --kernel vmlinuz --memory "$size"
done
refused "memory of 1" 2 "give it more with --memory" run --kernel vmlinuz --memory 1
refused "memory that is not whole pages" 2 "are not whole MiB" run --kernel vmlinuz --memory 100001K
refused "the last of the memory" 2 "Linux keeps" run --kernel exit.elf --memory $((available - 20))
# Whether there is that much in one's hands now Linux alone knows; if not it is refused like this.
check "almost all of the memory is given, or refused" sh -c "
	./hvctl run --kernel exit.elf --memory $((available - 140)) --exit-port --cmdline 3 --timeout 60 </dev/null
	status=\$?; [ \$status = 7 ] || [ \$status = 2 ]"
for number in 0 -1 65 1000000000000 two; do
	refused "'$number' processors" 2 "--cpus" run --kernel vmlinuz --cpus "$number"
done
refused "a command line too long" 2 "shorten --cmdline" run --kernel vmlinuz --cmdline "$(head -c 5000 /dev/zero | tr '\0' x)"
refused "an unknown option" 2 "--frobnicate" run --kernel vmlinuz --frobnicate
refused "no kernel" 2 "--kernel" run
refused "a console that is none" 2 "stdio, pty, file:PATH or null" run --kernel vmlinuz --console printer
for console in '' file: file tcp:1 STDIO; do
	refused "a console '$console'" 2 "stdio, pty, file:PATH or null" run --kernel vmlinuz --console "$console"
done
for key in x ^1 '' ^^^; do
	refused "an escape key '$key'" 2 "or none" run --kernel vmlinuz --escape "$key"
done
for limit in 0 -1 soon nan; do
	refused "a time limit of '$limit'" 2 "--timeout" run --kernel vmlinuz --timeout "$limit"
done
refused "one word too many" 2 "surplus" run --kernel vmlinuz surplus
refused "a console that is a directory" 2 "/tmp" run --kernel exit.elf --console file:/tmp
refused "a console that cannot be written" 2 "/nowhere/x" run --kernel exit.elf --console file:/nowhere/x
check "no partition is left" sh -c '! ./hvctl info | grep -q "^partition"'
check "and a guest runs" sh -c './hvctl run --kernel exit.elf --memory 16 --exit-port --cmdline 3 --timeout 60 </dev/null; [ $? = 7 ]'
log_clean "the kernel complained of nothing"
check "rmmod" unload_hvmod
refused "then hvctl run says that hvmod is not loaded" 2 "hvmod is not loaded" run --kernel vmlinuz
finish
