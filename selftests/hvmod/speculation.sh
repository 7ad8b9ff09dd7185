#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# What a switch between partitions does against speculation: chosen, overridden, refused, told.
# That it helps cannot be seen here: the emulated processor does not speculate.
. ./tap.sh

feature() {
	grep -q "^flags.* $1\( \|$\)" /proc/cpuinfo
}

# told NAME LINE: what hvctl info says.
told() {
	told_line=$(./hvctl info | sed -n 's/^speculation: a switch between partitions does //p')
	case $told_line in
	"$2" | "$2;"*) ok "$1" ;;
	*) not_ok "$1" "'$told_line' instead of '$2'" ;;
	esac
}

child_runs() {
	[ -z "$CHILDREN" ] || check "$1: a child runs" sh -c \
		'./hvctl run --kernel exit.elf --memory 16 --exit-port --cmdline 2 --timeout 60 </dev/null; [ $? = 5 ]'
}

log_mark
# As rust/speculation says of this processor.
wanted= can=2
if feature ibpb; then wanted="IBPB, " can=$((can | 1)); fi
wanted="${wanted}RSB filling"
if feature md_clear; then can=$((can | 4)); fi
if feature flush_l1d; then can=$((can | 8)); fi
load_hvmod
told "what the processor needs and can do is chosen" "$wanted"
child_runs "chosen"
check "rmmod" unload_hvmod

check "speculation=0 loads" insmod ./hvmod.ko speculation=0
told "  and does nothing" "nothing"
check "  and says what would be needed" sh -c './hvctl info | grep -q "; the processor needs .*RSB filling.* too"'
child_runs "speculation=0"
check "rmmod" unload_hvmod

check "speculation=$can, all that it can, loads" insmod ./hvmod.ko speculation=$can
child_runs "speculation=$can"
check "rmmod" unload_hvmod

# What it cannot, and what there is not.
for value in 16 -2 $((15 & ~can)); do
	[ "$value" != 0 ] || continue
	said=$(insmod ./hvmod.ko speculation=$value 2>&1)
	check "speculation=$value is refused" [ $? != 0 ]
	check "  as an argument" [ "${said%nvalid argument}" != "$said" ]
	check "  with what can be" log_says "speculation=$value: this processor can take $can of 15"
done
log_clean "the kernel complained of nothing"
finish
