// SPDX-License-Identifier: GPL-2.0
/*
 * User memory that a partition uses.
 */

#include <linux/io.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/sched/mm.h>
#include <linux/uaccess.h>

#include "mshv.h"

/*
 * Counts @count pages as locked by this program, against RLIMIT_MEMLOCK unless it
 * has CAP_IPC_LOCK. What is more than the machine has is refused before anything
 * is allocated for it.
 */
struct mm_struct *hvmod_charge(unsigned long count)
{
	struct mm_struct *mm = current->mm;
	int ret = count > totalram_pages() ? -ENOMEM : account_locked_vm(mm, count, true);

	if (ret)
		return ERR_PTR(ret);

	mmgrab(mm);
	return mm;
}

/* The program may be gone. */
void hvmod_uncharge(struct mm_struct *mm, unsigned long count)
{
	account_locked_vm(mm, count, false);
	mmdrop(mm);
}

/* Whether this is a thread of the program. */
bool hvmod_is_charged(struct mm_struct *mm)
{
	return current->mm == mm;
}

/* Pins at most @count pages; may pin fewer, or none and return an error. */
long hvmod_pin(unsigned long address, unsigned long count, struct page **pages)
{
	return pin_user_pages_fast(address, min(count, (unsigned long)INT_MAX),
				   FOLL_WRITE | FOLL_LONGTERM, pages);
}

void hvmod_unpin(struct page **pages, unsigned long count, bool dirty)
{
	unpin_user_pages_dirty_lock(pages, count, dirty);
}

u64 hvmod_page_spa(struct page *page)
{
	return page_to_phys(page);
}

void *hvmod_page_address(struct page *page)
{
	return page_address(page);
}

/* 0: not the program's; 1: memory; 2: a device's. */
int hvmod_user_memory_kind(unsigned long address, unsigned long size)
{
	struct mm_struct *mm = current->mm;
	struct vm_area_struct *vma;
	int kind = 0;

	if (!mm || !access_ok((const void __user *)address, size))
		return 0;

	mmap_read_lock(mm);
	vma = vma_lookup(mm, address);
	if (vma)
		kind = vma->vm_flags & (VM_IO | VM_PFNMAP) ? 2 : 1;
	mmap_read_unlock(mm);
	return kind;
}
