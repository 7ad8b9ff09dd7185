#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# CPUs go offline and online beneath hvmod, and hvmod leaves afterwards.
. ./tap.sh
. ./payload.sh

[ "$(nproc)" -gt 1 ] || skip_all "it takes two CPUs"
cpu1=/sys/devices/system/cpu/cpu1/online
rounds=3
[ -z "$SOAK" ] || rounds=100

log_mark
load_hvmod
round=1
while [ $round -le $rounds ]; do
	check "round $round: CPU 1 goes offline" sh -c "echo 0 >$cpu1 && [ \$(cat $cpu1) = 0 ]"
	check "round $round: the other one works" ./work
	check "round $round: and runs a partition" ./abi_ports
	check "round $round: CPU 1 comes back" sh -c "echo 1 >$cpu1 && [ \$(cat $cpu1) = 1 ]"
	check "round $round: every LP is in the root partition" ./identity inside
	round=$((round + 1))
done
check "work on every LP" ./work

# From here on CPU 1 comes and goes all the time: while partitions do, and with a driver for whose
# sake hvmod hears late of it, and while hvmod does.
toggle() {
	until [ -e /tmp/end ]; do
		echo 0 >$cpu1
		echo 1 >$cpu1
	done
}

come_and_go() {
	times=0
	while [ $times -lt 10 ]; do
		insmod ./hvmod.ko && rmmod hvmod || return
		times=$((times + 1))
	done
}

rm -f /tmp/end
toggle &
check "a driver that takes its time" insmod ./hvattack.ko slow_ms=300
if [ -n "$CHILDREN" ]; then
	check "partitions come and go meanwhile" ./churn 3
	check "nothing is held" nothing_held
fi
rmmod hvattack
check "rmmod meanwhile" rmmod hvmod
check "hvmod comes and goes meanwhile" come_and_go
touch /tmp/end
wait
check "every LP is outside" ./identity outside

# An LP that is offline while hvmod goes, and may not come online, as if SMT had been switched off.
load_hvmod
check "CPU 1 goes offline" sh -c "echo 0 >$cpu1"
insmod ./hvattack.ko refuse=1
check "rmmod with CPU 1 offline" unload_hvmod
check "CPU 1 is offline as before" [ "$(cat $cpu1)" = 0 ]
rmmod hvattack
check "CPU 1 comes back" sh -c "echo 1 >$cpu1"
check "every LP is outside after that" ./identity outside

# An LP that is offline while hvmod comes.
check "CPU 1 goes offline once more" sh -c "echo 0 >$cpu1"
load_hvmod
check "CPU 1 comes online beneath hvmod" sh -c "echo 1 >$cpu1 && [ \$(cat $cpu1) = 1 ]"
check "and has joined the root partition" ./identity inside
check "work on both" ./work
check "rmmod at last" unload_hvmod
check "every LP is outside at last" ./identity outside
log_clean "the kernel complained of nothing"
finish
