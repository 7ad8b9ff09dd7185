// SPDX-License-Identifier: GPL-2.0
/*
 * Random hypercalls, on all CPUs at once, some with arguments that mean
 * something. Memory that they name is this module's own, and nobody but hvcore
 * and this file touches it: a hypercall that worked may hide it from Linux.
 */
#include <linux/completion.h>
#include <linux/cpu.h>
#include <linux/delay.h>
#include <linux/gfp.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "attack.h"

#define VICTIMS	1024
#define LARGES	2
#define LISTS	16

static struct page *victims[VICTIMS], *larges[LARGES];

struct worker {
	struct task_struct *task;
	struct completion done;
	u64 state, left;
	u64 calls[CALLS + 1], statuses[STATUSES], traps, given;
};

static u64 next(struct worker *w)
{
	w->state ^= w->state << 13;
	w->state ^= w->state >> 7;
	w->state ^= w->state << 17;
	return w->state;
}

static u64 below(struct worker *w, u64 limit)
{
	return next(w) % limit;
}

static u64 victim(struct worker *w)
{
	return page_to_phys(victims[below(w, VICTIMS)]);
}

/* The first victims are lists, too. */
static struct page *list(struct worker *w)
{
	return victims[below(w, LISTS)];
}

/* A number that is somehow interesting. */
static u64 odd(struct worker *w)
{
	static const u64 edges[] = {
		0, 1, 2, 7, 63, 64, 65, 511, 512, 513, 4095, 4096, 0xfffff000, 0xfee00000,
		1ull << 32, 1ull << 39, (1ull << 47) - 4096, 1ull << 48, (1ull << 52) - 4096,
		1ull << 52, 1ull << 63, ~0ull, ~0xfffull, ~0ull >> 1,
	};

	switch (below(w, 4)) {
	case 0:
		return edges[below(w, ARRAY_SIZE(edges))];
	case 1:
		return next(w) >> below(w, 64);
	case 2:
		return victim(w) + (below(w, 8) ? 0 : below(w, 4096));
	default:
		return below(w, 16);
	}
}

/* The number of a partition: most are small. */
static u64 partition(struct worker *w)
{
	return below(w, 16) ? 1 + below(w, 4) : odd(w);
}

static void fill_list(struct worker *w, struct page *page)
{
	u64 *items = page_address(page);
	int i;

	/* What hvcore has taken cannot be written: that is as it should be. */
	for (i = 0; i < 32; i++)
		if (put_nofault(items + i, !below(w, 32) ? odd(w) :
				!below(w, 16) ? page_to_phys(larges[below(w, LARGES)]) : victim(w)))
			break;
}

static void once(struct worker *w)
{
	u64 number = below(w, CALLS), a[5];
	struct page *page = list(w);
	struct answer answer;
	int i;

	for (i = 0; i < 5; i++)
		a[i] = odd(w);
	a[0] = partition(w);
	/* Most calls get what they expect, in most places. */
	switch (number) {
	case CALL_UNLOAD:
		/* The root may do that, and then nothing is left to be tried. */
		number = odd(w);
		if (number == CALL_UNLOAD)
			return;
		break;
	case CALL_DEPOSIT:
		if (!below(w, 256))
			a[0] = 0;
		fallthrough;
	case CALL_WITHDRAW:
		fill_list(w, page);
		a[1] = page_to_phys(page);
		a[2] = below(w, 8) ? 1 + below(w, 24) : odd(w);
		break;
	case CALL_PARTITION_DESTROY:
		/* Rarely, or none ever gets far. */
		if (below(w, 8))
			return;
		break;
	case CALL_GPA_MAP:
		fill_list(w, page);
		if (below(w, 8))
			a[1] = below(w, 32) << 12;
		a[2] = page_to_phys(page);
		a[3] = below(w, 8) ? 1 + below(w, 8) : odd(w);
		a[4] = below(w, 16) ? below(w, 16) : odd(w);
		break;
	case CALL_GPA_UNMAP:
		if (below(w, 8))
			a[1] = below(w, 32) << 12;
		a[2] = below(w, 8) ? 1 + below(w, 8) : odd(w);
		break;
	case CALL_VP_CREATE:
	case CALL_VP_RUN:
		a[1] = below(w, 8) ? below(w, 2) : odd(w);
		a[2] = victim(w);
		break;
	case CALL_VP_GET:
	case CALL_VP_SET:
		a[1] = below(w, 8) ? below(w, 2) : odd(w);
		a[2] = below(w, 8) ? below(w, 4) : odd(w);
		a[3] = page_to_phys(page);
		a[4] = below(w, 8) ? 1ull << below(w, 11) : odd(w);
		break;
	default:
		break;
	}
	answer = vmcall(number, a[0], a[1], a[2], a[3], a[4]);
	w->calls[min_t(u64, number, CALLS)]++;
	if (answer.trap)
		w->traps++;
	else
		w->statuses[min_t(u64, answer.status, STATUSES - 1)]++;
	if (number == CALL_DEPOSIT && !a[0] && !answer.trap && answer.status == STATUS_OK)
		w->given += a[2];
}

static int work(void *data)
{
	struct worker *w = data;

	while (w->left && !w->traps) {
		once(w);
		w->left--;
		if (!(w->left % 64))
			cond_resched();
	}
	complete(&w->done);
	while (!kthread_should_stop())
		msleep(10);
	return 0;
}

