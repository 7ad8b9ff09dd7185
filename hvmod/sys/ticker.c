// SPDX-License-Identifier: GPL-2.0
#include <linux/jiffies.h>
#include <linux/workqueue.h>

#include "sys.h"

static void (*on_tick)(void);

static void tick(struct work_struct *work)
{
	on_tick();
	schedule_delayed_work(to_delayed_work(work), round_jiffies_relative(HZ));
}

static DECLARE_DELAYED_WORK(ticker, tick);
static bool going;

void hvmod_ticker_start(void (*function)(void))
{
	on_tick = function;
	WRITE_ONCE(going, true);
	schedule_delayed_work(&ticker, HZ);
}

void hvmod_ticker_stop(void)
{
	/* Disabled, not cancelled: an interrupt may be about to hurry it. */
	WRITE_ONCE(going, false);
	disable_delayed_work_sync(&ticker);
}

/* Now, not when the second is over. In any context. */
void hvmod_ticker_hurry(void)
{
	if (READ_ONCE(going))
		mod_delayed_work(system_wq, &ticker, 0);
}
