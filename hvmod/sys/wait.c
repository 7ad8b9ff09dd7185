// SPDX-License-Identifier: GPL-2.0
/*
 * A halted VP: its thread sleeps until it is woken, or until a time.
 */

#include <linux/hrtimer.h>
#include <linux/ktime.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/wait.h>

#include "mshv.h"

struct hvmod_waiter {
	wait_queue_head_t queue;
	int woken;
};

struct hvmod_waiter *hvmod_waiter_new(void)
{
	struct hvmod_waiter *waiter = kzalloc(sizeof(*waiter), GFP_KERNEL_ACCOUNT);

	if (waiter)
		init_waitqueue_head(&waiter->queue);
	return waiter;
}

void hvmod_waiter_free(struct hvmod_waiter *waiter)
{
	kfree(waiter);
}

/* From here on no wake-up is lost. */
void hvmod_waiter_arm(struct hvmod_waiter *waiter)
{
	/* Full barrier: what the waker did before is seen after this. */
	if (READ_ONCE(waiter->woken))
		smp_store_mb(waiter->woken, 0);
}

/* In any context. */
void hvmod_waiter_wake(struct hvmod_waiter *waiter)
{
	WRITE_ONCE(waiter->woken, 1);
	/* Full barrier inside: pairs with prepare_to_wait(). */
	if (wq_has_sleeper(&waiter->queue))
		wake_up(&waiter->queue);
}

/*
 * Sleeps until a wake-up since the last hvmod_waiter_arm(), or for @ns
 * nanoseconds if that is not U64_MAX. -EINTR if a signal came.
 */
int hvmod_waiter_wait(struct hvmod_waiter *waiter, u64 ns)
{
	ktime_t until = ns == U64_MAX ? KTIME_MAX :
					ktime_add_ns(ktime_get(), min(ns, (u64)KTIME_MAX / 2));
	DEFINE_WAIT(wait);
	int ret = 0;

	for (;;) {
		prepare_to_wait(&waiter->queue, &wait, TASK_INTERRUPTIBLE);
		if (READ_ONCE(waiter->woken))
			break;
		if (signal_pending(current)) {
			ret = -EINTR;
			break;
		}
		if (until == KTIME_MAX)
			schedule();
		else if (!schedule_hrtimeout_range(&until, 0, HRTIMER_MODE_ABS))
			break;
	}
	finish_wait(&waiter->queue, &wait);
	return ret;
}
