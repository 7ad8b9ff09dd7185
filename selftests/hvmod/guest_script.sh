# SPDX-License-Identifier: GPL-2.0
# For tests whose guest runs a script of theirs, with some of the root's modules.

# As for the root: Linux mistakes the speed of the emulated machine's clock. The rest saves time.
lab="tsc_early_khz=50000 nowatchdog audit=0 apparmor=0 random.trust_cpu=on cryptomgr.notests quiet"
guest_out=/tmp/guest.out

# make_initrd SCRIPT MODULE... -- FILE...: /tmp/initrd, which begins with the modules and runs
# the script.
make_initrd() {
	rm -rf /tmp/initrd.root
	mkdir -p /tmp/initrd.root
	cp "$1" /tmp/initrd.root/script
	shift
	begin=
	while [ $# -gt 0 ] && [ "$1" != -- ]; do
		for module in $(modprobe -D "$1" 2>/dev/null | sed -n 's/^insmod \([^ ]*\).*/\1/p'); do
			mkdir -p "/tmp/initrd.root/${module%/*}"
			cp "$module" "/tmp/initrd.root/$module"
			begin="$begin $module"
		done
		shift
	done
	[ $# -eq 0 ] || shift
	[ $# -eq 0 ] || cp "$@" /tmp/initrd.root/
	{ for module in $begin; do echo "insmod $module 2>/dev/null"; done; cat /tmp/initrd.root/script; } \
		>/tmp/initrd.root/script.new
	mv /tmp/initrd.root/script.new /tmp/initrd.root/script
	(cd /tmp/initrd.root && find . | cpio -o -H newc 2>/dev/null) | cat - initrd >/tmp/initrd
}

# run_guest OPTION...: boots it; sets $status. What it said is in $guest_out.
run_guest() {
	HVCTL_LOG=info ./hvctl run --kernel vmlinuz --initrd /tmp/initrd --memory 192 --timeout 280 \
		--cmdline "console=ttyS0 panic=-1 $lab test=script" "$@" </dev/null >$guest_out.raw 2>$guest_out.err
	status=$?
	tr -d '\r' <$guest_out.raw >$guest_out
}

# What it said of one thing.
says() {
	sed -n "s/.*guest: $1: //p" $guest_out
}

# guest_check NAME COMMAND...: and what the guest said if it fails.
guest_check() {
	tap_name=$1
	shift
	if "$@"; then
		ok "$tap_name"
	else
		not_ok "$tap_name" "$* (status of the guest: $status)
$(tail -n 40 $guest_out | cut -c -160)
$(tail -n 12 $guest_out.err | cut -c -160)"
	fi
}
