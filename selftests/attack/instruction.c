// SPDX-License-Identifier: GPL-2.0
/* Instructions that are not for the root, each with the exception it gets. */
#include <linux/irqflags.h>
#include <linux/string.h>
#include <linux/types.h>
#include <asm/asm.h>
#include <asm/special_insns.h>

#include "attack.h"

/* Executes @text after @before; the exception that it gets, 0 if none. */
#define TRY(text, ...)	TRY_AFTER("", text, __VA_ARGS__)
#define TRY_AFTER(before, text, ...)					\
({									\
	u32 __trap = 0;							\
	asm volatile(before "\n"					\
		     "1: " text "\n"					\
		     "jmp 3f\n"						\
		     "2: mov %%eax, %[trap]\n"				\
		     "3:\n"						\
		     _ASM_EXTABLE_FAULT(1b, 2b)				\
		     : [trap] "+&r" (__trap) : __VA_ARGS__		\
		     : "rax", "rbx", "rcx", "rdx", "cc", "memory");	\
	__trap;								\
})

static int rdmsr_try(u32 index, u64 *value)
{
	u32 trap = 0, low = 0, high = 0;

	asm volatile("1: rdmsr\n"
		     "jmp 3f\n"
		     "2: mov %%eax, %[trap]\n"
		     "3:\n"
		     _ASM_EXTABLE_FAULT(1b, 2b)
		     : [trap] "+&r" (trap), "+a" (low), "=d" (high) : "c" (index));
	*value = (u64)high << 32 | low;
	return trap;
}

/* WRMSR and XSETBV take their operands alike: @index, and @value in two halves. */
#define TRY_HALVES(text, index, value)					\
({									\
	u64 __value = (value);						\
	TRY_AFTER("mov %k[low], %%eax; mov %k[high], %%edx; mov %k[msr], %%ecx", text, \
		  [low] "r" (__value), [high] "r" (__value >> 32), [msr] "r" (index)); \
})

static unsigned long cr4_now(void)
{
	unsigned long value;

	asm volatile("mov %%cr4, %0" : "=r" (value));
	return value;
}

/* Puts back what was there. */
static int cr4_try(u64 set)
{
	unsigned long before = cr4_now();
	int trap = TRY("mov %[value], %%cr4", [value] "r" (before | set));

	asm volatile("mov %0, %%cr4" : : "r" (before) : "memory");
	return trap;
}

int run_instruction(const char *name, u64 a, u64 b, u64 *result)
{
	u64 operand[2] = { a, b };
	u64 zero[2] = { 0 };
	unsigned long flags;
	int trap = -1;

	local_irq_save(flags);
	if (!strcmp(name, "rdmsr"))
		trap = rdmsr_try(a, result);
	else if (!strcmp(name, "wrmsr"))
		trap = TRY_HALVES("wrmsr", a, b);
	else if (!strcmp(name, "xsetbv"))
		trap = TRY_HALVES("xsetbv", a, b);
	else if (!strcmp(name, "cr4"))
		trap = cr4_try(a);
	else if (!strcmp(name, "readcr4"))
		*result = cr4_now(), trap = 0;
	else if (!strcmp(name, "vmxon"))
		trap = TRY("vmxon %[op]", [op] "m" (operand[0]));
	else if (!strcmp(name, "vmxoff"))
		trap = TRY("vmxoff", "m" (zero));
	else if (!strcmp(name, "vmclear"))
		trap = TRY("vmclear %[op]", [op] "m" (operand[0]));
	else if (!strcmp(name, "vmptrld"))
		trap = TRY("vmptrld %[op]", [op] "m" (operand[0]));
	else if (!strcmp(name, "vmptrst"))
		trap = TRY("vmptrst %[op]", [op] "m" (operand[0]));
	else if (!strcmp(name, "vmread"))
		trap = TRY_AFTER("mov %[field], %%rcx", "vmread %%rcx, %%rcx", [field] "r" (a));
	else if (!strcmp(name, "vmwrite"))
		trap = TRY("vmwrite %[value], %[field]", [field] "r" (a), [value] "r" (b));
	else if (!strcmp(name, "vmlaunch"))
		trap = TRY("vmlaunch", "m" (zero));
	else if (!strcmp(name, "vmresume"))
		trap = TRY("vmresume", "m" (zero));
	else if (!strcmp(name, "invept"))
		trap = TRY("invept %[op], %[type]", [op] "m" (zero), [type] "r" (2ul));
	else if (!strcmp(name, "invvpid"))
		trap = TRY("invvpid %[op], %[type]", [op] "m" (zero), [type] "r" (2ul));
	else if (!strcmp(name, "vmfunc"))
		trap = TRY_AFTER("xor %%eax, %%eax; xor %%ecx, %%ecx", "vmfunc", "m" (zero));
	else if (!strcmp(name, "getsec"))
		trap = TRY_AFTER("xor %%eax, %%eax; xor %%ebx, %%ebx", ".byte 0x0f, 0x37", "m" (zero));
	else if (!strcmp(name, "invd"))
		trap = TRY("invd", "m" (zero));
	local_irq_restore(flags);
	return trap;
}
