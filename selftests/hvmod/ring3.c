// SPDX-License-Identifier: GPL-2.0
/*
 * ring3 vmcall: a hypercall from ring 3 is an undefined instruction, whatever its number.
 * ring3 vmxoff: and so is that.
 * ring3 xsetbv: this one is for ring 0 only, with a value that is there already too.
 * ring3 hidden SPA: that memory, which the kernel's attacker maps here, reads as zeros, for the
 *	kernel too; what writes it or executes it is SIGSEGV, and EFAULT for the kernel.
 * Status 0: it is so.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096

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

static void store(uint64_t at)
{
	*(volatile uint64_t *)at = 1;
}

static void increment(uint64_t at)
{
	asm volatile("lock incq (%0)" : : "r"(at) : "memory", "cc");
}

static void fill(uint64_t at)
{
	asm volatile("rep stosb" : : "D"(at), "c"(PAGE), "a"(1) : "memory");
}

static void fxsave(uint64_t at)
{
	asm volatile("fxsave64 (%0)" : : "r"(at) : "memory");
}

static void execute(uint64_t at)
{
	((void (*)(void))at)();
}

static int hidden(uint64_t spa)
{
	static void (*const ways[])(uint64_t) = { store, increment, fill, fxsave, execute };
	int file = open("/sys/kernel/debug/hvattack", O_RDWR), zero = open("/dev/zero", O_RDWR), ends[2];
	int itself = open("/proc/self/exe", O_RDONLY), bad = 0;
	uint8_t *own = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint8_t *at = mmap(own + PAGE, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_SHARED | MAP_FIXED,
			   file, spa);
	static uint8_t copy[PAGE], zeros[PAGE];
	unsigned int i;

	if (at == MAP_FAILED || zero < 0 || itself < 0 || pipe(ends)) {
		perror("hvattack");
		return 2;
	}
	for (i = 0; i < sizeof(ways) / sizeof(ways[0]); i++)
		if (!gives(SIGSEGV, ways[i], (uint64_t)at))
			printf("way %u\n", i), bad = 1;
	/* Half of it lies in a page that could be written. */
	if (!gives(SIGSEGV, store, (uint64_t)(at - 4)) || at[-4])
		printf("a store over the end of a page\n"), bad = 1;
	if (read(itself, at, 64) != -1 || errno != EFAULT || read(zero, at, 64) != -1 || errno != EFAULT)
		printf("the kernel writes it\n"), bad = 1;
	memset(copy, 1, PAGE);
	if (write(ends[1], at, PAGE) != PAGE || read(ends[0], copy, PAGE) != PAGE ||
	    memcmp(copy, zeros, PAGE) || memcmp(at, zeros, PAGE))
		printf("it does not read as zeros\n"), bad = 1;
	return bad;
}

int main(int argc, char **argv)
{
	static const uint64_t numbers[] = { 0, 1, 2, 4, 5, 9, 0x1000, UINT64_MAX };
	unsigned int i;

	if (argc < 2)
		return 2;
	signal(SIGILL, on_signal);
	signal(SIGSEGV, on_signal);
	if (argc == 3 && !strcmp(argv[1], "hidden"))
		return hidden(strtoull(argv[2], NULL, 0));
	if (!strcmp(argv[1], "vmxoff"))
		return !gives(SIGILL, vmxoff, 0);
	if (!strcmp(argv[1], "xsetbv"))
		return !gives(SIGSEGV, xsetbv, 0);
	for (i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		if (!gives(SIGILL, vmcall, numbers[i]))
			return 1;
	return 0;
}
