// SPDX-License-Identifier: GPL-2.0
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/pfn.h>
#include <linux/rculist.h>
#include <linux/sched.h>
#include <linux/spinlock.h>

#include "sys.h"

/*
 * All pages that hvcore holds besides its block. They are nobody's in Linux, so
 * that their list_head is free.
 */
static LIST_HEAD(deposits);
/* Those of them that are private memory of partitions. */
static LIST_HEAD(privates);
/* Those that it gave back, but that LPs may still see zeros in place of. */
static LIST_HEAD(taken);
static DEFINE_SPINLOCK(deposits_lock);

void hvmod_deposit_add(u64 spa, size_t pages, bool private)
{
	struct page *page = pfn_to_page(PHYS_PFN(spa));

	spin_lock(&deposits_lock);
	/* In order: hvmod_deposit_scrub() can come at any time. */
	while (pages--)
		list_add_rcu(&page++->lru, private ? &privates : &deposits);
	spin_unlock(&deposits_lock);
}

void hvmod_deposit_take(u64 spa)
{
	struct page *page = pfn_to_page(PHYS_PFN(spa));

	spin_lock(&deposits_lock);
	list_move(&page->lru, &taken);
	spin_unlock(&deposits_lock);
}

static __always_inline void clear(struct page *page)
{
	void *to = page_address(page);
	long count = PAGE_SIZE / sizeof(long);

	asm volatile("rep stosq" : "+D"(to), "+c"(count) : "a"(0) : "memory");
}

/*
 * hvcore is dead, and no CPU is in it any more: nothing hides private memory from
 * here on, so nothing of it may be left. Interrupts are off, also on all other
 * CPUs, one of which may be anywhere in the functions of this file.
 */
noinstr void hvmod_deposit_scrub(void)
{
	struct page *page;

	list_for_each_entry(page, &privates, lru)
		clear(page);
}

static void free_pages_of(struct list_head *list)
{
	struct page *page, *next;

	list_for_each_entry_safe(page, next, list, lru) {
		list_del(&page->lru);
		__free_page(page);
		cond_resched();
	}
}

void hvmod_deposit_free_taken(void (*sync)(void))
{
	LIST_HEAD(list);

	spin_lock(&deposits_lock);
	list_splice_init(&taken, &list);
	spin_unlock(&deposits_lock);
	if (list_empty(&list))
		return;
	sync();
	free_pages_of(&list);
}

void hvmod_deposit_free_all(void)
{
	struct page *page;

	/* If hvcore died and a CPU did not leave it in time they were not. */
	list_for_each_entry(page, &privates, lru)
		clear(page);
	free_pages_of(&privates);
	free_pages_of(&taken);
	free_pages_of(&deposits);
}
