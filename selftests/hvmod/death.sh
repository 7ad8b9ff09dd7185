#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# hvcore dies, in many ways and places: each time Linux goes on, on every LP, hvmod says
# what happened, takes no more work, and can be unloaded and loaded again.
. ./tap.sh

attack=/sys/kernel/debug/hvattack
kinds='panic fail hang overflow index UD PF GP DE machine-check double-fault stack-overflow NMI+UD CR4 nested other entry'
points='- launch-begin launch-tables launch-vmx launch-entry root-exit hypercall locked child-entry
	child-exit child-memory root-memory sipi death unload unexpected switch'

# number NAME LIST: the place of a name in a list.
number() {
	number_at=0
	for number_name in $2; do
		[ "$number_name" != "$1" ] || { echo $number_at; return; }
		number_at=$((number_at + 1))
	done
	bail_out "no $1 in $2"
}

# word POINT KIND LP: as hvcore's arch/inject.rs has it.
word() {
	echo $(($(number "$1" "$points") | $(number "$2" "$kinds") << 8 | ${3:-255} << 16))
}

command() {
	echo "$*" >$attack && cat $attack
}

# Linux is there, on each LP, without hvcore.
lives() {
	check "$1: no LP is in VMX operation" ./identity outside
	check "$1: every LP works" every_lp_works
}

# dies NAME WORD COMMAND...: the command has hvcore die; `child` names a payload that
# runs meanwhile, on CPU `cpu`; of `expected` the kernel may complain.
dies() {
	name=$1 what=$2
	shift 2
	chosen "$name" || { child= cpu= says= silent= expected=; return; }
	log_mark
	insmod ./hvmod-debug.ko || { not_ok "$name: insmod" "$(dmesg | tail -n 3)"; return; }
	pid=
	if [ -n "$child" ]; then
		taskset -c "${cpu:-0}" ./hvctl run --kernel "$child.elf" --memory 16 --exit-port \
			</dev/null >/tmp/child.out 2>&1 &
		pid=$!
		tries=0
		until grep -q "${says:-ing}" /tmp/child.out || [ $tries -gt 100 ]; do
			usleep 50000
			tries=$((tries + 1))
		done
	fi
	command vmcall 0x1000 "$what" >/dev/null
	"$@" >/tmp/death.out 2>&1
	if [ -n "$child" ]; then
		tries=0
		while kill -0 $pid 2>/dev/null && [ $tries -lt 100 ]; do
			usleep 50000
			tries=$((tries + 1))
		done
		check "$name: the child's RUN_VP ends" [ $tries -lt 100 ]
		kill -KILL $pid 2>/dev/null
		wait $pid
		got=$?
		check "$name: hvctl ends with status 10, and says that hvcore died" sh -c "
			[ $got = 10 ] && grep -q 'hvcore died' /tmp/child.out || { echo status $got; cat /tmp/child.out; false; }"
	fi
	if is_loaded; then
		check "$name: hvctl info tells" sh -c './hvctl info | grep -q "hvcore died"'
		check "$name: hvctl log has the reason and the rest" sh -c "
			./hvctl log | grep -q -e panicked -e 'fault: vector' &&
			./hvctl log | grep -q '${silent:-called from}'"
		refused "$name: no new partition" 10 "hvcore died" ./hvctl run --kernel exit.elf --memory 16 --exit-port --timeout 20
	fi
	lives "$name"
	if is_loaded; then
		check "$name: the kernel's log tells" log_says 'hvcore died'
		check "$name: rmmod" unload_hvmod
	else
		check "$name: the kernel's log tells" log_says 'leaves VMX operation'
	fi
	tap_said=$(log_since_mark | grep -v -E "hvmod: hvcore|${expected:-hvmod: hvcore}" | grep -E -A 12 "$complaints")
	check "$name: the kernel complains of nothing else" [ -z "$tap_said" ]
	child= cpu= says= silent= expected=
}

# fails NAME WORD ERRNO: loading fails, and Linux is as before.
fails() {
	chosen "$1" || return 0
	log_mark
	refused "$1: insmod is refused" "$3" "" insmod ./hvmod-debug.ko inject_core="$2"
	is_loaded && bail_out "hvmod is loaded"
	lives "$1"
}

# in_storm CPU COMMAND...: with one NMI after the other on that CPU.
in_storm() {
	command storm "$1" 4000 >/dev/null
	shift
	"$@"
	command calm >/tmp/storm
}

# none_lost [OTHERS]: so many NMIs of others may have come at a time of their own.
none_lost() {
	cat /tmp/storm && grep -q -E "^[1-9][0-9]* NMIs, (0|-${1:-0}) lost" /tmp/storm
}

# execs CPU: programs there, each of which exits some dozens of times.
execs() {
	taskset -c "$1" sh -c 'i=0; while [ $i -lt 40 ]; do /bin/busybox true; i=$((i + 1)); done'
}

