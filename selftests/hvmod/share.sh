#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# A folder of the root's in a guest (virtio-fs), served by virtiofsd.
. ./tap.sh
. ./guest_script.sh

load_hvmod
log_mark

cat >/tmp/script <<'END'
mkdir -p /shared /readonly
mount -t virtiofs files /shared && echo "guest: mounted: yes"
echo "guest: read: $(cat /shared/greeting)"
echo "guest: sum: $(md5sum </shared/noise)"
cp /shared/noise /shared/copy && sync && echo "guest: copied: yes"
mkdir /shared/new && mv /shared/copy /shared/new/moved && echo "guest: moved: yes"
cat /shared/link
mount -t virtiofs fixed /readonly && echo "guest: kept: $(cat /readonly/greeting)"
echo x 2>/dev/null >/readonly/written && echo "guest: wrote: yes"
mount -t virtiofs nothing /mnt 2>/dev/null && echo "guest: nothing: mounted"
echo "guest: waits"
while [ ! -e /shared/go ]; do sleep 1; done
umount /shared && mount -t virtiofs files /shared && echo "guest: again: $(cat /shared/greeting)"
umount /shared && umount /readonly
cd /sys/bus/virtio/drivers/virtiofs
for device in virtio*; do
	echo $device >unbind && echo $device >bind
done
mount -t virtiofs files /shared && echo "guest: after a reset: $(cat /shared/greeting)"
END
make_initrd /tmp/script virtiofs
mkdir -p /tmp/files /tmp/fixed
echo hello >/tmp/files/greeting
echo fixed >/tmp/fixed/greeting
ln -s /tmp/secret /tmp/files/link
echo secret >/tmp/secret
dd if=/dev/urandom of=/tmp/files/noise bs=64k count=32 2>/dev/null

start_guest --share dir=/tmp/files,tag=files --share dir=/tmp/fixed,tag=fixed,readonly
check "hvctl is confined, all threads of it" confined
# sees_nothing_else DIR: whether all those that serve it have it for their root.
sees_nothing_else() {
	found=
	for process in $(pgrep -f "virtiofsd.*$1"); do
		# Each has a parent of its program outside, which waits for it.
		[ "$(awk '/^NSpid:/ { print NF }' /proc/$process/status)" -gt 2 ] || continue
		[ "$(ls /proc/$process/root)" = "$(ls "$1")" ] || return 1
		found=yes
	done
	[ "$found" ] || { pgrep -fa virtiofsd; return 1; }
}
check "virtiofsd sees nothing but the folder" sees_nothing_else /tmp/files
touch /tmp/files/go
end_guest
guest_check "a guest with two shared folders powers off" [ $status -eq 0 ]
guest_check "it mounts one by its tag" [ "$(says mounted)" = yes ]
guest_check "and reads what is in it" [ "$(says read)" = hello ]
guest_check "also 2 MiB" [ "$(says sum)" = "$(md5sum </tmp/files/noise)" ]
guest_check "it writes, makes directories, renames" [ "$(says copied)$(says moved)" = yesyes ]
check "and all of it is in the folder" cmp /tmp/files/noise /tmp/files/new/moved
guest_check "a link out of the folder leads to the guest's own files" sh -c "! grep -q secret $guest_out"
guest_check "the other it reads" [ "$(says kept)" = fixed ]
guest_check "and cannot write" [ -z "$(says wrote)" ]
check "nothing was written there" [ ! -e /tmp/fixed/written ]
guest_check "there is no third" [ -z "$(says nothing)" ]
guest_check "unmounted and mounted again" [ "$(says again)" = hello ]
guest_check "taken from its driver and given to it again" [ "$(says 'after a reset')" = hello ]
served_elsewhere() {
	grep 'INFO share' $guest_out.err >/tmp/queues && ! grep -v 'queue .: 0 doorbells (0 by intercept)' /tmp/queues
}
guest_check "no doorbell came to hvctl" served_elsewhere
nothing_refused
check "virtiofsd ends with the run" without virtiofsd

# Without its server a guest's share is gone, and nothing else is: what was asked of it fails.
cat >/tmp/script <<'END'
mkdir -p /shared
mount -t virtiofs files /shared
echo before >/shared/written
echo "guest: waits"
while [ -e /shared/greeting ]; do usleep 100000; done
echo "guest: gone: $(cat /shared/greeting 2>&1 | sed 's/.*: //')"
echo more 2>/dev/null >>/shared/written || echo "guest: wrote: no"
sync
echo "guest: lives: yes"
END
make_initrd /tmp/script virtiofs
start_guest --share dir=/tmp/files,tag=files
kill -KILL $(pgrep virtiofsd)
end_guest
guest_check "its server is killed: the guest goes on" [ "$(says lives) $status" = "yes 0" ]
guest_check "what it asks of the share fails" [ "$(says gone)" = "Transport endpoint is not connected" ]
guest_check "also what it writes" [ "$(says wrote)" = no ]
guest_check "and hvctl says what is gone" grep -q "share files.*virtiofsd has ended" $guest_out.err
nothing_refused

# kill -9 of hvctl takes virtiofsd along.
start_guest --share dir=/tmp/files,tag=files
check "virtiofsd runs" pgrep virtiofsd
kill -KILL $pid
wait $pid 2>/dev/null
check "kill -9 of hvctl ends it" without virtiofsd

run() {
	./hvctl run --kernel vmlinuz --timeout 10 "$@"
}
refused "a folder that is not there" 2 "cannot share /nowhere" run --share dir=/nowhere,tag=a
refused "a file for a folder" 2 "it is no directory" run --share dir=/tmp/secret,tag=a
refused "no tag" 2 "missing field .tag" run --share dir=/tmp
refused "a tag that is too long" 2 "36 bytes" run --share dir=/tmp,tag=0123456789012345678901234567890123456
refused "two of one tag" 2 "two shares have the tag a" run --share dir=/tmp/files,tag=a --share dir=/tmp/fixed,tag=a
check "a refusal leaves no virtiofsd" without virtiofsd

log_clean "the root's kernel complained of nothing"
check "rmmod" unload_hvmod
finish
