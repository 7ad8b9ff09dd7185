// SPDX-License-Identifier: GPL-2.0
/*
 * identity inside|outside: whether each CPU is in the root partition, as CPUID says
 * there; if inside, whether /dev/hvmod says the same of each.
 */
#define _GNU_SOURCE
#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/hvmod.h>

static unsigned int apic_id(void)
{
	unsigned int eax, ebx, ecx, edx;

	__cpuid(1, eax, ebx, ecx, edx);
	return ebx >> 24;
}

static int go_to(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(0, sizeof(set), &set);
}

static int is_inside(unsigned int *lp)
{
	unsigned int eax, ebx, ecx, edx;
	char name[13] = "";

	__cpuid(HVMOD_CPUID_BASE, eax, ebx, ecx, edx);
	memcpy(name, &ebx, 4);
	memcpy(name + 4, &ecx, 4);
	memcpy(name + 8, &edx, 4);
	if (strcmp(name, "hvmod root  "))
		return 0;
	__cpuid(HVMOD_CPUID_LP, *lp, ebx, ecx, edx);
	return 1;
}

static void fail(const char *what, long cpu)
{
	printf("CPU %ld: %s\n", cpu, what);
	exit(1);
}

int main(int argc, char **argv)
{
	int inside = argc > 1 && !strcmp(argv[1], "inside");
	int device = -1, cpu, found = 0;
	struct hvmod_info info = { 0 };

	if (inside) {
		device = open("/dev/hvmod", O_RDWR);
		if (device < 0 || ioctl(device, HVMOD_GET_INFO, &info)) {
			perror("/dev/hvmod");
			return 1;
		}
	}
	for (cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		struct hvmod_lp_info lp = { 0 };
		unsigned int index = ~0u;

		if (go_to(cpu))
			continue;
		found++;
		if (is_inside(&index) != inside)
			fail(inside ? "is not in the root partition" : "is in a root partition", cpu);
		if (!inside)
			continue;
		lp.index = index;
		if (ioctl(device, HVMOD_GET_LP_INFO, &lp))
			fail("the device does not know the LP that CPUID names", cpu);
		if (lp.index != index || lp.cpu != (unsigned int)cpu)
			fail("the device says that this LP is another CPU", cpu);
		if (lp.apic_id != apic_id())
			fail("the device gives another APIC ID", cpu);
		if (!lp.active)
			fail("the device says that it is not in VMX operation", cpu);
		/* CPUID exits: those of this very test at least. */
		if (lp.root_exits[10] < 2)
			fail("the device has not counted the exits for CPUID", cpu);
	}
	if (inside && (int)info.lps < found)
		fail("the device knows fewer LPs than there are CPUs", -1);
	if (inside) {
		struct hvmod_lp_info past = { .index = info.lps + 64 };

		if (!ioctl(device, HVMOD_GET_LP_INFO, &past) || errno != ENOENT)
			fail("past the last LP is no ENOENT", -1);
	}
	printf("%d CPUs\n", found);
	return found == 0;
}
