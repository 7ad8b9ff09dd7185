// SPDX-License-Identifier: GPL-2.0
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/pfn.h>
#include <linux/sched.h>
#include <linux/spinlock.h>

#include "sys.h"

/*
 * All pages that hvcore holds besides its block. They are nobody's in Linux, so
 * that their list_head is free.
 */
static LIST_HEAD(deposits);
/* Those that it gave back, but that LPs may still see zeros in place of. */
static LIST_HEAD(taken);
static DEFINE_SPINLOCK(deposits_lock);

void hvmod_deposit_add(u64 spa, size_t pages)
{
	struct page *page = pfn_to_page(PHYS_PFN(spa));

	spin_lock(&deposits_lock);
	while (pages--)
		list_add(&page++->lru, &deposits);
	spin_unlock(&deposits_lock);
}

void hvmod_deposit_take(u64 spa)
{
	struct page *page = pfn_to_page(PHYS_PFN(spa));

	spin_lock(&deposits_lock);
	list_move(&page->lru, &taken);
	spin_unlock(&deposits_lock);
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
	free_pages_of(&taken);
	free_pages_of(&deposits);
}
