# SPDX-License-Identifier: GPL-2.0
# For tests in shell: results as TAP, and what the kernel has to complain about.

tap_number=0
tap_failed=0
# LPs that there are, all of which must be there in the end.
tap_lps=${CPUS:-$(nproc)}

ok() {
	tap_number=$((tap_number + 1))
	echo "ok $tap_number - $1"
}

# not_ok NAME [WHY]
not_ok() {
	tap_number=$((tap_number + 1))
	tap_failed=$((tap_failed + 1))
	echo "not ok $tap_number - $1"
	[ -z "$2" ] || echo "$2" | sed 's/^/# /'
}

skip() {
	tap_number=$((tap_number + 1))
	echo "ok $tap_number - $1 # SKIP $2"
}

# check NAME COMMAND...: it must succeed; what it says is told if it does not.
check() {
	tap_name=$1
	shift
	if tap_said=$("$@" 2>&1); then
		ok "$tap_name"
	else
		not_ok "$tap_name" "status $?: $*
$tap_said"
	fi
}

# refused NAME STATUS TEXT COMMAND...: the exit status, and a text that it says.
# (That of the busybox insmod is the errno.)
refused() {
	tap_name=$1 tap_status=$2 tap_text=$3
	shift 3
	tap_said=$("$@" 2>&1 </dev/null)
	tap_got=$?
	if [ $tap_got -eq "$tap_status" ] && echo "$tap_said" | grep -q -e "$tap_text"; then
		ok "$tap_name"
	else
		not_ok "$tap_name" "wanted status $tap_status and '$tap_text', got status $tap_got:
$(echo "$tap_said" | tail -n 12)"
	fi
}

# chosen NAME: whether this part is to be run: ONLY, if it is set, is a pattern of `case`.
chosen() {
	case $1 in ${ONLY:-*}) ;; *) return 1 ;; esac
}

# The plan comes last; ends the program.
finish() {
	echo "1..$tap_number"
	[ $tap_failed -eq 0 ]
	exit
}

# With the status that kselftest has for it.
skip_all() {
	echo "1..0 # SKIP $1"
	exit 4
}

bail_out() {
	echo "Bail out! $1"
	exit 1
}

# From here on the kernel's log counts.
log_mark() {
	tap_mark="hvmod-test: mark $$ $tap_number"
	echo "$tap_mark" >/dev/kmsg
}

log_since_mark() {
	dmesg | awk -v mark="$tap_mark" 'found { print } index($0, mark) { found = 1 }'
}

log_says() {
	log_since_mark | grep -q -e "$1"
}

complaints='WARNING:|NMI handler .*hvmod|BUG:|Oops|Call Trace|[Ll]ockup|unchecked MSR|stalled|stall on CPU|general protection|hung task|Internal error|page allocation failure|refcount_t|list_(add|del) corruption|bad page|possible (circular|recursive) locking|suspicious RCU|inconsistent lock|invalid wait context|Uhhuh|Dazed|Out of memory|hvcore died|hvmod: .*(lost|did not leave|could not leave|does not come back|cannot join)'

# log_clean NAME: the kernel complained of nothing since the mark.
log_clean() {
	if tap_said=$(log_since_mark | grep -E -A 12 "$complaints"); then
		not_ok "$1" "$(echo "$tap_said" | head -n 40)"
	else
		ok "$1"
	fi
}

# Loads hvmod, or ends the program: nothing else could be tested.
load_hvmod() {
	tap_said=$(insmod ./hvmod.ko 2>&1) || bail_out "insmod: $tap_said; $(dmesg | grep hvmod | tail -n 2)"
}

# A file is gone when its last user is, which can be a moment after a program's end. Then no LP is
# in VMX operation.
unload_hvmod() {
	tap_tries=0
	until tap_said=$(rmmod hvmod 2>&1); do
		tap_tries=$((tap_tries + 1))
		[ $tap_tries -lt 50 ] || { echo "$tap_said"; return 1; }
		usleep 100000
	done
	./identity outside
}

# Each number of that name in hvctl info.
values() {
	./hvctl info --json | tr ',{}' '\n' | sed -n "s/^ *\"$1\": *\\([0-9]*\\).*/\\1/p"
}

# The first of them.
value() {
	values "$1" | head -n 1
}

is_loaded() {
	grep -q '^hvmod ' /proc/modules
}

# None was lost, and each does all kinds of work.
every_lp_works() {
	[ "$(nproc)" = "$tap_lps" ] || { echo "$(nproc) of $tap_lps LPs are online"; return 1; }
	./work
}

# KiB that Linux could give, with what it keeps for later given back, and with the pages that
# each CPU has at hand, which MemFree leaves out.
free_kib() {
	sync
	echo 3 >/proc/sys/vm/drop_caches
	awk '/^MemFree/ { free = $2 } $1 == "count:" { free += 4 * $2 } END { print free }' \
		/proc/meminfo /proc/zoneinfo
}

# A test for machines without VMX says so before it reads this file.
[ -n "$without_vmx" ] || grep -q '^flags.*\bvmx\b' /proc/cpuinfo || skip_all "this machine has no VMX"
