# SPDX-License-Identifier: GPL-2.0
# For tests with a Linux guest: words for its kernel's command line, and what it said on its console,
# which is in $guest_out.

# What saves time.
quick="nowatchdog audit=0 apparmor=0 random.trust_cpu=on cryptomgr.notests"
# For a guest that has no frequency MSRs of Hyper-V: the speed of its clock as the root was told it, if
# it was. Linux mistakes that of an emulated machine.
clock_speed=$(grep -o 'tsc_early_khz=[0-9]*' /proc/cmdline)
guest_out=/tmp/guest.out

# guest_run OPTION...: runs the stock kernel; sets $status.
guest_run() {
	./hvctl run --kernel vmlinuz "$@" >$guest_out.raw 2>$guest_out.err
	status=$?
	tr -d '\r' <$guest_out.raw >$guest_out
}

# What it said of one thing.
says() {
	sed -n "s/.*guest: $1: //p" $guest_out
}

# guest_check NAME COMMAND...: and what was said if it fails.
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

# guest_reaches TEXT: waits until the guest in the background, $pid, says it; false if it ends before.
guest_reaches() {
	until grep -q "$1" $guest_out.raw; do
		kill -0 $pid 2>/dev/null || return 1
		usleep 200000
	done
}
