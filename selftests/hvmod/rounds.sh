#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Partitions made, run and destroyed, again and again, and hvctl killed at random moments:
# nothing is left in Linux, in hvmod or in hvcore.
. ./tap.sh
. ./payload.sh

rounds=12 kills=10
[ -z "$SOAK" ] || { rounds=500 kills=300; }


# A number below the one given.
random() {
	echo $(($(od -An -N4 -tu4 /dev/urandom) % $1))
}

load_hvmod
log_mark
warm=0
while [ $warm -lt 3 ]; do
	run_once >/dev/null 2>&1
	warm=$((warm + 1))
done
check "before: nothing is held" nothing_held
before=$(free_kib)
core=$(value core_bytes)
number=0
while [ $number -lt $rounds ]; do
	run_once >/tmp/out 2>&1 || { not_ok "round $number" "$(cat /tmp/out)"; break; }
	number=$((number + 1))
done
[ $number -lt $rounds ] || ok "$rounds rounds of create, run, destroy"
check "rounds: nothing is held" nothing_held

number=0
while [ $number -lt $kills ]; do
	./hvctl run --kernel spin.elf --memory 64 </dev/null >/dev/null 2>&1 &
	usleep $(random 400000)
	kill -KILL $!
	wait $! 2>/dev/null
	number=$((number + 1))
done
ok "hvctl killed at $kills random moments"
check "kills: nothing is held" nothing_held
check "the next run works" run_once
check "hvcore has no more memory than before" sh -c "[ $(value core_bytes) -le $((core + 1048576)) ]"
after=$(free_kib)
lost=$((before - after))
echo "# $lost KiB less memory is free than before"
check "memory came back" [ $lost -lt 16384 ]
check "every LP works" every_lp_works
check "rmmod" unload_hvmod
log_clean "the kernel complained of nothing"
finish
