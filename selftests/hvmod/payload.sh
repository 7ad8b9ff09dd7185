#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# For tests that run payloads, to be sourced after tap.sh.

said=/tmp/payload.out

# payload NAME STATUS [OPTION...]: runs NAME.elf in a partition; its own results are ours; standard
# input is its line. It may take `limit` seconds.
payload() {
	name=$1 wanted=$2
	shift 2
	./hvctl run --kernel "$name.elf" --memory 16 --exit-port --timeout "${limit:-100}" "$@" >$said 2>&1
	got=$?
	tr -d '\r' <$said >$said.lines
	while read -r line; do
		case $line in
		"ok "*) ok "$name: ${line#ok }" ;;
		"not ok "*) not_ok "$name: ${line#not ok }" ;;
		esac
	done <$said.lines
	if [ $got -eq "$wanted" ]; then
		ok "$name: ends with status $wanted"
	else
		not_ok "$name: ends with status $wanted" "status $got${*:+ ($*)}:
$(tail -n 12 $said)"
	fi
}

# A partition that is made, runs, and ends as it should.
run_once() {
	./hvctl run --kernel exit.elf --memory 64 --exit-port --cmdline value=1 --timeout 100 </dev/null
	[ $? -eq 3 ]
}

# No partition is left, nor memory of one; the last file of a process can be closed a moment after
# its end.
nothing_held() {
	tries=0
	until ./hvctl info | grep -q 'child partitions: none' &&
		[ "$(value deposited_bytes) $(value shared_bytes) $(value private_bytes)" = "0 0 0" ]; do
		tries=$((tries + 1))
		[ $tries -lt 20 ] || { ./hvctl info | head -n 12; return 1; }
		usleep 100000
	done
}
