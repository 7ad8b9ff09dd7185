// SPDX-License-Identifier: GPL-2.0
/* Ways to hidden memory other than a plain load and store, each with what came of it. */
#include <linux/mm.h>
#include <linux/string.h>
#include <linux/vmalloc.h>
#include <asm/asm.h>
#include <asm/fpu/api.h>
#include <asm/pgtable.h>
#include <asm/special_insns.h>

#include "attack.h"

/* Whether @text, which has %[at], faults. */
#define FAULTS(name, text, ...)						\
static bool name(void *at)						\
{									\
	asm goto("1: " text "\n"					\
		 _ASM_EXTABLE(1b, %l[fault])				\
		 : : [at] "r" (at), ##__VA_ARGS__ : "memory", "cc" : fault); \
	return false;							\
fault:									\
	return true;							\
}

FAULTS(increment, "lock incq (%[at])")
FAULTS(exchange, "lock btsl $3, (%[at])")
FAULTS(fxsave, "fxsave64 (%[at])")
FAULTS(xsave, "xsave64 (%[at])", "a" (-1), "d" (0))
FAULTS(nontemporal, "movnti %[value], (%[at])", [value] "r" (~0ul))
FAULTS(flush, "clflush (%[at])")
/* As if it faulted, where it is not 0. */
FAULTS(test, "cmpq $0, (%[at])\n\tjne %l[fault]")

static bool fill(void *at)
{
	unsigned long count = PAGE_SIZE;

	asm goto("1: rep stosb\n"
		 _ASM_EXTABLE(1b, %l[fault])
		 : "+D" (at), "+c" (count) : "a" (0x41) : "memory" : fault);
	return false;
fault:
	return true;
}

/* All of the page, by one instruction. */
static int copy_out(void *at, u64 *found)
{
	void *copy = kvmalloc(PAGE_SIZE, GFP_KERNEL), *to = copy;
	unsigned long count = PAGE_SIZE;
	int faults = 0;

	if (!copy)
		return -1;
	memset(copy, 0x41, PAGE_SIZE);
	asm goto("1: rep movsb\n"
		 _ASM_EXTABLE(1b, %l[fault])
		 : "+D" (to), "+S" (at), "+c" (count) : : "memory" : fault);
	*found = memchr_inv(copy, 0, PAGE_SIZE) != NULL;
	goto out;
fault:
	faults = 1;
out:
	kvfree(copy);
	return faults;
}

/* Eight bytes, half of which lie in the page before. */
static int straddle(struct page *hidden, bool write, u64 *found)
{
	struct page *mine = alloc_page(GFP_KERNEL | __GFP_ZERO), *pages[2] = { mine, hidden };
	char *mapped = mine ? vmap(pages, 2, VM_MAP, PAGE_KERNEL) : NULL;
	u64 *at = (u64 *)(mapped + PAGE_SIZE - 4);
	int faults = -1;

	if (mapped)
		faults = (write ? put_nofault(at, ~0ull) : copy_from_kernel_nofault(found, at, 8)) != 0;
	vunmap(mapped);
	if (mine)
		__free_page(mine);
	return faults;
}

/* A page table that is hidden: there is nothing behind it. */
static bool walk(struct page *hidden, u64 *found)
{
	/* Where Linux has a hole. */
	unsigned long at = 0xffff800000000000;
	pgd_t *pgd = (pgd_t *)__va(read_cr3_pa()) + pgd_index(at), before = *pgd;
	bool faults;

	if (pgtable_l5_enabled() || pgd_val(before))
		return false;
	preempt_disable();
	WRITE_ONCE(*pgd, __pgd(page_to_phys(hidden) | _PAGE_TABLE_NOENC));
	faults = copy_from_kernel_nofault(found, (void *)at, 8);
	WRITE_ONCE(*pgd, before);
	asm volatile("mov %%cr3, %%rax; mov %%rax, %%cr3" : : : "rax", "memory");
	preempt_enable();
	return faults;
}

static const struct {
	const char *name;
	bool (*faults)(void *at);
} ways[] = {
	{ "increment", increment }, { "bts", exchange }, { "fxsave", fxsave }, { "xsave", xsave },
	{ "movnti", nontemporal }, { "clflush", flush }, { "compare", test }, { "stos", fill },
};

/* Whether it faults, -1 if @name is no way or there is no memory for it; what was found. */
int use(const char *name, u64 spa, u64 *found)
{
	struct page *page = pfn_to_page(spa >> PAGE_SHIFT);
	int i, faults;
	void *mapped;

	if (!strcmp(name, "movs"))
		return copy_out(__va(spa & PAGE_MASK), found);
	if (!strcmp(name, "straddle"))
		return straddle(page, false, found);
	if (!strcmp(name, "wstraddle"))
		return straddle(page, true, found);
	if (!strcmp(name, "walk"))
		return walk(page, found);
	if (!strcmp(name, "uncached") || !strcmp(name, "combined")) {
		pgprot_t prot = name[0] == 'u' ? PAGE_KERNEL_NOCACHE : pgprot_writecombine(PAGE_KERNEL);

		mapped = vmap(&page, 1, VM_MAP, prot);
		if (!mapped)
			return -1;
		faults = copy_from_kernel_nofault(found, mapped, 8) || !put_nofault(mapped, 1);
		vunmap(mapped);
		return faults;
	}
	for (i = 0; i < ARRAY_SIZE(ways); i++)
		if (!strcmp(name, ways[i].name)) {
			kernel_fpu_begin();
			faults = ways[i].faults(__va(spa));
			kernel_fpu_end();
			return faults;
		}
	return -1;
}
