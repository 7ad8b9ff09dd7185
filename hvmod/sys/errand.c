// SPDX-License-Identifier: GPL-2.0
/*
 * Having a CPU do something from which it might not come back: with a time limit.
 */
#include <linux/completion.h>
#include <linux/cpumask.h>
#include <linux/jiffies.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/smp.h>

#include "sys.h"

struct errand {
	call_single_data_t csd;
	struct completion done;
	void (*run)(void *data);
	void *data;
};

static void execute(void *info)
{
	struct errand *errand = info;

	errand->run(errand->data);
	complete(&errand->done);
}

/*
 * Runs @run on @cpu with interrupts off, and waits for it from another CPU, if
 * there is one and this thread may go there. -ENXIO if @cpu is offline.
 * -ETIMEDOUT after @ms: then @data must be left alone for ever.
 *
 * The caller holds the hotplug lock, or is the thread of a hotplug callback.
 */
int hvmod_errand(u32 cpu, void (*run)(void *data), void *data, unsigned int ms)
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

	cpumask_copy(before, current->cpus_ptr);
	cpumask_andnot(others, cpu_online_mask, cpumask_of(cpu));
	if (!cpumask_empty(others))
		moved = !set_cpus_allowed_ptr(current, others);

	init_completion(&errand->done);
	errand->run = run;
	errand->data = data;
	INIT_CSD(&errand->csd, execute, errand);
	error = smp_call_function_single_async(cpu, &errand->csd);
	if (!error && !wait_for_completion_timeout(&errand->done, msecs_to_jiffies(ms))) {
		error = -ETIMEDOUT;
		/* That CPU may still come to it. */
		errand = NULL;
	}

	if (moved)
		set_cpus_allowed_ptr(current, before);
	free_cpumask_var(others);
free_before:
	free_cpumask_var(before);
free_errand:
	kfree(errand);
	return error;
}
