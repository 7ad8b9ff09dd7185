// SPDX-License-Identifier: GPL-2.0
#include <linux/cpumask.h>
#include <linux/minmax.h>
#include <linux/mmzone.h>
#include <linux/nodemask.h>
#include <linux/pfn.h>
#include <linux/smp.h>
#include <asm/apic.h>

#include "sys.h"

/* First physical address above all memory; max_pfn is not exported. */
u64 hvmod_ram_end(void)
{
	unsigned long end = 0;
	int node;

	for_each_online_node(node)
		end = max(end, (unsigned long)node_end_pfn(node));
	return PFN_PHYS(end);
}

bool hvmod_cpu_online(u32 cpu)
{
	return cpu < nr_cpu_ids && cpu_online(cpu);
}

bool hvmod_cpu_possible(u32 cpu)
{
	return cpu < nr_cpu_ids && cpu_possible(cpu);
}

static void send(u32 cpu, u32 what)
{
	if (cpu >= nr_cpu_ids || cpu_online(cpu))
		return;
	/* The inline functions are static calls, which modules cannot make. */
	apic->icr_write(what, cpu_physical_id(cpu));
	safe_apic_wait_icr_idle();
}

/* Sends INIT to @cpu, which must be one that Linux has taken offline. */
void hvmod_cpu_init(u32 cpu)
{
	send(cpu, APIC_INT_LEVELTRIG | APIC_INT_ASSERT | APIC_DM_INIT);
}

/* Sends SIPI to @cpu, which must be offline, and wait for it in hvcore. */
void hvmod_cpu_sipi(u32 cpu)
{
	send(cpu, APIC_DM_STARTUP);
}