insmod ./hvattack.ko || bail_out "hvattack.ko"
alone=
[ "$(nproc)" -gt 1 ] || alone=y
last=$(($(nproc) - 1))

# The production module cannot be told to do any of this.
if chosen hvmod.ko; then
	load_hvmod
	check "hvmod.ko: the hypercall that tells hvcore to die is an unknown one" [ "$(command vmcall 0x1000 5)" = "1 0 0" ]
	check "hvmod.ko: every LP is in the root partition" ./identity inside
	check "hvmod.ko: rmmod" unload_hvmod
	refused "hvmod.ko: nothing in it fails on demand" 1 "" grep -q -e 'injected panic' -e inject_core ./hvmod.ko
fi

before=$(free_kib)
# At launch.
for lp in 0 $last; do
	fails "launch, LP $lp, begin, panic" "$(word launch-begin panic $lp)" 5
	fails "launch, LP $lp, begin, failure" "$(word launch-begin fail $lp)" 5
	fails "launch, LP $lp, tables, #PF" "$(word launch-tables PF $lp)" 5
	fails "launch, LP $lp, tables, failure" "$(word launch-tables fail $lp)" 5
	fails "launch, LP $lp, VMX, #UD" "$(word launch-vmx UD $lp)" 5
	fails "launch, LP $lp, VMX, failure" "$(word launch-vmx fail $lp)" 5
	fails "launch, LP $lp, entry, stack overflow" "$(word launch-entry stack-overflow $lp)" 5
	fails "launch, LP $lp, entry, failure" "$(word launch-entry fail $lp)" 5
	fails "launch, LP $lp, entry, refused by the processor" "$(word launch-entry entry $lp)" 5
	[ -z "$alone" ] || break
done

# While another LP is on its way in: hvcore dies where it has come farthest, and both go on.
beside() {
	rm -f /tmp/over
	# It starts no programs, which may have to wait for the other LP.
	sh -c "taskset -p 1 \$\$ >/dev/null; until [ -e /tmp/over ]; do echo vmcall 0 >$attack; done" &
	usleep 200000
	"$@"
	touch /tmp/over
	wait $!
}
if [ -z "$alone" ]; then
	cpu1=/sys/devices/system/cpu/cpu1/online
	for point in begin tables vmx entry; do
		name="LP 0 dies while another one is launched, $point"
		chosen "$name" || continue
		word=$(word launch-$point other $last)
		beside fails "$name" "$word" 5
		check "$name: the kernel's log tells" log_says 'injected panic'

		# The same when that LP comes online: then it stays online.
		log_mark
		echo 0 >$cpu1
		insmod ./hvmod-debug.ko inject_core="$(word launch-$point other 1)"
		beside sh -c "echo 1 >$cpu1"
		check "$name, online: it is online" [ "$(cat $cpu1)" = 1 ]
		check "$name, online: hvctl info tells" sh -c './hvctl info | grep -q "hvcore died"'
		lives "$name, online"
		check "$name, online: rmmod" unload_hvmod
	done
	# An LP that comes online later: if only its launch fails it stays offline.
	name="launch of an LP that comes online"
	if chosen "$name"; then
		echo 0 >$cpu1
		insmod ./hvmod-debug.ko inject_core="$(word launch-entry fail 1)"
		log_mark
		refused "$name, failure: it stays offline" 1 "" sh -c "echo 1 >$cpu1"
		check "$name, failure: the kernel's log says so" log_says 'CPU 1 cannot join the root partition'
		check "$name, failure: hvmod can be unloaded" unload_hvmod
		check "$name, failure: then it comes online" sh -c "echo 1 >$cpu1"
		echo 0 >$cpu1
		insmod ./hvmod-debug.ko inject_core="$(word launch-vmx PF 1)"
		log_mark
		echo 1 >$cpu1
		check "$name, #PF: it is online" [ "$(cat $cpu1)" = 1 ]
		check "$name, #PF: hvctl info tells" sh -c './hvctl info | grep -q "hvcore died"'
		lives "$name, #PF"
		check "$name, #PF: the kernel's log tells" log_says 'fault: vector 14'
		check "$name, #PF: rmmod" unload_hvmod
	fi
	# An NMI while an LP has neither Linux's tables nor hvcore's would end the machine.
	come_and_leave() {
		insmod ./hvmod-debug.ko && ./identity inside && unload_hvmod
	}
	for lp in 0 $last; do
		chosen "launch in an NMI storm, LP $lp" || continue
		check "launch in an NMI storm, LP $lp: insmod, rmmod" in_storm $lp come_and_leave
		# That in which the LP is launched may be one more.
		check "launch in an NMI storm, LP $lp: none is lost" none_lost 1
	done
fi

