// SPDX-License-Identifier: GPL-2.0
/*
 * What exits cost.
 *
 *   hvbench exits kvm|hvmod      run the guest, print a line for each operation
 *   hvbench until TEXT COMMAND   pass on what COMMAND prints (to stderr) until
 *                                it is TEXT, print TSC ticks since the start
 *   hvbench boot KERNEL INITRD CMDLINE MIB   boot Linux under KVM
 *
 * Lines are tab-separated. exits: name, samples, least, median, 99th percentile,
 * VM exits of the guest and of the root for each operation; or name and "fault"
 * with the vector.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest.h"
#include "hvbench.h"

extern const char guest_start[], guest_end[];

static const char *const names[OP_COUNT] = {
	[OP_EMPTY] = "empty",
	[OP_CPUID] = "cpuid",
	[OP_VMCALL] = "hypercall",
	[OP_WRMSR] = "wrmsr",
	[OP_OUT] = "port-out",
	[OP_IN] = "port-in",
	[OP_MMIO] = "mmio-read",
};

void die(const char *format, ...)
{
	va_list arguments;

	fputs("hvbench: ", stderr);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
	exit(1);
}

void *guest_memory(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (memory == MAP_FAILED)
		die("%zu bytes for the guest: %s", size, strerror(errno));
	return memory;
}

static int ascending(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static void report(const char *ram, int operation, struct exits before, struct exits after)
{
	uint32_t *samples = (uint32_t *)(ram + GUEST_SAMPLES + operation * GUEST_STRIDE) + WARM_UP;
	const int count = SAMPLES - WARM_UP;

	qsort(samples, count, sizeof(*samples), ascending);
	printf("%s\t%d\t%u\t%u\t%u\t%.2f\t%.2f\n", names[operation], count, samples[0],
	       samples[count / 2], samples[count * 99 / 100],
	       (double)(after.guest - before.guest) / SAMPLES,
	       (double)(after.root - before.root) / SAMPLES);
}

static int exits(const struct interface *interface)
{
	char *ram = guest_memory(GUEST_RAM), *reset = guest_memory(0x1000);
	struct exits before = { 0 };
	struct event event;
	int operation = -1;

	memcpy(ram + GUEST_ENTRY, guest_start, guest_end - guest_start);
	/* ljmp $0, $GUEST_ENTRY, where processors begin */
	memcpy(reset + 0xff0, (uint8_t[]){ 0xea, GUEST_ENTRY & 0xff, GUEST_ENTRY >> 8, 0, 0 }, 5);
	interface->create(ram, reset);
	for (;;) {
		interface->run(0x12345678, &event);
		if (event.kind != EVENT_OUT || event.port == PORT_MEASURED)
			continue;
		if (event.port == PORT_FAULT) {
			printf("%s\tfault\t%u\n", names[operation], event.value);
			operation = -1;
		} else if (event.port == PORT_BEGIN) {
			struct exits now = interface->exits();

			if (operation >= 0)
				report(ram, operation, before, now);
			if (event.value >= OP_COUNT)
				return 0;
			operation = event.value;
			before = interface->exits();
		}
	}
}

/* Runs the command until its output has the text; says how many ticks it took. */
static int until(const char *text, char **argv)
{
	static char output[1 << 20];
	size_t length = 0;
	uint64_t begin, end;
	int ends[2], status;
	pid_t child;

	if (pipe(ends))
		die("pipe: %s", strerror(errno));
	begin = tsc();
	child = fork();
	if (child < 0)
		die("fork: %s", strerror(errno));
	if (!child) {
		dup2(ends[1], 1);
		close(ends[0]);
		close(ends[1]);
		execvp(argv[0], argv);
		die("%s: %s", argv[0], strerror(errno));
	}
	close(ends[1]);
	for (;;) {
		ssize_t got = read(ends[0], output + length, sizeof(output) - 1 - length);

		if (got <= 0)
			die("%s ended without saying '%s'", argv[0], text);
		length += got;
		output[length] = 0;
		end = tsc();
		fwrite(output + length - got, 1, got, stderr);
		if (strstr(output, text))
			break;
		if (length == sizeof(output) - 1)
			die("%s said too much", argv[0]);
	}
	printf("%llu\n", (unsigned long long)(end - begin));
	kill(child, SIGTERM);
	waitpid(child, &status, 0);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "exits") && !strcmp(argv[2], "kvm"))
		return exits(&kvm);
	if (argc == 3 && !strcmp(argv[1], "exits") && !strcmp(argv[2], "hvmod"))
		return exits(&mshv);
	if (argc > 3 && !strcmp(argv[1], "until"))
		return until(argv[2], argv + 3);
	if (argc == 6 && !strcmp(argv[1], "boot"))
		return boot_kvm(argc - 2, argv + 2);
	fputs("usage: hvbench exits kvm|hvmod\n"
	      "       hvbench until TEXT COMMAND...\n"
	      "       hvbench boot KERNEL INITRD CMDLINE MIB\n", stderr);
	return 2;
}
