// SPDX-License-Identifier: GPL-2.0
/* A hypercall from ring 3 is an undefined instruction, whatever its number. Status 0: it was. */
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>

static sigjmp_buf back;

static void on_signal(int number)
{
	siglongjmp(back, number);
}

int main(void)
{
	static const uint64_t numbers[] = { 0, 1, 2, 4, 5, 9, 0x1000, UINT64_MAX };
	unsigned int i;

	signal(SIGILL, on_signal);
	signal(SIGSEGV, on_signal);
	for (i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		uint64_t rax = numbers[i];
		int got = sigsetjmp(back, 1);

		if (!got) {
			asm volatile("vmcall" : "+a"(rax) : "D"(0), "S"(0), "d"(0) : "memory");
			printf("VMCALL %#lx gave %#lx\n", numbers[i], rax);
			return 1;
		}
		if (got != SIGILL) {
			printf("VMCALL %#lx: signal %d\n", numbers[i], got);
			return 1;
		}
	}
	return 0;
}
