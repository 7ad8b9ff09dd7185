#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# mshv_ioctls.sh: the tests of the crate mshv-ioctls, which VMMs in Rust are made with, as they
# were published, on /dev/mshv.
. ./tap.sh

# why NAME: why a test cannot pass here, if it cannot.
why() {
	case $1 in
	*test_post_message_direct) echo "it posts to a source that is masked; the crate leaves it out" ;;
	*test_create_device) echo "no devices are passed through; nor does the kernel's driver have that call" ;;
	esac
}

[ -x ./mshv_ioctls_tests ] || skip_all "the crate's tests could not be built"
load_hvmod
log_mark
# One by one: each locks memory. The one that is left out locks 8 GiB.
skip "ioctls::vm::tests::test_get_dirty_log_8G" "locks 8 GiB of memory"
timeout 600 ./mshv_ioctls_tests --test-threads=1 --include-ignored --skip test_get_dirty_log_8G >/tmp/mshv_ioctls.out 2>&1
while read -r line; do
	case $line in
	"test "*" ... "*) ;;
	*) continue ;;
	esac
	name=${line#test } name=${name%% *}
	case $line in
	*"... ok") ok "$name" ;;
	*)
		reason=$(why "$name")
		if [ "$reason" ]; then
			skip "$name" "$reason"
		else
			not_ok "$name" "$(sed -n "/^---- $name stdout/,/^$/p" /tmp/mshv_ioctls.out)"
		fi
		;;
	esac
done </tmp/mshv_ioctls.out
check "all of them ran to the end" grep -q '^test result:' /tmp/mshv_ioctls.out
check "hvmod can be unloaded" unload_hvmod
log_clean "the kernel complained of nothing"
finish
