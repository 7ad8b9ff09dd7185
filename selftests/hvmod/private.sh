#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# hvctl run --private: a payload, and the stock kernel.
. ./tap.sh

lab="tsc_early_khz=50000 nowatchdog audit=0 apparmor=0 random.trust_cpu=on cryptomgr.notests"

value() {
	./hvctl info --json | tr ',{}' '\n' | sed -n "s/^ *\"$1\": *\\([0-9]*\\).*/\\1/p" | head -n 1
}

load_hvmod
log_mark
./hvctl run --private --kernel exit.elf --memory 16 --exit-port --cmdline 2 --timeout 60 </dev/null
check "a payload with private memory ends as it wants to" [ $? = 5 ]
before=$(free_kib)
./hvctl run --private --kernel vmlinuz --initrd initrd --memory 128 --timeout 400 \
	--cmdline "console=ttyS0 panic=-1 $lab test=poweroff" </dev/null >/tmp/out 2>/tmp/err &
pid=$!
tries=0
until grep -q . /tmp/out || [ $tries -gt 300 ]; do
	tries=$((tries + 1))
	usleep 200000
done
check "hvctl info tells of its private memory" [ "$(value private_bytes)" -gt $((100 << 20)) ]
check "and of no shared memory" [ "$(value shared_bytes)" = 0 ]
wait $pid
status=$?
tr -d '\r' </tmp/out >/tmp/lines
if [ $status = 0 ] && grep -q 'guest: uname: ' /tmp/lines; then
	ok "the stock kernel runs in private memory and powers off"
else
	not_ok "the stock kernel runs in private memory and powers off" "status $status
$(tail -n 20 /tmp/lines /tmp/err | cut -c -160)"
fi
check "its private memory is gone" [ "$(value private_bytes)" = 0 ]
after=$(free_kib)
check "and free again in Linux" [ "$after" -gt $((before - 16384)) ]
log_clean "the root's kernel complained of nothing"
check "rmmod" unload_hvmod
finish
