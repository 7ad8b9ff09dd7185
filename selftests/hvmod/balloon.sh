#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# A balloon: memory that a guest does without is the root's, and the guest's again when it wants it.
. ./tap.sh
. ./guest_script.sh

load_hvmod
log_mark

cat >/tmp/script <<'END'
total() {
	sed -n 's/^MemTotal: *//p' /proc/meminfo
}
echo "guest: total: $(total)"
echo "guest: waits"
while [ ! -e /sys/block/vda ]; do usleep 100000; done
# A byte of the disk is what it is to do next.
until [ "$(dd if=/dev/vda bs=512 count=1 iflag=direct 2>/dev/null | head -c 1)" = 1 ]; do usleep 200000; done
echo "guest: during: $(total)"
echo "guest: shrunk"
until [ "$(dd if=/dev/vda bs=512 count=1 iflag=direct 2>/dev/null | head -c 1)" = 2 ]; do usleep 200000; done
echo "guest: after: $(total)"
# All of it, so also what was away.
mkdir -p /full && mount -t tmpfs -o size=90m tmpfs /full
dd if=/dev/urandom of=/full/noise bs=1M count=16 2>/dev/null
for copy in 1 2 3 4; do cp /full/noise /full/$copy; done
wanted=$(md5sum </full/noise)
for copy in 1 2 3 4; do [ "$(md5sum </full/$copy)" = "$wanted" ] && echo "guest: same: $copy"; done
echo "guest: has"
END
make_initrd /tmp/script virtio_balloon virtio_blk
dd if=/dev/zero of=/tmp/disk bs=512 count=8 2>/dev/null
next() {
	printf "$1" | dd of=/tmp/disk conv=notrunc 2>/dev/null
}
# balloon_is KIB: waits until the guest has done what was asked.
balloon_is() {
	tries=0
	until [ "$(./hvctl balloon fat | sed 's/ KiB.*//')" = "$1" ]; do
		tries=$((tries + 1))
		[ $tries -lt 300 ] || return 1
		usleep 200000
	done
}
root_has() {
	./hvctl balloon fat | sed 's/.*root has \([0-9]*\) KiB/\1/'
}
shared() {
	./hvctl info --json | tr -d ' \n' | sed 's/.*"shared_bytes":\([0-9]*\).*/\1/'
}

start_guest --name fat --balloon --disk path=/tmp/disk
check "hvctl is confined, all threads of it" confined
before=$(free_kib)
mapped=$(shared)
./hvctl balloon fat 64M >/dev/null
guest_check "the guest does without 64 MiB" balloon_is 65536
got=$(root_has)
check "most of it is the root's: $got KiB" [ "$got" -ge 40960 ]
check "which maps it into the guest no more: $mapped bytes before, $(shared) now" [ $(((mapped - $(shared)) / 1024)) -eq "$got" ]
now=$(free_kib)
check "and has it free: $before KiB before, $now KiB now" [ $((now - before)) -ge $((got - 8192)) ]
next 1
refused "more than the guest has" 1 "192 MiB in all" ./hvctl balloon fat 192M
refused "more than any guest has" 1 "more than any guest" ./hvctl balloon fat 16384G
refused "a size that is none" 2 "512M" ./hvctl balloon fat plenty
refused "a run that is not there" 1 "no run of the name" ./hvctl balloon thin 1M
guest_check "which changes nothing" balloon_is 65536
asked() {
	./hvctl devices fat | sed -n '/^disk 0/,/queue 0/s/.* \([0-9]*\) chains.*/\1/p'
}
chains=$(asked)
usleep 2000000
check "hvctl devices: the guest goes on to read its disk" [ "$(asked)" -gt "$chains" ]
check "also as JSON" sh -c './hvctl devices fat --json | grep -q "\"chains\": [1-9]"'
refused "of a run that is not there" 1 "no run of the name" ./hvctl devices thin
guest_check "the guest goes on" guest_reaches 'guest: shrunk'
./hvctl balloon fat 0M >/dev/null
guest_check "it gets all of it back" balloon_is 0
check "none of it is the root's" [ "$(root_has)" = 0 ]
next 2
end_guest
guest_check "the guest powers off" [ $status -eq 0 ]
guest_check "while it did without it had less" [ "$(says during | sed 's/ kB//')" -le $(($(says total | sed 's/ kB//') - 65536 + 1024)) ]
guest_check "then as much as before" [ "$(says after)" = "$(says total)" ]
guest_check "and it holds what is put there" [ "$(says same | tr -d '\n')" = 1234 ]
nothing_refused

log_clean "the root's kernel complained of nothing"
check "rmmod" unload_hvmod
finish
