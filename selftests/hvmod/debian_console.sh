# SPDX-License-Identifier: GPL-2.0
# For tests with a Debian on a disk as the guest: its console says $out, reads descriptor 3, and
# belongs to process $pid.

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
