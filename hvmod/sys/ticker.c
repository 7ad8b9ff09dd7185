// SPDX-License-Identifier: GPL-2.0
#include <linux/jiffies.h>
#include <linux/workqueue.h>

#include "sys.h"

static void (*on_tick)(void);

static void tick(struct work_struct *work)
{
	on_tick();
	schedule_delayed_work(to_delayed_work(work), HZ);
}

/* No processor is woken from idle only for this. */
static DECLARE_DEFERRABLE_WORK(ticker, tick);

void hvmod_ticker_start(void (*function)(void))
{
	on_tick = function;
	schedule_delayed_work(&ticker, HZ);
}

void hvmod_ticker_stop(void)
{
	cancel_delayed_work_sync(&ticker);
}
