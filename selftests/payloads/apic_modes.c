// SPDX-License-Identifier: GPL-2.0
/* The local APIC's modes: memory-mapped, by MSRs, off, and moved elsewhere. */
#include "c64.h"

#define APIC_BASE	0x1b
#define BSP		0x100ull
#define EXTD		0x400ull
#define ENABLE		0x800ull
#define ELSEWHERE	0xfed40000ull

static void set_base(u64 value)
{
	wrmsr(APIC_BASE, value);
	x2apic = value & EXTD;
}

static void no_registers_in_memory(void)
{
	u64 class = read_cr8();

	for (u64 at = LAPIC; at < LAPIC + 4096; at += 16)
		write32(at, ~0u);
	equal(read32(LAPIC + 0x30), ~0u, "its version cannot be read in memory");
	equal(read_cr8(), class, "CR8 has not changed by that");
	write_cr8(class ^ 15);
	equal(read_cr8(), class ^ 15, "CR8 holds what is written");
	equal(read32(LAPIC + 0x80), ~0u, "nor its task priority");
	write_cr8(class);
	equal(TRY("mov %0, %%cr8", : : "r"(16ull)), 13, "CR8 of 16: #GP");
}

static void registers_in_memory(u32 version)
{
	equal(read32(LAPIC + 0x30), version, "its version is in memory");
	write_cr8(5);
	equal(read32(LAPIC + 0x80), 0x50, "CR8 is the task priority's upper half");
	write32(LAPIC + 0x80, 0x93);
	equal(read_cr8(), 9, "and the other way round");
	equal(read32(LAPIC + 0xa0), 0x93, "the processor's priority follows");
	write32(LAPIC + 0x80, 0);
}

int main(void)
{
	u64 base = rdmsr(APIC_BASE);
	u32 version = read32(LAPIC + 0x30);

	equal(base, LAPIC | ENABLE | BSP, "IA32_APIC_BASE after RESET");
	check((version & 0xff) >= 0x10 && (version & 0xff) <= 0x15, "an integrated APIC");
	registers_in_memory(version);

	say("# off\n");
	set_base(base & ~ENABLE);
	equal(rdmsr(APIC_BASE), LAPIC | BSP, "it can be switched off");
	check(!(cpuid(1, 0).d & 1 << 9), "then CPUID does not offer it");
	no_registers_in_memory();
	equal(try_rdmsr(0x803, NULL), 13, "an x2APIC register: #GP");
	equal(try_wrmsr(APIC_BASE, LAPIC | BSP | EXTD), 13, "off to invalid: #GP");
	equal(try_wrmsr(APIC_BASE, LAPIC | BSP | EXTD | ENABLE), 13, "off to x2APIC: #GP");

	say("# xAPIC again\n");
	set_base(base);
	check(cpuid(1, 0).d & 1 << 9, "CPUID offers it");
	equal(read32(LAPIC + 0xf0), 0xff, "it is as after RESET");
	equal(read32(LAPIC + 0x320), 0x10000, "its timer is masked");
	registers_in_memory(version);
	equal(try_rdmsr(0x803, NULL), 13, "an x2APIC register: #GP");
	equal(try_wrmsr(APIC_BASE, LAPIC | BSP | EXTD), 13, "xAPIC to invalid: #GP");
	equal(try_wrmsr(APIC_BASE, base | 1), 13, "a reserved low bit: #GP");
	equal(try_wrmsr(APIC_BASE, base | 1ull << (cpuid(0x80000008, 0).a & 0xff)), 13,
	      "an address that is too wide: #GP");

	say("# x2APIC\n");
	set_base(base | EXTD);
	equal(rdmsr(APIC_BASE), base | EXTD, "x2APIC mode");
	equal(apic_read(0x30), version, "its version is in an MSR");
	equal(apic_read(0x20), 0, "its ID");
	equal(apic_read(0xd0), 1, "its logical ID");
	no_registers_in_memory();
	write_cr8(7);
	equal(apic_read(0x80), 0x70, "CR8 is the task priority's upper half");
	apic_write(0x80, 0x21);
	equal(read_cr8(), 2, "and the other way round");
	apic_write(0x80, 0);
	static const struct { u32 offset; u64 value; const char *text; } bad[] = {
		{ 0x20, 0, "a write to the ID: #GP" },
		{ 0x30, 0, "a write to the version: #GP" },
		{ 0x80, 0x100, "a task priority of 9 bits: #GP" },
		{ 0xa0, 0, "a write to the processor's priority: #GP" },
		{ 0xb0, 1, "an EOI that is not 0: #GP" },
		{ 0xd0, 1, "a write to the logical ID: #GP" },
		{ 0xe0, 0, "the destination format is not there: #GP" },
		{ 0xf0, 1 << 13, "a reserved bit of the spurious vector: #GP" },
		{ 0x100, 0, "a write to the in-service register: #GP" },
		{ 0x280, 1, "an error status that is not 0: #GP" },
		{ 0x300, 1 << 20, "a reserved bit of ICR: #GP" },
		{ 0x310, 0, "ICR's upper half is not there: #GP" },
		{ 0x320, 1 << 20, "a reserved bit of the timer's entry: #GP" },
		{ 0x380, 1ull << 32, "an initial count of 33 bits: #GP" },
		{ 0x390, 0, "a write to the current count: #GP" },
		{ 0x3e0, 4, "a reserved bit of the divider: #GP" },
		{ 0x3f0, 0x100, "a self IPI of 9 bits: #GP" },
		{ 0x40, 0, "a register that does not exist: #GP" },
	};
	for (unsigned int i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		equal(try_wrmsr(0x800 + bad[i].offset / 16, bad[i].value), 13, bad[i].text);
	equal(try_rdmsr(0x80b, NULL), 13, "EOI cannot be read: #GP");
	equal(try_rdmsr(0x83f, NULL), 13, "nor can the self IPI: #GP");
	equal(try_wrmsr(APIC_BASE, LAPIC | BSP | ENABLE), 13, "x2APIC to xAPIC: #GP");
	equal(try_wrmsr(APIC_BASE, LAPIC | BSP | EXTD), 13, "x2APIC to invalid: #GP");
	set_base(base & ~ENABLE);
	set_base(base);
	registers_in_memory(version);

	say("# moved\n");
	set_base(base & ~ENABLE);
	set_base(ELSEWHERE | BSP | ENABLE);
	equal(read32(ELSEWHERE + 0x30), version, "it can be moved");
	write32(ELSEWHERE + 0x80, 0x40);
	equal(read_cr8(), 4, "and written there");
	handler[0x51] = counts;
	write32(ELSEWHERE + 0xf0, 0x1ff);
	write32(ELSEWHERE + 0x80, 0);
	write32(ELSEWHERE + 0x300, 0x40051);
	write32(ELSEWHERE + 0x380, 1000);
	check(read32(ELSEWHERE + 0x390) <= 1000, "its current count too");
	sti();
	nop();
	cli();
	equal(count[0x51], 1, "an interrupt by it arrives");
	set_base(base & ~ENABLE);
	set_base(base);
	registers_in_memory(version);
	return 0;
}
