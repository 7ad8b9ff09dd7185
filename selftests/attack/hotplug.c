// SPDX-License-Identifier: GPL-2.0
/* Drivers that have to do with CPUs that come and go. */
#include <linux/cpu.h>
#include <linux/cpuhotplug.h>
#include <linux/delay.h>
#include <linux/module.h>
#include <linux/reboot.h>

#include "attack.h"

static unsigned int slow_ms;
module_param(slow_ms, uint, 0400);
MODULE_PARM_DESC(slow_ms, "How long one takes when a CPU went offline, before others hear of it; 0 for none");

static bool refuse;
module_param(refuse, bool, 0400);
MODULE_PARM_DESC(refuse, "One that lets no CPU come online");

static bool restart_cpu;
module_param(restart_cpu, bool, 0400);
MODULE_PARM_DESC(restart_cpu, "One that starts CPU 1 anew at reboot, when others have heard of that");

static int state = -1;

static int comes_online(unsigned int cpu)
{
	return refuse ? -EPERM : 0;
}

static int went_offline(unsigned int cpu)
{
	msleep(slow_ms);
	return 0;
}

static int on_reboot(struct notifier_block *block, unsigned long event, void *data)
{
	remove_cpu(1);
	pr_info("CPU 1 anew: %d\n", add_cpu(1));
	return NOTIFY_DONE;
}

/* Of those with one priority who registered last hears of it last. */
static struct notifier_block reboot_block = {
	.notifier_call = on_reboot,
	.priority = INT_MIN,
};

int hotplug_drivers(void)
{
	if (slow_ms || refuse) {
		/* Who registered last hears of it first. */
		state = cpuhp_setup_state_nocalls(CPUHP_BP_PREPARE_DYN, "hvattack", comes_online,
						  went_offline);
		if (state < 0)
			return state;
	}
	return restart_cpu ? register_reboot_notifier(&reboot_block) : 0;
}

void hotplug_drivers_exit(void)
{
	if (restart_cpu)
		unregister_reboot_notifier(&reboot_block);
	if (state >= 0)
		cpuhp_remove_state_nocalls(state);
}
