// SPDX-License-Identifier: GPL-2.0
#include <linux/device.h>

#include "sys.h"

/*
 * Whether the class of a device has one of that name. To register a second one
 * would fail too, but with a warning and a stack trace.
 */
bool hvmod_class_has(struct device *one, const char *name)
{
	struct device *found = class_find_device_by_name(one->class, name);

	put_device(found);
	return found;
}
