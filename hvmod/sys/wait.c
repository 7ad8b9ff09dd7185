// SPDX-License-Identifier: GPL-2.0
/*
 * The thread of a VP: while the VP is halted it sleeps until it is woken, or until a
 * time; others that wait for the VP give way to it.
 */

#include <linux/hrtimer.h>
#include <linux/ktime.h>
#include <linux/pid.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/wait.h>

#include "mshv.h"

struct hvmod_waiter {
	wait_queue_head_t queue;
	int woken;
	/* The last thread that ran the VP. Changed under the queue's lock. */
	struct pid *thread;
	struct hrtimer alarm;
	bool rang;
};

/* The thread returns from the VP that it runs, or from its sleep. */
static enum hrtimer_restart ring(struct hrtimer *alarm)
{
	struct hvmod_waiter *waiter = container_of(alarm, struct hvmod_waiter, alarm);
	struct task_struct *task;
	unsigned long flags;

	WRITE_ONCE(waiter->rang, true);
	/* A full barrier behind: a thread that goes on after this sees it. */
	hvmod_waiter_wake(waiter);
	spin_lock_irqsave(&waiter->queue.lock, flags);
	task = get_pid_task(waiter->thread, PIDTYPE_PID);
	spin_unlock_irqrestore(&waiter->queue.lock, flags);
	if (task) {
		kick_process(task);
		put_task_struct(task);
	}
	return HRTIMER_NORESTART;
}

struct hvmod_waiter *hvmod_waiter_new(void)
{
	struct hvmod_waiter *waiter = kzalloc(sizeof(*waiter), GFP_KERNEL_ACCOUNT);

	if (waiter) {
		init_waitqueue_head(&waiter->queue);
		hrtimer_setup(&waiter->alarm, ring, CLOCK_MONOTONIC, HRTIMER_MODE_REL);
	}
	return waiter;
}

void hvmod_waiter_free(struct hvmod_waiter *waiter)
{
	hrtimer_cancel(&waiter->alarm);
	put_pid(waiter->thread);
	kfree(waiter);
}

/* It is this thread that runs the VP. */
void hvmod_waiter_attach(struct hvmod_waiter *waiter)
{
	struct pid *old;

	if (READ_ONCE(waiter->thread) == task_pid(current))
		return;
	spin_lock_irq(&waiter->queue.lock);
	old = waiter->thread;
	WRITE_ONCE(waiter->thread, get_pid(task_pid(current)));
	spin_unlock_irq(&waiter->queue.lock);
	put_pid(old);
}

/* Number of that thread as the current one sees it, 0 if it does not. */
int hvmod_waiter_thread(struct hvmod_waiter *waiter)
{
	int number;

	spin_lock_irq(&waiter->queue.lock);
	number = pid_vnr(waiter->thread);
	spin_unlock_irq(&waiter->queue.lock);
	return number;
}

/* Gives what is left of this thread's turn to the VP's. False if that does not wait for one. */
bool hvmod_waiter_yield_to(struct hvmod_waiter *waiter)
{
	struct task_struct *task;
	bool done;

	spin_lock_irq(&waiter->queue.lock);
	task = get_pid_task(waiter->thread, PIDTYPE_PID);
	spin_unlock_irq(&waiter->queue.lock);
	if (!task)
		return false;
	done = yield_to(task, true) > 0;
	put_task_struct(task);
	return done;
}

/* Wakes the thread in @ns nanoseconds, in place of an earlier alarm. */
void hvmod_waiter_alarm(struct hvmod_waiter *waiter, u64 ns)
{
	hrtimer_start(&waiter->alarm, ns_to_ktime(min(ns, (u64)KTIME_MAX / 2)), HRTIMER_MODE_REL);
}

/* Whether the alarm rang since this was asked. */
bool hvmod_waiter_rang(struct hvmod_waiter *waiter)
{
	return READ_ONCE(waiter->rang) && xchg(&waiter->rang, false);
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
