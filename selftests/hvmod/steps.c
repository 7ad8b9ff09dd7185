// SPDX-License-Identifier: GPL-2.0
/*
 * steps COUNT: single steps through so many CPUIDs, each of which exits. Prints how many traps
 * there were: the same number each time, whatever else happens to the processor.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static volatile unsigned long traps;

static void count(int signal)
{
	traps++;
}

int main(int argc, char **argv)
{
	unsigned int left = argc > 1 ? atoi(argv[1]) : 1;

	signal(SIGTRAP, count);
	asm volatile("lea -128(%%rsp), %%rsp\n"
		     "pushf\n"
		     "orq $0x100, (%%rsp)\n"
		     "popf\n"
		     "1: xor %%eax, %%eax\n"
		     "cpuid\n"
		     "dec %0\n"
		     "jnz 1b\n"
		     "pushf\n"
		     "andq $~0x100, (%%rsp)\n"
		     "popf\n"
		     "lea 128(%%rsp), %%rsp\n"
		     : "+S"(left) : : "rax", "rbx", "rcx", "rdx", "memory", "cc");
	printf("%lu\n", traps);
	return 0;
}
