#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Attacks of the root on hvcore: from ring 0 by a kernel module (attack/), by the files that
# show memory, and from ring 3. docs/threat-model.md lists them by the names of these tests.
. ./tap.sh

attack=/sys/kernel/debug/hvattack

command() {
	echo "$*" >$attack && cat $attack
}

# is NAME WANTED COMMAND: what a command of the attacker comes to.
is() {
	is_got=$(command "$3")
	if [ "$is_got" = "$2" ]; then
		ok "$1"
	else
		not_ok "$1" "$3: wanted '$2', got '$is_got'"
	fi
}

# Of all LPs.
sum() {
	values "$1" | { total=0; while read -r one; do total=$((total + one)); done; echo $total; }
}

insmod ./hvattack.ko || bail_out "hvattack.ko"
is "without hvmod, a hypercall is an undefined instruction" "trap 6" "vmcall 0"
load_hvmod
log_mark
core=$(value core_spa)
size=$(value core_size)
check "hvctl info says where hvcore is" [ "$size" -gt 1000000 ]

# Reading: zeros, and the machine lives.
reads=$(sum hidden_reads)
is "hidden: a read through Linux's map gives zero" "0x0" "read $core"
check "hidden: that is counted" [ "$(sum hidden_reads)" -gt "$reads" ]
reads=$(sum hidden_reads)
is "hidden: and the next one" "0x0" "read $core"
check "hidden: is counted too" [ "$(sum hidden_reads)" -gt "$reads" ]
is "hidden: a read through another mapping gives zero" "0x0" "vread $((core + 0x5000))"
# All of hvcore but what it shows on purpose: counters of LPs and 16 pages of log.
said=$(command "scan $core $size")
shown=${said%% *}
check "hidden: all of hvcore reads as zeros, but its log and counters" sh -c "
	echo '$said'; echo '$said' | grep -q ' 0 faults' && [ $shown -le $((16 + $(nproc))) ] && [ $shown -ge 2 ]"
check "hidden: each page of it was counted" [ "$(sum hidden_reads)" -ge $((reads + size / 4096 - 16 - $(nproc))) ]
said=$(command ram)
check "hidden: a scanner of all memory lives" sh -c "echo '$said' | grep -q '^[1-9][0-9]* pages, 0 faults'"
va=$(command "va $core")
check "hidden: /proc/kcore gives zeros" sh -c "[ \"\$(./kcore $va 4096)\" = 'zeros' ]"
check "hidden: /proc/kcore shows other memory" sh -c "./kcore kernel 4096 | grep -q other"
if dd if=/dev/mem of=/tmp/mem bs=4096 skip=$((core / 4096)) count=1 2>/dev/null; then
	check "hidden: /dev/mem gives zeros" sh -c "[ \"\$(tr -d '\\000' </tmp/mem | wc -c)\" = 0 ]"
else
	check "hidden: /dev/mem is refused" true
fi

# Writing: refused, counted, logged with the culprit's place.
is "hidden: hvcore's last page cannot be written" "fault" "write $((core + size - 4096)) 1"
for way in write vwrite; do
	writes=$(sum denied)
	is "hidden: $way is a fault that the writer survives" "fault" "$way $((core + 0x3000)) 0x4141414141414141"
	check "hidden: $way is counted" [ "$(sum denied)" -gt "$writes" ]
done
# By other instructions and other mappings, and by the processor itself. The page is in hvcore's code.
for way in increment bts fxsave xsave movnti stos wstraddle; do
	is "hidden: $way is a fault as well" "fault" "use $way $((core + 0x8000))"
done
for way in compare movs straddle clflush uncached combined; do
	is "hidden: by $way it is zeros, too" "ok 0x0" "use $way $((core + 0x8000))"
done
is "hidden: a page table in it leads nowhere" "fault" "use walk $((core + 0x8000))"
check "hidden: a program that has it mapped reads zeros and is not let write, nor is the kernel for it" \
	./ring3 hidden $((core + 0x8000))
is "hidden: what was written is not there" "0x0" "read $((core + 0x3000))"
check "hidden: hvcore's log has the writer" sh -c "./hvctl log | grep -q 'denied: write of the root to 0x.* at 0xffff'"
check "hidden: hvctl info has the writer" sh -c "./hvctl info | grep -q 'write refused was at 0xffff'"
is "hidden: hvcore's code cannot be written" "fault" "write $((core + 0x8000)) 0xcccccccccccccccc"
# The first of its public pages begins with a 1: that LP is in VMX operation.
public=$core
while [ "$public" -lt $((core + size)) ]; do
	echo "read $public" >$attack
	read -r got <$attack
	[ "$got" != 0x1 ] || break
	public=$((public + 4096))
done
is "hidden: hvcore's counters cannot be written" "fault" "write $public 0"
is "hidden: and can be read" "0x1" "read $public"

# What belongs to VMX is not the root's.
for msr in 0x480 0x481 0x486 0x48b 0x48c 0x491; do
	is "MSR: RDMSR of $msr of VMX is #GP" "trap 13" "run rdmsr $msr"
