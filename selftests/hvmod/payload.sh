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
