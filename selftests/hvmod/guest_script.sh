# SPDX-License-Identifier: GPL-2.0
# For tests whose guest runs a script of theirs, with some of the root's modules.

. ./guest_console.sh

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

# Seconds of its own time that a guest has, and more words for its kernel's command line.
guest_time=280
guest_words=

# run_guest OPTION...: boots it; sets $status.
run_guest() {
	HVCTL_LOG=info guest_run --initrd /tmp/initrd --memory 192 --timeout $guest_time \
		--cmdline "console=ttyS0 panic=-1 $quick quiet test=script $guest_words" "$@" </dev/null
}

# start_guest OPTION...: the same beside the test, as $pid, until it says that it waits; false if it
# does not.
start_guest() {
	: >$guest_out.raw
	HVCTL_LOG=info ./hvctl run --kernel vmlinuz --initrd /tmp/initrd --memory 192 --timeout $guest_time \
		--cmdline "console=ttyS0 panic=-1 $quick quiet test=script $guest_words" "$@" \
		</dev/null >$guest_out.raw 2>$guest_out.err & pid=$!
	guest_reaches 'guest: waits'
}

# end_guest: waits for its end; sets $status.
end_guest() {
	wait $pid 2>/dev/null
	status=$?
	tr -d '\r' <$guest_out.raw >$guest_out
}

# without PROGRAM: waits until none of that name is left; false if one stays.
without() {
	tries=0
	while pgrep "$1" >/dev/null; do
		tries=$((tries + 1))
		[ $tries -lt 100 ] || return 1
		usleep 200000
	done
}

# confined: whether all threads of hvctl, $pid, have given up what is theirs to give up. Those of the
# kernel among them run no program.
confined() {
	for task in /proc/$pid/task/*; do
		case $(cat $task/comm) in vhost-* | iou-*) continue ;; esac
		grep -E '^(Name|Cap(Inh|Prm|Eff|Amb)|NoNewPrivs|Seccomp):' $task/status >/tmp/task
		awk '/^Cap/ { bad += $2 !~ /^0+$/ } /^NoNewPrivs/ { bad += $2 != 1 } /^Seccomp/ { bad += $2 != 2 }
			END { exit NR != 7 || bad }' /tmp/task || { cat /tmp/task; return 1; }
	done
}

# of_queue DEVICE NUMBER WHAT: how many of them (doorbells, chains, interrupts) a queue had.
of_queue() {
	sed -n "s/.*INFO $1.*: queue $2:.* \([0-9]*\) $3.*/\1/p" $guest_out.err
}

# Confined as it is, hvctl asked for nothing that it may not do.
nothing_refused() {
	guest_check "nothing was refused to hvctl" sh -c "! grep -q refused $guest_out.err"
}
