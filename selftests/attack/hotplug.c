// SPDX-License-Identifier: GPL-2.0
/* A driver that takes its time when a CPU went offline, before others hear of it. */
#include <linux/cpuhotplug.h>
#include <linux/delay.h>
#include <linux/module.h>

#include "attack.h"

static unsigned int slow_ms;
module_param(slow_ms, uint, 0400);
MODULE_PARM_DESC(slow_ms, "How long it takes, in ms; 0 for no such driver");

static int state = -1;

static int went_offline(unsigned int cpu)
{
	msleep(slow_ms);
	return 0;
}

int slow_hotplug(void)
{
	if (!slow_ms)
		return 0;
	/* Who registered last hears of it first. */
	state = cpuhp_setup_state_nocalls(CPUHP_BP_PREPARE_DYN, "hvattack:slow", NULL, went_offline);
	return min(state, 0);
}

void slow_hotplug_exit(void)
{
	if (state >= 0)
		cpuhp_remove_state_nocalls(state);
}
