#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# A program ends its partition in a cgroup that has no memory left: there is none for giving back
# the partition's either. Whether Linux kills the program for that is its own affair.
. ./tap.sh
. ./payload.sh

groups=/sys/fs/cgroup
group=$groups/hvmod
grep -qs memory $groups/cgroup.controllers || skip_all "there are no memory cgroups"
echo +memory >$groups/cgroup.subtree_control
mkdir $group
echo 0 >$group/memory.max

load_hvmod
log_mark
./churn 0 $group
check "nothing is held" nothing_held
check "the next run works" run_once
check "rmmod" unload_hvmod
rmdir $group
finish
