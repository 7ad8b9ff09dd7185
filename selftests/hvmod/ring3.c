// SPDX-License-Identifier: GPL-2.0
/*
 * ring3 vmcall: a hypercall from ring 3 is an undefined instruction, whatever its number.
 * ring3 vmxoff: and so is that.
 * ring3 xsetbv: this one is for ring 0 only, with a value that is there already too.
 * Status 0: it is so.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static sigjmp_buf back;

static void on_signal(int number)
{
	siglongjmp(back, number);
}

static void vmcall(uint64_t rax)
{
	asm volatile("vmcall" : "+a"(rax) : "D"(0), "S"(0), "d"(0) : "memory");
}

static void vmxoff(uint64_t unused)
{
	asm volatile("vmxoff" ::: "cc", "memory");
}

static void xsetbv(uint64_t unused)
{
	uint32_t eax, edx;

	asm volatile("xgetbv" : "=a"(eax), "=d"(edx) : "c"(0));
	asm volatile("xsetbv" :: "a"(eax), "d"(edx), "c"(0));
}

/* Whether that gives the signal, and no other and not none. */
static int gives(int wanted, void (*run)(uint64_t), uint64_t argument)
{
	int got = sigsetjmp(back, 1);

	if (!got)
		run(argument);
	if (got != wanted)
		printf("signal %d with %#lx, not %d\n", got, argument, wanted);
	return got == wanted;
}

int main(int argc, char **argv)
{
	static const uint64_t numbers[] = { 0, 1, 2, 4, 5, 9, 0x1000, UINT64_MAX };
	unsigned int i;

	if (argc != 2)
		return 2;
	signal(SIGILL, on_signal);
	signal(SIGSEGV, on_signal);
	if (!strcmp(argv[1], "vmxoff"))
		return !gives(SIGILL, vmxoff, 0);
	if (!strcmp(argv[1], "xsetbv"))
		return !gives(SIGSEGV, xsetbv, 0);
	for (i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		if (!gives(SIGILL, vmcall, numbers[i]))
			return 1;
	return 0;
}
