// SPDX-License-Identifier: GPL-2.0
/*
 * When hvcore died no LP goes on in Linux before all have left it: what one does
 * natively, like the write that hvcore died of, can hit the memory in which
 * another one would still run.
 *
 * Each LP waits at the end of its way out (trampoline.S), and has the others come
 * by an NMI, at which they make an exit. One that does not come is not waited for
 * longer than GATHER_MS.
 *
 * When all are there, what was private memory of partitions is cleared.
 *
 * An LP goes to hvcore in an NMI that it sends itself: then no other one comes
 * before the root partition has ended this one. On the way there, and until
 * hvcore has its own tables, it would find no handler.
 */
#include <linux/cpumask.h>
#include <linux/smp.h>
#include <asm/apic.h>
#include <asm/cpufeature.h>
#include <asm/cpuid/api.h>
#include <asm/nmi.h>
#include <asm/processor.h>
#include <asm/tsc.h>

#include "sys.h"

#define GATHER_MS 1000

/* CPUs that execute above hvcore or in it, and how many. */
static struct cpumask inside;
static atomic_t inside_count;
/* CPUs that were sent an NMI and have not had it. */
static struct cpumask called;
static bool gathering;
/* Partitions' private memory is being cleared by somebody, and was. */
static atomic_t scrubbing;
static bool scrubbed;

void hvmod_gather_enter(u32 cpu)
{
	if (!test_and_set_bit(cpu, cpumask_bits(&inside)))
		atomic_inc(&inside_count);
}

static __always_inline void leave(u32 cpu)
{
	if (arch_test_and_clear_bit(cpu, cpumask_bits(&inside)))
		arch_atomic_dec(&inside_count);
}

/* @cpu is offline, and in wait-for-SIPI. */
void hvmod_gather_offline(u32 cpu)
{
	leave(cpu);
}

/* Without the kernel's functions, which are static calls or can be traced. */
static __always_inline void send_nmi(u32 apic_id)
{
	u64 base = native_rdmsrq(MSR_IA32_APICBASE);
	u32 high;

	if (base & X2APIC_ENABLE) {
		native_wrmsrq(APIC_BASE_MSR + (APIC_ICR >> 4), (u64)apic_id << 32 | APIC_DM_NMI);
		return;
	}
	/* Whoever was interrupted may be about to send an IPI too. */
	high = native_apic_mem_read(APIC_ICR2);
	native_apic_mem_write(APIC_ICR2, SET_XAPIC_DEST_FIELD(apic_id));
	native_apic_mem_write(APIC_ICR, APIC_DM_NMI);
	while (native_apic_mem_read(APIC_ICR) & APIC_ICR_BUSY)
		cpu_relax();
	native_apic_mem_write(APIC_ICR2, high);
}

/*
 * @cpu left VMX operation, since hvcore is dead or because it was asked to.
 * Interrupts are off. The trampoline comes with the GS base that Linux had,
 * which may be that of a user.
 */
noinstr __no_stack_protector void hvmod_gather_leave(u32 cpu, bool dead)
{
	u64 begin;
	u32 other;

	leave(cpu);
	if (!dead)
		return;
	WRITE_ONCE(gathering, true);
	for (other = 0; other < nr_cpu_ids; other++) {
		if (arch_test_bit(other, cpumask_bits(&inside)) &&
		    !arch_test_and_set_bit(other, cpumask_bits(&called)))
			send_nmi(cpu_physical_id(other));
	}
	begin = rdtsc();
	while (arch_atomic_read(&inside_count)) {
		if (rdtsc() - begin >= (u64)tsc_khz * GATHER_MS)
			return;
		cpu_relax();
	}
	/* Before one of them goes on. */
	if (!arch_atomic_xchg(&scrubbing, 1)) {
		hvmod_deposit_scrub();
		smp_store_release(&scrubbed, true);
	}
	while (!smp_load_acquire(&scrubbed))
		cpu_relax();
}

/* What is to happen in an NMI of @cpu; LPs enter one after the other. */
static struct {
	int cpu;
	const void *enter;
	struct hvmod_outcome outcome;
} entry = { .cpu = -1 };

/* For so long an NMI may be on its way from a CPU to itself. */
#define NMI_MS 1000

/* Whether the NMI came, and hvcore said something. Interrupts are off. */
bool hvmod_gather_go(const void *enter, struct hvmod_outcome *outcome)
{
	u64 begin = rdtsc();

	entry.enter = enter;
	WRITE_ONCE(entry.cpu, smp_processor_id());
	send_nmi(cpu_physical_id(smp_processor_id()));
	while (READ_ONCE(entry.enter) && rdtsc() - begin < (u64)tsc_khz * NMI_MS)
		cpu_relax();
	/* If it comes now it finds nothing to do. */
	enter = xchg(&entry.enter, NULL);
	*outcome = entry.outcome;
	WRITE_ONCE(entry.cpu, -1);
	return !enter;
}

static int on_nmi(unsigned int type, struct pt_regs *regs)
{
	u32 unused = 0;

	if (READ_ONCE(entry.cpu) == smp_processor_id()) {
		const void *enter = xchg(&entry.enter, NULL);

		/* A counter must not write by hvcore's tables. Linux cannot set it again. */
		if (boot_cpu_has(X86_FEATURE_PEBS))
			native_wrmsrq(MSR_IA32_PEBS_ENABLE, 0);
		if (enter)
			entry.outcome = hvmod_enter(enter);
		/* If another NMI was faster, this one has nothing left to do. */
		return NMI_HANDLED;
	}
	if (!READ_ONCE(gathering) || !test_and_clear_bit(smp_processor_id(), cpumask_bits(&called)))
		return NMI_DONE;
	/* CPUID always exits, and then hvcore takes this LP out. */
	native_cpuid(&unused, &unused, &unused, &unused);
	return NMI_HANDLED;
}

/*
 * With this duration Linux, which notes handlers that take longer than ever, says
 * nothing of this one, in which an LP is launched once: the first one in a large
 * or slow machine takes milliseconds.
 */
static struct nmiaction action = {
	.list = LIST_HEAD_INIT(action.list),
	.handler = on_nmi,
	.max_duration = U64_MAX,
	.name = "hvmod",
};

/* Whether an LP left hvcore because that is dead. */
bool hvmod_gather_began(void)
{
	return READ_ONCE(gathering);
}

int hvmod_gather_start(void)
{
	cpumask_clear(&inside);
	cpumask_clear(&called);
	atomic_set(&inside_count, 0);
	gathering = false;
	atomic_set(&scrubbing, 0);
	scrubbed = false;
	return __register_nmi_handler(NMI_LOCAL, &action);
}

void hvmod_gather_stop(void)
{
	unregister_nmi_handler(NMI_LOCAL, action.name);
}
