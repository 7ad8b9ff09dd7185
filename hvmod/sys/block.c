// SPDX-License-Identifier: GPL-2.0
#include <linux/gfp.h>
#include <linux/mm.h>
#include <linux/nodemask.h>
#include <linux/topology.h>

#include "sys.h"

/*
 * Cleared, physically contiguous pages; NULL if there are none. account: charge
 * them to the caller's cgroup.
 */
void *hvmod_block_alloc(size_t pages, bool account)
{
	/*
	 * Who accounts takes many, and can do with smaller ones: no reclaim for
	 * the sake of size. In the end it is told that there is no more, before
	 * others are killed for it.
	 */
	gfp_t gfp = !account ? GFP_KERNEL :
		    GFP_KERNEL_ACCOUNT | (pages == 1 ? __GFP_RETRY_MAYFAIL : __GFP_NORETRY);
	struct page *page;
	void *block;

	if (pages <= MAX_ORDER_NR_PAGES) {
		block = alloc_pages_exact(pages << PAGE_SHIFT, gfp | __GFP_ZERO | __GFP_NOWARN);
		if (block)
			return block;
	}
	/* These cannot be charged. */
	if (account)
		return NULL;
	page = alloc_contig_pages(pages, gfp | __GFP_NOWARN, numa_mem_id(), &node_states[N_MEMORY]);
	if (!page)
		return NULL;
	block = page_address(page);
	memset(block, 0, pages << PAGE_SHIFT);
	return block;
}

/* Pages that Linux could give without swapping. */
u64 hvmod_pages_available(void)
{
	return max(si_mem_available(), 0L);
}

/*
 * Either kind of allocation is a run of single pages, each with a reference of
 * its own.
 */
void hvmod_block_free(void *block, size_t pages)
{
	struct page *page = virt_to_page(block);

	while (pages--)
		__free_page(page++);
}
