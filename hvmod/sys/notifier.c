// SPDX-License-Identifier: GPL-2.0
#include <linux/notifier.h>
#include <linux/panic_notifier.h>
#include <linux/reboot.h>
#include <linux/suspend.h>

#include "sys.h"

static void (*going_down)(void);
static void (*panicking)(void);
static bool (*may_sleep)(void);

static int on_reboot(struct notifier_block *block, unsigned long event, void *data)
{
	going_down();
	return NOTIFY_DONE;
}

static int on_panic(struct notifier_block *block, unsigned long event, void *data)
{
	panicking();
	return NOTIFY_DONE;
}

static int on_sleep(struct notifier_block *block, unsigned long event, void *data)
{
	switch (event) {
	case PM_SUSPEND_PREPARE:
	case PM_HIBERNATION_PREPARE:
	case PM_RESTORE_PREPARE:
		return may_sleep() ? NOTIFY_OK : NOTIFY_BAD;
	default:
		return NOTIFY_DONE;
	}
}

/* Last of all: drivers may still have virtual machines' work to do before. */
static struct notifier_block reboot_block = {
	.notifier_call = on_reboot,
	.priority = INT_MIN,
};

static struct notifier_block panic_block = {
	.notifier_call = on_panic,
	.priority = INT_MIN,
};

static struct notifier_block sleep_block = {
	.notifier_call = on_sleep,
};

int hvmod_notifiers_register(void (*down)(void), void (*panic)(void), bool (*sleep)(void))
{
	int error;

	going_down = down;
	panicking = panic;
	may_sleep = sleep;

	error = register_pm_notifier(&sleep_block);
	if (error)
		return error;
	error = register_reboot_notifier(&reboot_block);
	if (error) {
		unregister_pm_notifier(&sleep_block);
		return error;
	}
	atomic_notifier_chain_register(&panic_notifier_list, &panic_block);
	return 0;
}

void hvmod_notifiers_unregister(void)
{
	atomic_notifier_chain_unregister(&panic_notifier_list, &panic_block);
	unregister_reboot_notifier(&reboot_block);
	unregister_pm_notifier(&sleep_block);
}
