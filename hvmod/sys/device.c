// SPDX-License-Identifier: GPL-2.0
#include <linux/device.h>
#include <linux/miscdevice.h>

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