# While the root runs.
for lp in 0 $last; do
	dies "root exit, LP $lp, panic" "$(word root-exit panic $lp)" taskset -c $lp ./identity inside
	dies "hypercall, LP $lp, #GP" "$(word hypercall GP $lp)" taskset -c $lp sh -c "echo vmcall 0 >$attack"
	[ -z "$alone" ] || break
done
dies "hypercall, locks held, overflow" "$(word locked overflow)" sh -c "echo vmcall 14 >$attack"
dies "hypercall, index out of bounds" "$(word hypercall index)" sh -c "echo vmcall 0 >$attack"
dies "hypercall, a bit that CR4 does not have" "$(word hypercall CR4)" sh -c "echo vmcall 0 >$attack"
dies "root exit, stack overflow" "$(word root-exit stack-overflow)" ./identity inside
dies "root exit, double fault" "$(word root-exit double-fault)" ./identity inside
dies "root exit, machine check" "$(word root-exit machine-check)" ./identity inside
dies "root exit, division by zero" "$(word root-exit DE)" ./identity inside
# It goes on to Linux, which knows nobody that sent it.
expected='NMI received for unknown reason|Dazed and confused'
dies "root exit, NMI, then #UD" "$(word root-exit NMI+UD)" ./identity inside
! chosen "root exit, NMI, then #UD" || check "root exit, NMI, then #UD: the NMI is not lost" log_says 'NMI received'
silent='leaves VMX operation'
dies "root exit, #UD, and again in its handler" "$(word root-exit nested)" ./identity inside
dies "unload, panic" "$(word unload panic)" rmmod hvmod

# The write is repeated natively, and hits code of VM exits: the other LP must not need it any more.
write_core() {
	taskset -c "$1" sh -c "echo write $(($(value core_spa) + 0x3000)) 1 >$attack"
}
for lp in 0 $last; do
	dies "EPT violation of the root, LP $lp, #PF" "$(word root-memory PF $lp)" write_core $lp
	[ -z "$alone" ] || break
done

if [ -z "$alone" ]; then
	# One LP dies with the locks that the other one waits for.
	contend() {
		taskset -c 1 sh -c "i=0; while [ \$i -lt 200 ]; do echo vmcall 14 >$attack; i=\$((i + 1)); done" &
		taskset -c 0 sh -c "i=0; while [ \$i -lt 200 ]; do echo vmcall 14 >$attack; i=\$((i + 1)); done"
		wait $!
	}
	dies "locks held, and another LP waits" $(($(word locked UD) | 100 << 24)) contend
	for lp in 0 $last; do
		dies "NMI storm, LP $lp, #PF" $(($(word root-exit PF $lp) | 200 << 24)) in_storm $lp execs $lp
		! chosen "NMI storm, LP $lp, #PF" || check "NMI storm, LP $lp: none is lost" none_lost
	done
	dies "SIPI of an LP that comes online, panic" "$(word sipi panic 1)" sh -c "
		echo 0 >$cpu1; echo 1 >$cpu1 || echo 1 >$cpu1"
	! chosen "SIPI of*" || check "SIPI: the LP is online" [ "$(cat $cpu1)" = 1 ]

	# The first INIT takes an LP out of a dead hvcore, the next one is heard.
	online() {
		[ "$(cat $cpu1)" = 1 ] || echo 1 >$cpu1 || echo 1 >$cpu1
	}
	# The first CPUID of an LP that starts is in real mode.
	starts() {
		echo 0 >$cpu1
		command vmcall 0x1000 "$(word root-exit panic 1)" >/dev/null
		echo 1 >$cpu1
	}
	dies "an LP in real mode, panic" 0 starts
	! chosen "an LP in real mode*" || check "an LP in real mode: it is online" [ "$(cat $cpu1)" = 1 ]
	offline_while() {
		echo 0 >$cpu1
		taskset -c 0 ./identity inside
		online
	}
	dies "an LP is offline, and comes back" "$(word root-exit panic 0)" offline_while
	come_and_go() {
		(i=0; while [ $i -lt 4 ]; do echo 0 >$cpu1; online; i=$((i + 1)); done) 2>/dev/null &
		while kill -0 $! 2>/dev/null; do
			taskset -c "$1" /bin/busybox true || /bin/busybox true
		done
		wait $!
		online
	}
	dies "an LP comes and goes, LP 0, #UD" $(($(word root-exit UD 0) | 250 << 24)) come_and_go 0
	dies "an LP comes and goes, LP 1, panic" $(($(word root-exit panic 1) | 250 << 24)) come_and_go 1

	if chosen "rmmod with an LP offline"; then
		insmod ./hvmod-debug.ko
		echo 0 >$cpu1
		command vmcall 0x1000 "$(word root-exit panic 0)" >/dev/null
		check "rmmod with an LP offline: hvcore is dead" sh -c "
			/bin/busybox true; ./hvctl info | grep -q 'hvcore died'"
		check "rmmod with an LP offline: works" unload_hvmod
		check "rmmod with an LP offline: it stays offline" [ "$(cat $cpu1)" = 0 ]
		check "rmmod with an LP offline: it comes back" online
		lives "rmmod with an LP offline"
	fi
	dies "unload of the second LP, #GP" "$(word unload GP $last)" rmmod hvmod
