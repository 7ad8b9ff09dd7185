// SPDX-License-Identifier: GPL-2.0
/*
 * The thread of a VP: while the VP is halted it sleeps until it is woken, or until a
 * time; others that wait for the VP give way to it. Signals that it handles are noted.
 */

#include <linux/hrtimer.h>
#include <linux/ktime.h>
#include <linux/pid.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/tracepoint.h>
#include <linux/wait.h>

#include "mshv.h"

struct hvmod_waiter {
	wait_queue_head_t queue;
	int woken;
	/* The last thread that ran the VP. Changed under the queue's lock. */
	struct pid *thread;
	struct hrtimer alarm;
	bool rang;
	/* Signals that the thread handled since it last ran the VP. Only it writes this. */
	int handled;
	struct list_head others;
};

/* All waiters, under the lock. */
static LIST_HEAD(waiters);
static DEFINE_RAW_SPINLOCK(waiters_lock);
/* Where the kernel tells of signals that are delivered. */
static struct tracepoint *delivery;

/* The current thread is about to handle a signal. Interrupts are off. */
static void on_delivery(void *unused, int number, struct kernel_siginfo *info,
			struct k_sigaction *action)
{
	struct hvmod_waiter *waiter;

	if (action->sa.sa_handler == SIG_DFL || action->sa.sa_handler == SIG_IGN ||
	    list_empty(&waiters))
		return;
	raw_spin_lock(&waiters_lock);
	list_for_each_entry(waiter, &waiters, others) {
		if (READ_ONCE(waiter->thread) == task_pid(current))
			waiter->handled++;
	}
	raw_spin_unlock(&waiters_lock);
}

static void find_delivery(struct tracepoint *point, void *unused)
{
	if (!strcmp(point->name, "signal_deliver"))
		delivery = point;
}

/* Without tracepoints nothing is noted. */
void hvmod_waiters_init(void)
{
	for_each_kernel_tracepoint(find_delivery, NULL);
	if (delivery && tracepoint_probe_register(delivery, on_delivery, NULL))
		delivery = NULL;
}

void hvmod_waiters_exit(void)
{
	if (!delivery)
		return;
	tracepoint_probe_unregister(delivery, on_delivery, NULL);
	tracepoint_synchronize_unregister();
}

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
		raw_spin_lock_irq(&waiters_lock);
		list_add(&waiter->others, &waiters);
		raw_spin_unlock_irq(&waiters_lock);
	}
	return waiter;
}

void hvmod_waiter_free(struct hvmod_waiter *waiter)
{
	raw_spin_lock_irq(&waiters_lock);
	list_del(&waiter->others);
	raw_spin_unlock_irq(&waiters_lock);
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
	waiter->handled = 0;
	put_pid(old);
}

/* The thread goes to user space; if @interrupted, with the news that it has a signal to handle. */
void hvmod_waiter_leave(struct hvmod_waiter *waiter, bool interrupted)
{
	waiter->handled = interrupted ? -1 : 0;
}

/* Whether the thread, which did not change, handled a signal that it was not told of. */
bool hvmod_waiter_was_signalled(struct hvmod_waiter *waiter)
{
	bool signalled = waiter->handled > 0;

	waiter->handled = 0;
	return signalled;
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