done
is "MSR: WRMSR of IA32_FEATURE_CONTROL is #GP" "trap 13" "run wrmsr 0x3a 0"
is "MSR: one outside of the bitmap is #GP" "trap 13" "run rdmsr 0x40000000"
is "MSR: writing one outside of the bitmap is #GP" "trap 13" "run wrmsr 0xbfffffff 1"
# Where hvcore's memory would be something else, or what it relies on.
base=$(command "run rdmsr 0x1b")
base=$((${base#ok }))
is "MSR: the local APIC over a page of hvcore is #GP" "trap 13" "run wrmsr 0x1b $((core + 0x8000 | (base & 0xfff)))"
is "MSR: IA32_APIC_BASE as it is can be written" "ok 0x0" "run wrmsr 0x1b $base"
is "MSR: with bits that it does not have it is #GP" "trap 13" "run wrmsr 0x1b $((base | 1))"
is "MSR: a limit of CPUID is #GP" "trap 13" "run wrmsr 0x1a0 $((1 << 22 | 1))"
is "MSR: tables without XD are #GP" "trap 13" "run wrmsr 0x1a0 $((1 << 34 | 1))"
for one in vmxon vmxoff vmclear vmptrld vmptrst vmread vmwrite vmlaunch vmresume invept invvpid vmfunc getsec; do
	is "instruction: $one is #UD" "trap 6" "run $one $core"
done
is "instruction: INVD throws nothing away" "ok 0x0" "run invd"
is "instruction: XSETBV without x87 is #GP" "trap 13" "run xsetbv 0 0"
is "instruction: XSETBV of bits that are not there is #GP" "trap 13" "run xsetbv 0 0xffffffffffffffff"
is "instruction: XSETBV of XCR1 is #GP" "trap 13" "run xsetbv 1 1"
is "CR4: VMXE can be set, and means nothing" "ok 0x0" "run cr4 0x2000"
is "CR4: VMXON after that is #UD all the same" "trap 6" "run vmxon $core"
check "every LP is in the root partition" ./identity inside

# An LP that is not in long mode, and NMIs at the wrong moment.
if [ "$(nproc)" -gt 1 ] && echo 0 >/sys/devices/system/cpu/cpu1/online; then
	is "real mode: exceptions as there, without an error code" "end: #UD 1, #GP 2, CR0 2" "real 1"
	echo 1 >/sys/devices/system/cpu/cpu1/online
	check "real mode: Linux has the LP back" ./identity inside
	said=$(command "nmis $((core + 0x8000)) 2000")
	check "NMI: behind MOV SS none is lost" sh -c "
		echo '$said'; echo '$said' | grep -q '^[1-9][0-9]* NMIs, 0 lost'"
	steps=$(./steps 1000)
	command "storm 1 4000" >/dev/null
	stormy=$(taskset -c 1 ./steps 1000)
	command calm >/dev/null
	check "NMI: no single step over an instruction that exits is lost" [ "$steps" = "$stormy" ]
	echo "# $stormy of $steps steps"
	check "NMI: every LP is in the root partition" ./identity inside
fi

# Hypercalls, forged.
check "ring 3: VMCALL is SIGILL" ./ring3 vmcall
check "ring 3: VMXOFF is SIGILL" ./ring3 vmxoff
check "ring 3: XSETBV is SIGSEGV" ./ring3 xsetbv
is "hypercall: an unknown number" "1 0 0" "vmcall 0xffffffffffffffff"
is "hypercall: deposit of hvcore's own memory as a list" "2 0 0" "vmcall 2 0 $core 1"
is "hypercall: deposit of a list outside of memory" "2 0 0" "vmcall 2 0 0xfffffffffffff000 1"
is "hypercall: deposit of a list that wraps" "2 0 0" "vmcall 2 0 $((core + 4088)) 512"
own=$(($(command own)))
is "hypercall: deposit of more than a list" "2 0 0" "vmcall 2 0 $own 513"
is "hypercall: a partition that is not there" "3 0 0" "vmcall 2 64 $core 1"
is "hypercall: a partition far outside" "3 0 0" "vmcall 5 0xffffffffffffffff"
is "hypercall: hvcore's own pool does not come back" "2 0 0" "vmcall 3 0 $core 1"
is "hypercall: a VP of no partition" "3 0 0" "vmcall 9 1 0"
partition=$(command "vmcall 4")
partition=${partition#0 }
partition=${partition%% *}
check "hypercall: a partition" [ "$partition" -ge 1 ]
is "hypercall: unloading while it lives" "7 0 0" "vmcall 1"
is "hypercall: deposit with hvcore as the list" "2 0 0" "vmcall 2 $partition $core 1"
is "hypercall: withdraw into hvcore" "2 0 0" "vmcall 3 $partition $core 1"
is "hypercall: map above all GPAs" "2 0 0" "vmcall 6 $partition 0xfffffffffff00000 $core 512 3"
is "hypercall: map with unknown flags" "2 0 0" "vmcall 6 $partition 0 $core 1 0x80"
is "hypercall: unmap that wraps" "2 0 0" "vmcall 7 $partition 0xfffffffffffff000 2"
is "hypercall: unmap of the APIC's page" "2 0 0" "vmcall 7 $partition 0xfee00000 1"
is "hypercall: a VP with a number too large" "2 0 0" "vmcall 8 $partition 64 0x1000"

# With memory of its own it gets as far as the pages themselves.
item=1
while [ $item -le 40 ]; do
	echo "write $((own + 8 * (item - 1))) $((own + 4096 * item))" >$attack
	item=$((item + 1))
done
given=$((own + 4096))
is "hypercall: deposit" "0 40 0" "vmcall 2 $partition $own 40"
is "hypercall: the deposit is hidden" "0x0" "read $given"
is "hypercall: and cannot be written" "fault" "write $given 1"
is "hypercall: deposit of what hvcore has" "8 0 0" "vmcall 2 $partition $own 1"
is "hypercall: deposit with such a page as the list" "2 0 0" "vmcall 2 $partition $given 1"
is "hypercall: map of what hvcore has" "8 0 0" "vmcall 6 $partition 0 $own 1 3"
is "hypercall: map with hvcore as the list" "2 0 0" "vmcall 6 $partition 0 $core 1 3"
is "hypercall: withdraw into what hvcore has" "2 0 0" "vmcall 3 $partition $given 1"
echo "write $own $core" >$attack
is "hypercall: deposit of hvcore's own page" "8 0 0" "vmcall 2 $partition $own 1"
is "hypercall: map of hvcore's own page" "8 0 0" "vmcall 6 $partition 0 $own 1 3"
is "hypercall: a VP whose page is hvcore's" "8 0 0" "vmcall 8 $partition 0 $core"
echo "write $own $((own + 41 * 4096))" >$attack
is "hypercall: map" "0 1 1" "vmcall 6 $partition 0 $own 1 3"
is "hypercall: deposit of what a child maps" "8 0 0" "vmcall 2 $partition $own 1"
is "hypercall: map over it" "9 0 0" "vmcall 6 $partition 0 $own 1 3"
is "hypercall: destroy" "0 0 0" "vmcall 5 $partition"
is "hypercall: a destroyed partition makes no VP" "11 0 0" "vmcall 8 $partition 0 0x1000"
back=0 tries=0
while [ $tries -lt 20 ]; do
	said=$(command "vmcall 3 $partition $own 512")
	case $said in
	"0 0 0") break ;;
	"0 "*) said=${said#0 }; back=$((back + ${said%% *})) ;;
	# Each LP has to pass hvcore first.
	*) for lp in $(seq 0 $(($(nproc) - 1))); do taskset -c "$lp" sh -c "echo vmcall 0 >$attack"; done ;;
	esac
	tries=$((tries + 1))
done
check "hypercall: all 40 pages of it come back" [ $back = 40 ]
is "hypercall: which can be read and written" "ok" "write $given 1"
is "hypercall: and its number is free" "3 0 0" "vmcall 5 $partition"

# SEEDS and COUNT choose others. Of twenty one is not made: it would leave hvcore.
count=3000
[ -z "$SOAK" ] || count=550000
count=${COUNT:-$count} seeds=${SEEDS:-1 2}
[ -z "$NO_FUZZ" ] || seeds=
for seed in $seeds; do
	said=$(command "fuzz $seed $count")
	echo "$said" | sed 's/^/# /'
	check "fuzz: random hypercalls on all LPs, seed $seed" sh -c "
		echo '$said'; echo '$said' | grep -q 'traps 0, partitions left 0' &&
		echo '$said' | awk '/pages hidden/ { for (i = 1; i < NF; i++) if (\$i == \"hidden\") exit !(\$(i + 1) == \$(i + 3)) }'"
done
check "fuzz: hvcore lives, and every LP is in the root partition" ./identity inside
if [ -n "$CHILDREN" ]; then
	./hvctl run --kernel exit.elf --memory 16 --exit-port --cmdline value=1 </dev/null >/tmp/out 2>&1
	check "a child runs after all this" [ $? = 3 ]
fi
check "every LP works" every_lp_works
if [ "$(nproc)" -gt 1 ]; then
	# Nothing keeps it from memory then; so nobody may have any that is not the root's.
	check "an LP that leaves: it may, with no partition" taskset -c 1 sh -c "
		echo 'vmcall 1' >$attack; [ \"\$(cat $attack)\" = '0 0 0' ]"
	taskset -p 1 $$ >/dev/null
	is "an LP that leaves: there is no partition any more" "7 0 0" "vmcall 4"
	taskset -p 3 $$ >/dev/null
fi
log_clean "the kernel complained of nothing"
check "rmmod" unload_hvmod
check "the pages are Linux's again" sh -c "rmmod hvattack && insmod ./hvattack.ko && rmmod hvattack"
finish
