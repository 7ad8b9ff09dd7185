#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# A stock Debian 13 with systemd boots from its disk: its own kernel, its own initrd. A file
# that it wrote and synced is there after the run was killed.
. ./tap.sh

place=../guest
[ -f $place/guest.img ] || skip_all "there is no disk of a Debian guest"
out=/tmp/debian.out
# As for the root: Linux mistakes the speed of the emulated machine's clock. The rest saves time.
lab="tsc_early_khz=50000 nowatchdog audit=0 apparmor=0 random.trust_cpu=on quiet"

# until_says PATTERN SECONDS
until_says() {
	tries=0
	until grep -q "$1" $out; do
		tries=$((tries + 1))
		if [ $tries -ge $(($2 * 2)) ] || ! kill -0 $pid 2>/dev/null; then
			echo "# '$1' did not come; the end of what came:"
			tail -n 30 $out | tr -d '\r' | cut -c -160 | sed 's/^/# /'
			tail -n 5 $out.err | sed 's/^/# /'
			return 1
		fi
		usleep 500000
	done
}

boot() {
	rm -f /tmp/typed $out
	mkfifo /tmp/typed
	: >$out
	HVCTL_LOG=info ./hvctl run --name debian --kernel $place/vmlinuz --initrd $place/initrd.img \
		--memory 512 --disk path=$place/guest.img,serial=ROOT \
		--cmdline "console=ttyS0 root=/dev/vda rw $lab" </tmp/typed >$out 2>$out.err & pid=$!
	exec 3>/tmp/typed
	until_says 'login:' 900
}

# ask MARK COMMAND: what it answers. The shell's echo of the command does not have the mark.
ask() {
	echo "echo \"@\"\"$1: \$($2)\"" >&3
	until_says "@$1: " 600 >&2 && sed -n "s/.*@$1: //p" $out | tr -d '\r' | tail -n 1
}

log_in() {
	echo root >&3
	until_says 'root@guest' 300
}

# step NAME COMMAND...: as check, but here: what it starts and opens is for the next ones.
step() {
	tap_name=$1
	shift
	if "$@"; then ok "$tap_name"; else not_ok "$tap_name" "$*"; fi
}

load_hvmod
log_mark
step "a stock Debian 13 boots to its login prompt" boot
echo "# after $(cut -d ' ' -f 1 /proc/uptime) s of the root's time since it was up"
step "root logs in" log_in
state=$(ask state "systemctl is-system-running --wait")
check "systemctl is-system-running: $state" [ "$state" = running ]
echo "# kernel $(ask kernel 'uname -r'), root on $(ask root 'findmnt -no SOURCE /')"
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
