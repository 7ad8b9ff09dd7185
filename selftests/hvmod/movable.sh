#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# A guest's memory comes from a zone of movable memory, and its program is killed while that is
# pinned.
. ./tap.sh
. ./payload.sh

awk '$3 == "zone" { movable = $4 == "Movable" } $2 == "present" && movable { pages += $3 }
     END { exit pages < 100000 }' FS='[ ,]+' /proc/zoneinfo || skip_all "there is no movable memory"

log_mark
load_hvmod
check "killed while it pins" ./movable 128
check "nothing is held" nothing_held
# Who uses the pages next?
check "other programs get the memory" sh -c 'dd if=/dev/zero of=/tmp/much bs=1M count=200 2>/dev/null && rm /tmp/much'
check "a partition that gets it runs" run_once
check "rmmod" unload_hvmod
log_clean "the kernel complained of nothing"
finish
