#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# A stock Debian 13 with systemd boots from its disk: its own kernel, its own initrd. A file
# that it wrote and synced is there after the run was killed.
. ./tap.sh
. ./guest_console.sh
. ./debian_console.sh

place=../guest
[ -f $place/guest.img ] || skip_all "there is no disk of a Debian guest"
out=/tmp/debian.out

boot() {
	rm -f /tmp/typed $out
	mkfifo /tmp/typed
	: >$out
	HVCTL_LOG=info ./hvctl run --name debian --kernel $place/vmlinuz --initrd $place/initrd.img \
		--memory 512 --disk path=$place/guest.img,serial=ROOT \
		--cmdline "console=ttyS0 root=/dev/vda rw $quick quiet" </tmp/typed >$out 2>$out.err & pid=$!
	exec 3>/tmp/typed
	until_says 'login:' 900
}

load_hvmod
log_mark
step "a stock Debian 13 boots to its login prompt" boot
echo "# after $(cut -d ' ' -f 1 /proc/uptime) s of the root's time since it was up"
step "root logs in" log_in
state=$(ask state "systemctl is-system-running --wait")
check "systemctl is-system-running: $state" [ "$state" = running ]
echo "# kernel $(ask kernel 'uname -r'), root on $(ask root 'findmnt -no SOURCE /')"
clock=$(ask clock "cat /sys/devices/system/clocksource/clocksource0/current_clocksource")
check "it finds a hypervisor's clock: $clock" [ "$clock" = hyperv_clocksource_tsc_page ]
traces=$(ask traces "dmesg | grep -c -E 'Call Trace|unchecked MSR'")
check "its kernel complains of nothing" [ "$traces" = 0 ]
written=$(ask written "echo precious >/root/file; sync; echo yes")
check "it writes and syncs a file" [ "$written" = yes ]
kill -KILL $pid
wait $pid 2>/dev/null
exec 3>&-

step "after kill -9 it boots again" boot
step "root logs in again" log_in
check "the file is there" [ "$(ask file 'cat /root/file')" = precious ]
state=$(ask state "systemctl is-system-running --wait")
check "systemctl is-system-running: $state" [ "$state" = running ]
./hvctl info | sed -n '/its exits/,/^[^ ]/p' | head -n 9 | sed 's/^/# /'
check "hvctl stop: it shuts down as after its power button" ./hvctl stop debian --timeout 600
wait $pid
check "and powers off" [ $? -eq 0 ]
check "nothing was refused to hvctl" sh -c "! grep refused $out.err"
grep queue $out.err | sed 's/^/# /'

log_clean "the root's kernel complained of nothing"
check "rmmod" unload_hvmod
finish