fi

# While a child runs.
if [ -n "$CHILDREN" ]; then
	for lp in 0 $last; do
		child=spin cpu=$lp
		dies "child entry, LP $lp, #PF" "$(word child-entry PF $lp)" sleep 1
		child=spin cpu=$lp
		dies "half of a child's state is loaded, LP $lp, #GP" "$(word switch GP $lp)" sleep 1
		child=spin cpu=$lp
		dies "half of the root's is again, LP $lp, #PF" $(($(word switch PF $lp) | 1 << 24)) sleep 1
		child=spin cpu=$lp
		dies "child exit, LP $lp, panic" "$(word child-exit panic $lp)" sleep 1
		[ -z "$alone" ] || break
	done
	if [ -z "$alone" ]; then
		for point in child-entry child-exit; do
			child=spin cpu=$last
			dies "NMI storm, $point" $(($(word $point UD $last) | 200 << 24)) in_storm $last sleep 1
			# At an exit the NMI that is its reason can be lost with hvcore.
			[ $point = child-exit ] || ! chosen "NMI storm, $point" ||
				check "NMI storm, $point: none is lost" none_lost
		done
	fi
	child=spin cpu=$last
	dies "a child runs, another LP dies" "$(word root-exit panic 0)" taskset -c 0 ./identity inside
	child=wait
	dies "a child sleeps, #GP" "$(word root-exit GP)" ./identity inside
	child=spin
	dies "EPT violation of a child, #DE" "$(word child-memory DE)" ./hvctl run --kernel nowhere.elf --memory 16
fi

# Several partitions, private memory, irqfds, threads that run VPs and others that close them.
if [ -n "$CHILDREN" ]; then
	storm() {
		timeout 100 ./ioctl_fuzz 5 4000
	}
	dies "all kinds of calls, hypercall, panic" $(($(word hypercall panic) | 250 << 24)) storm
	dies "all kinds of calls, locks held, #PF" $(($(word locked PF) | 200 << 24)) storm
	dies "all kinds of calls, child entry, #GP" $(($(word child-entry GP) | 150 << 24)) storm
	dies "all kinds of calls, child exit, #UD" $(($(word child-exit UD) | 100 << 24)) storm
	dies "all kinds of calls, EPT violation, #DE" $(($(word child-memory DE) | 30 << 24)) storm
fi

# No LP goes on in Linux before nothing is left of what only a child had.
if [ -n "$CHILDREN" ] && chosen "private memory"; then
	insmod ./hvmod-debug.ko
	check "private memory: is cleared before the root can read it" \
		taskset -c $last ./abi_private death "$(word root-exit panic $last)"
	lives "private memory"
	check "private memory: rmmod" unload_hvmod
fi

# An exit that cannot be is not hvcore's death, but that partition's alone.
if [ -n "$CHILDREN" ] && chosen "an exit that cannot be"; then
	insmod ./hvmod-debug.ko
	./hvctl run --kernel spin.elf --memory 16 </dev/null >/tmp/one 2>&1 & one=$!
	sleep 1
	command vmcall 0x1000 "$(word unexpected panic)" >/dev/null
	wait $one
	check "an exit that cannot be: the run ends with status 10" [ $? = 10 ]
	check "an exit that cannot be: hvcore's log has it" sh -c "
		./hvctl log | grep -q 'partition .* is stopped: exit'"
	check "an exit that cannot be: hvcore lives" ./identity inside
	./hvctl run --kernel exit.elf --memory 16 --exit-port --cmdline value=1 </dev/null >/dev/null 2>&1
	check "an exit that cannot be: the next child runs" [ $? = 3 ]
	check "an exit that cannot be: rmmod" unload_hvmod
fi

# And then all is well.
lost=$((before - $(free_kib)))
echo "# $lost KiB less memory is free than before"
check "memory came back" [ $lost -lt 16384 ]
log_mark
check "insmod at last" insmod ./hvmod.ko
check "every LP is in the root partition" ./identity inside
if [ -n "$CHILDREN" ]; then
	./hvctl run --kernel exit.elf --memory 16 --exit-port --cmdline value=1 </dev/null >/dev/null 2>&1
	check "a child runs" [ $? = 3 ]
fi
check "rmmod at last" unload_hvmod
log_clean "the kernel complained of nothing at last"
rmmod hvattack
finish
