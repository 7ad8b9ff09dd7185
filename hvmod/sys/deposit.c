// SPDX-License-Identifier: GPL-2.0
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/pfn.h>
#include <linux/spinlock.h>

#include "sys.h"

/*
 * All pages that hvcore holds besides its block. They are nobody's in Linux, so
 * that their list_head is free.
 */
static LIST_HEAD(deposits);
static DEFINE_SPINLOCK(deposits_lock);

void hvmod_deposit_add(u64 spa, size_t pages)
{
	struct page *page = pfn_to_page(PHYS_PFN(spa));

	spin_lock(&deposits_lock);
	while (pages--)
		list_add(&page++->lru, &deposits);
	spin_unlock(&deposits_lock);
}

void hvmod_deposit_free(u64 spa)
{
	struct page *page = pfn_to_page(PHYS_PFN(spa));

	spin_lock(&deposits_lock);
	list_del(&page->lru);
	spin_unlock(&deposits_lock);
	__free_page(page);
}

void hvmod_deposit_free_all(void)
{
	struct page *page, *next;

	list_for_each_entry_safe(page, next, &deposits, lru) {
		list_del(&page->lru);
		__free_page(page);
	}
}
