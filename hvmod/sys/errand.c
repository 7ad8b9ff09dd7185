// SPDX-License-Identifier: GPL-2.0
/*
 * Having a CPU do something from which it might not come back: with a time limit.
 */
#include <linux/completion.h>
#include <linux/cpumask.h>
#include <linux/irqflags.h>
#include <linux/jiffies.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/workqueue.h>

#include "sys.h"

/* How long a CPU that was given up may still take, if it was on its way back. */
#define GRACE_MS 2000

struct errand {
	struct work_struct work;
	struct completion done;
	void (*run)(void *data);
	void *data;
};

static void execute(struct work_struct *work)
{
	struct errand *errand = container_of(work, struct errand, work);

	local_irq_disable();
	errand->run(errand->data);
	local_irq_enable();
	complete(&errand->done);
}

/*
 * Runs @run on @cpu with interrupts off, and waits for it from another CPU, if
 * there is one and this thread may go there. -ENXIO if @cpu is offline, -EBUSY
 * if it did not come to it within @ms: then it will not.
 *
 * -ETIMEDOUT if it began and did not end: then @data must be left alone for
 * ever. First @give_up is called, which should see to it that @cpu, if it ever
 * ends, leaves things as they were. If it was just about to end, and does so in
 * GRACE_MS, @give_up is called again, with false, and all is well.
 *
 * A CPU that comes back later finds this module's code: Linux frees that only
 * after an RCU grace period, which is not over before @cpu has been through
 * schedule(). Until then insmod and rmmod wait.
 *
 * The caller holds the hotplug lock, or is the thread of a hotplug callback.
 */
int hvmod_errand(u32 cpu, void (*run)(void *data), void *data, unsigned int ms,
		 void (*give_up)(void *about, bool up), void *about)
{
	struct errand *errand = kzalloc(sizeof(*errand), GFP_KERNEL);
	cpumask_var_t before, others;
	bool moved = false;
	int error = -ENOMEM;

	if (!errand)
		return -ENOMEM;
	if (!alloc_cpumask_var(&before, GFP_KERNEL))
		goto free_errand;
	if (!alloc_cpumask_var(&others, GFP_KERNEL))
		goto free_before;
	error = -ENXIO;
	if (!cpu_online(cpu))
		goto free_others;

	cpumask_copy(before, current->cpus_ptr);
	cpumask_andnot(others, cpu_online_mask, cpumask_of(cpu));
	if (!cpumask_empty(others))
		moved = !set_cpus_allowed_ptr(current, others);

	init_completion(&errand->done);
	errand->run = run;
	errand->data = data;
	INIT_WORK(&errand->work, execute);
	queue_work_on(cpu, system_highpri_wq, &errand->work);
	error = 0;
	if (!wait_for_completion_timeout(&errand->done, msecs_to_jiffies(ms))) {
		if (cancel_work(&errand->work)) {
			error = -EBUSY;
		} else {
			give_up(about, true);
			if (wait_for_completion_timeout(&errand->done, msecs_to_jiffies(GRACE_MS)))
				give_up(about, false);
			else
				error = -ETIMEDOUT;
		}
	}
	/* It must have left this module's code too. */
	if (!error)
		flush_work(&errand->work);
	else if (error == -ETIMEDOUT)
		errand = NULL;

	if (moved)
		set_cpus_allowed_ptr(current, before);
free_others:
	free_cpumask_var(others);
free_before:
	free_cpumask_var(before);
free_errand:
	kfree(errand);
	return error;
}
