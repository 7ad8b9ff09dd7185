#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Attacks of a child: each thing that it may not, one by one, and then at random.
# docs/threat-model.md lists them by the names of these tests.
. ./tap.sh
. ./payload.sh

load_hvmod
log_mark
limit=200
payload escape 1 </dev/null
payload old_modes 1 </dev/null

count=8000 seeds="1 2"
if [ -n "$SOAK" ]; then
	count=20000 seeds=$(seq 1 50)
	limit=3000
fi
# Others, to be chosen from outside.
count=${COUNT:-$count} seeds=${SEEDS:-$seeds}
[ -z "$NO_FUZZ" ] || seeds=
for seed in $seeds; do
	payload fuzz 1 --cmdline "seed=$seed count=$count" </dev/null
done
echo "# $(($(echo $seeds | wc -w) * count)) random instructions"
check "fuzz: hvcore lives" ./identity inside
check "fuzz: every LP works" every_lp_works
check "fuzz: no partition is left" sh -c './hvctl info | grep -q "child partitions: none"'
log_clean "the kernel complained of nothing"
check "rmmod" unload_hvmod
finish