static void pass(void *unused)
{
	vmcall_no_fpu(CALL_SYNC, 0, 0, 0, 0, 0);
}

static u64 call_synced(u64 number, u64 a, u64 b, u64 c, u64 *value)
{
	struct answer answer;
	int tries;

	for (tries = 0; tries < 100; tries++) {
		answer = vmcall(number, a, b, c, 0, 0);
		if (answer.trap || answer.status != STATUS_NEED_SYNC)
			break;
		on_each_cpu(pass, NULL, 1);
	}
	*value = answer.value;
	return answer.trap ? STATUS_CORE_DEAD : answer.status;
}

/* Destroys what the hypercalls made. Partitions that could not be. */
static int tear_down(void)
{
	struct page *page = alloc_page(GFP_KERNEL);
	u64 number, value, status;
	int left = 0;

	if (!page)
		return -1;
	for (number = 1; number <= MAX_PARTITIONS; number++) {
		status = call_synced(CALL_PARTITION_DESTROY, number, 0, 0, &value);
		if (status == 3)
			continue;
		do {
			status = call_synced(CALL_WITHDRAW, number, page_to_phys(page), PAGE_ITEMS,
					     &value);
		} while (status == STATUS_OK && value);
		left += status != STATUS_OK;
	}
	on_each_cpu(pass, NULL, 1);
	__free_page(page);
	return left;
}

/* Pages of this module that Linux cannot use. */
static u64 hidden(void)
{
	u64 word, count = 0;
	int i;

	for (i = 0; i < VICTIMS; i++) {
		word = 0x5a5a5a5a00000000ull + i;
		count += put_nofault(page_address(victims[i]), word) ||
			 copy_from_kernel_nofault(&word, page_address(victims[i]), 8) ||
			 word != 0x5a5a5a5a00000000ull + i;
	}
	for (i = 0; i < LARGES << 9; i++)
		count += put_nofault(page_address(larges[i >> 9] + (i & 511)), i) != 0;
	return count;
}

static int take_memory(void)
{
	int i;

	for (i = 0; i < VICTIMS; i++)
		if (!victims[i])
			victims[i] = alloc_page(GFP_KERNEL | __GFP_ZERO);
	for (i = 0; i < LARGES; i++)
		if (!larges[i])
			larges[i] = alloc_pages(GFP_KERNEL | __GFP_ZERO, 9);
	for (i = 0; i < VICTIMS; i++)
		if (!victims[i])
			return -ENOMEM;
	return larges[0] && larges[LARGES - 1] ? 0 : -ENOMEM;
}

int fuzz(u64 seed, u64 count, struct seq_buf *out)
{
	u64 calls[CALLS + 1] = { 0 }, statuses[STATUSES] = { 0 }, traps = 0, sum = 0, lost;
	static u64 given;
	struct worker *workers;
	int cpu, i, left, error = take_memory();

	if (error)
		return error;
	workers = kcalloc(nr_cpu_ids, sizeof(*workers), GFP_KERNEL);
	if (!workers)
		return -ENOMEM;
	cpus_read_lock();
	for_each_online_cpu(cpu) {
		struct worker *w = &workers[cpu];

		w->state = (seed + 1) * 0x9e3779b97f4a7c15ull + cpu;
		w->left = count / num_online_cpus();
		init_completion(&w->done);
		w->task = kthread_create_on_cpu(work, w, cpu, "hvattack/%u");
		if (IS_ERR(w->task)) {
			w->task = NULL;
			continue;
		}
		wake_up_process(w->task);
	}
	cpus_read_unlock();
	for (cpu = 0; cpu < nr_cpu_ids; cpu++) {
		struct worker *w = &workers[cpu];

		if (!w->task)
			continue;
		wait_for_completion(&w->done);
		kthread_stop(w->task);
		for (i = 0; i <= CALLS; i++)
			sum += w->calls[i], calls[i] += w->calls[i];
		for (i = 0; i < STATUSES; i++)
			statuses[i] += w->statuses[i];
		traps += w->traps;
		given += w->given;
	}
	kfree(workers);
	left = tear_down();
	lost = hidden();
	seq_buf_printf(out, "%llu hypercalls, seed %llu, traps %llu, partitions left %d, "
		       "pages hidden %llu of %llu given\n", sum, seed, traps, left, lost, given);
	seq_buf_puts(out, "by number:");
	for (i = 0; i <= CALLS; i++)
		seq_buf_printf(out, " %llu", calls[i]);
	seq_buf_puts(out, "\nby status:");
	for (i = 0; i < STATUSES; i++)
		seq_buf_printf(out, " %llu", statuses[i]);
	seq_buf_puts(out, "\n");
	return 0;
}

/* Only when hvmod is gone is all of this Linux's again. */
void fuzz_exit(void)
{
	int i;

	for (i = 0; i < VICTIMS; i++)
		if (victims[i] && !put_nofault(page_address(victims[i]), 0))
			__free_page(victims[i]);
	for (i = 0; i < LARGES; i++)
		if (larges[i] && !put_nofault(page_address(larges[i]), 0))
			__free_pages(larges[i], 9);
}
