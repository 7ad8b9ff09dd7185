// SPDX-License-Identifier: GPL-2.0
#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/mm.h>
#include <linux/vmalloc.h>

#include "sys.h"

/* A cleared page, charged to the caller's cgroup; NULL if there is none. */
void *hvmod_page_alloc(void)
{
	return (void *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
}

void hvmod_page_free(void *page)
{
	free_page((unsigned long)page);
}

/* Physical address of a byte of the kernel: linear mapping, vmalloc or module. */
u64 hvmod_spa(const void *address)
{
	if (is_vmalloc_or_module_addr(address))
		return page_to_phys(vmalloc_to_page(address)) + offset_in_page(address);
	return virt_to_phys((void *)address);
}
