#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Attacks of a child: each thing that it may not, one by one, and then at random.
# docs/threat-model.md lists them by the names of these tests.
. ./tap.sh

said=/tmp/payload.out

# payload NAME STATUS [OPTION...]: its own results are ours.
payload() {
	name=$1 wanted=$2
	shift 2
	./hvctl run --kernel "$name.elf" --memory 16 --exit-port --timeout "${limit:-200}" "$@" \
		</dev/null >$said 2>&1
	got=$?
	tr -d '\r' <$said >$said.lines
	while read -r line; do
		case $line in
		"ok "*) ok "$name: ${line#ok }" ;;
		"not ok "*) not_ok "$name: ${line#not ok }" ;;
		esac
	done <$said.lines
	if [ $got -eq "$wanted" ]; then
		ok "$name: ends with status $wanted${2:+ ($2)}"
	else
		not_ok "$name: ends with status $wanted${2:+ ($2)}" "status $got:
$(tail -n 12 $said)"
	fi
}

load_hvmod
log_mark
payload escape 1

count=8000 seeds="1 2"
if [ -n "$SOAK" ]; then
	count=20000 seeds=$(seq 1 50)
	limit=3000
fi
for seed in $seeds; do
	payload fuzz 1 --cmdline "seed=$seed count=$count"
done
echo "# $(($(echo $seeds | wc -w) * count)) random instructions"
check "fuzz: hvcore lives" ./identity inside
check "fuzz: every LP works" ./work
check "fuzz: no partition is left" sh -c './hvctl info | grep -q "child partitions: none"'
log_clean "the kernel complained of nothing"
check "rmmod" unload_hvmod
finish
