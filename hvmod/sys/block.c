// SPDX-License-Identifier: GPL-2.0
#include <linux/gfp.h>
#include <linux/mm.h>
#include <linux/nodemask.h>
#include <linux/topology.h>

#include "sys.h"

/* Cleared, physically contiguous pages; NULL if there are none. */
void *hvmod_block_alloc(size_t pages)
{
	struct page *page;
	void *block;

	if (pages <= MAX_ORDER_NR_PAGES) {
		block = alloc_pages_exact(pages << PAGE_SHIFT,
					  GFP_KERNEL | __GFP_ZERO | __GFP_NOWARN);
		if (block)
			return block;
	}
#ifdef CONFIG_CONTIG_ALLOC
	page = alloc_contig_pages(pages, GFP_KERNEL | __GFP_NOWARN, numa_mem_id(),
				  &node_states[N_MEMORY]);
	if (!page)
		return NULL;
	block = page_address(page);
	memset(block, 0, pages << PAGE_SHIFT);
	return block;
#else
	return NULL;
#endif
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
