// SPDX-License-Identifier: GPL-2.0
/*
 * Arguments in the program's memory. They are short, and each call has several,
 * so they are copied by words, where copy_from_user() prepares for megabytes.
 * Its checks that the kernel's side of a copy is one object are not needed: it
 * is a slice of Rust, which is one.
 */

#include <linux/uaccess.h>

#include "mshv.h"

/* That a program could have memory there. */
bool hvmod_user_ok(u64 address, u64 size)
{
	return access_ok((const void __user *)address, size);
}

bool hvmod_user_read(void *to, unsigned long from, unsigned long size)
{
	const u8 __user *source = (const u8 __user *)from;
	u8 *target = to;

	if (!user_read_access_begin(source, size))
		return false;
	for (; size >= sizeof(u64); size -= sizeof(u64)) {
		unsafe_get_user(*(u64 *)target, (const u64 __user *)source, fault);
		target += sizeof(u64);
		source += sizeof(u64);
	}
	for (; size; size--)
		unsafe_get_user(*target++, source++, fault);
	user_read_access_end();
	return true;

fault:
	user_read_access_end();
	return false;
}

bool hvmod_user_write(unsigned long to, const void *from, unsigned long size)
{
	u8 __user *target = (u8 __user *)to;
	const u8 *source = from;

	if (!user_write_access_begin(target, size))
		return false;
	for (; size >= sizeof(u64); size -= sizeof(u64)) {
		unsafe_put_user(*(const u64 *)source, (u64 __user *)target, fault);
		target += sizeof(u64);
		source += sizeof(u64);
	}
	for (; size; size--)
		unsafe_put_user(*source++, target++, fault);
	user_write_access_end();
	return true;

fault:
	user_write_access_end();
	return false;
}
