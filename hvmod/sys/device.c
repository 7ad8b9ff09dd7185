// SPDX-License-Identifier: GPL-2.0
#include <linux/device.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>

#include "sys.h"

/*
 * Whether there is a misc device of that name. To register a second one would
 * fail too, but with a warning and a stack trace. The class of misc devices is
 * not exported, so it is asked for by way of one that is registered.
 */
bool hvmod_misc_exists(struct miscdevice *registered, const char *name)
{
	const struct class *class = registered->this_device->class;
	struct device *found = class_find_device_by_name(class, name);

	put_device(found);
	return found;
}

/*
 * Has the module stay while @file, which is being opened, is open. The misc
 * devices of Linux 7.2's Rust name no owner; 7.3's do. False if the module is
 * about to go. Linux opens one misc device at a time, and takes none away
 * meanwhile.
 */
bool hvmod_file_keeps_module(struct file *file)
{
	static struct file_operations owned;

	if (file->f_op->owner)
		return true;
	if (!try_module_get(THIS_MODULE))
		return false;
	if (!owned.owner) {
		owned = *file->f_op;
		owned.owner = THIS_MODULE;
	}
	/* Closing it gives the reference back. */
	replace_fops(file, &owned);
	return true;
}
