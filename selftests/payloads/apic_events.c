// SPDX-License-Identifier: GPL-2.0
/* Interrupts that the local APIC delivers: IPIs, NMIs, priorities, errors, its timer. */
#include "c64.h"

#define SELF	(1 << 18)
#define ALL	(2 << 18)
#define NMI	(4 << 8)
#define ASSERT	(1 << 14)

static u64 order[8];
static unsigned int arrived;

static void notes(struct frame *frame)
{
	order[arrived++ % 8] = frame->vector;
	counts(frame);
}

static u64 taken(u8 vector)
{
	u64 n;

	sti();
	nop();
	nop();
	cli();
	n = count[vector];
	count[vector] = 0;
	return n;
}

static void ipis(void)
{
	apic_write(0x300, SELF | ASSERT | 0x61);
	equal(count[0x61], 0, "with interrupts off an IPI waits");
	equal(apic_read(0x230) >> 1 & 1, 1, "in the interrupt request register");
	equal(taken(0x61), 1, "an IPI to itself, by the shorthand");
	apic_write(0x300, ALL | ASSERT | 0x61);
	equal(taken(0x61), 1, "to all");
	apic_write(0x300, 3 << 18 | ASSERT | 0x61);
	equal(taken(0x61), 0, "to all others is not for it");
	apic_write(0x300, ASSERT | 0x61);
	equal(taken(0x61), 1, "by its ID");
	apic_write(0x300, 5ull << 32 | ASSERT | 0x61);
	equal(taken(0x61), 0, "by another ID");
	apic_write(0x300, (x2apic ? 0xffffffffull : 0xff) << 32 | ASSERT | 0x61);
	equal(taken(0x61), 1, "by the broadcast ID");
	apic_write(0x300, 1ull << 32 | 1 << 11 | ASSERT | 0x61);
	equal(taken(0x61), 1, "by its logical ID");
	apic_write(0x300, 2ull << 32 | 1 << 11 | ASSERT | 0x61);
	equal(taken(0x61), 0, "by another logical ID");
	apic_write(0x300, 1ull << 32 | 1 << 11 | 1 << 8 | ASSERT | 0x61);
	equal(taken(0x61), 1, "with the lowest priority");
	if (x2apic) {
		apic_write(0x3f0, 0x61);
		equal(taken(0x61), 1, "by the self IPI register");
	}
	apic_write(0x300, 5 << 8 | SELF);
	apic_write(0x300, 5 << 8 | 3 << 18 | ASSERT);
	apic_write(0x300, 6 << 8 | 3 << 18);
	check(true, "INIT and STARTUP to others leave it alone");
}

static void priorities(void)
{
	arrived = 0;
	apic_write(0x300, SELF | ASSERT | 0x52);
	apic_write(0x300, SELF | ASSERT | 0x72);
	apic_write(0x300, SELF | ASSERT | 0x63);
	sti();
	nop();
	cli();
	check(arrived == 3 && order[0] == 0x72 && order[1] == 0x63 && order[2] == 0x52,
	      "the higher vector is first");
	arrived = 0;
	write_cr8(6);
	apic_write(0x300, SELF | ASSERT | 0x6f);
	apic_write(0x300, SELF | ASSERT | 0x70);
	sti();
	nop();
	check(arrived == 1 && order[0] == 0x70, "the task priority holds its class back");
	write_cr8(5);
	nop();
	cli();
	check(arrived == 2 && order[1] == 0x6f, "until it is lowered");
	write_cr8(0);
	arrived = 0;
	apic_write(0x300, SELF | ASSERT | 0x61);
	asm volatile("sti; cli" : : : "memory");
	equal(arrived, 0, "STI holds interrupts back for an instruction");
	sti();
	nop();
	cli();
	equal(arrived, 1, "and no longer");
	apic_write(0x300, SELF | ASSERT | 0x61);
	asm volatile("mov %%ss, %%eax; sti; mov %%eax, %%ss; nop; cli" : : : "eax", "memory");
	equal(arrived, 2, "MOV SS too");
}

static void error_handler(struct frame *frame)
{
	counts(frame);
}

static void errors(void)
{
	handler[0xfe] = error_handler;
	apic_write(0x370, 0xfe);
	apic_write(0x280, 0);
	apic_write(0x280, 0);
	equal(apic_read(0x280), 0, "no error at first");
	apic_write(0x300, SELF | ASSERT | 5);
	equal(apic_read(0x280), 0, "errors show when the register is written");
	apic_write(0x280, 0);
	equal(apic_read(0x280), 0x20, "an IPI with vector 5: illegal vector sent");
	equal(taken(0xfe), 1, "and the error interrupt");
	apic_write(0x280, 0);
	equal(apic_read(0x280), 0, "the next write clears it");
	apic_write(0x370, 0x10000);
}

static volatile u64 nmis;
static volatile bool again;

static void nmi(struct frame *frame)
{
	(void)frame;
	nmis++;
	if (again) {
		again = false;
		for (int i = 0; i < 10; i++)
			apic_write(0x300, NMI | ASSERT);
		equal(nmis, 1, "in the handler of an NMI no other comes");
	}
}

static void nonmaskable(void)
{
	handler[2] = nmi;
	nmis = 0;
	apic_write(0x300, NMI | ASSERT);
	nop();
	equal(nmis, 1, "an NMI comes with interrupts off");
	nmis = 0;
	again = true;
	apic_write(0x300, NMI | ASSERT);
	nop();
	nop();
	equal(nmis, 2, "of ten in the handler one comes after its IRET");
	nmis = 0;
	for (int i = 0; i < 2000; i++) {
		again = false;
		apic_write(0x300, NMI | ASSERT);
		nop();
	}
	equal(nmis, 2000, "and each of many");
}

static void timer(void)
{
	u64 start, now;

	handler[0x41] = counts;
	count[0x41] = 0;
	apic_write(0x3e0, 0xb);
	apic_write(0x320, 0x41);
	start = rdtsc();
	apic_write(0x380, 0x10000);
	sti();
	while (!count[0x41])
		;
	now = rdtsc();
	cli();
	check(now - start >= 0x10000, "one shot: not too early");
	equal(apic_read(0x390), 0, "then the count stays 0");
	equal(apic_read(0x380), 0x10000, "the initial count can be read");
	apic_write(0x320, 0x20041);
	equal(apic_read(0x390), 0, "also when it becomes periodic");

	apic_write(0x320, 0x10041);
	apic_write(0x380, 4000000);
	while (apic_read(0x390) > 2000000)
		;
	apic_write(0x320, 0x30041);
	now = apic_read(0x390);
	check(now && now < 2000000, "a change of mode does not start it again");
	while (apic_read(0x390) < 2000000)
		;
	check(true, "periodic: it starts again by itself");
	apic_write(0x320, 0x10041);
	while (apic_read(0x390))
		;
	check(true, "one shot: it ends");
	apic_write(0x380, 1000000);
	apic_write(0x380, 0);
	equal(apic_read(0x390), 0, "an initial count of 0 stops it");
	apic_write(0x3e0, 3);
	apic_write(0x380, 1000000);
	start = rdtsc();
	while (apic_read(0x390) > 990000)
		;
	check(rdtsc() - start >= 16 * 9000, "divided by 16 it is slower");
	apic_write(0x380, 0);
	apic_write(0x3e0, 0xb);

	count[0x41] = 0;
	apic_write(0x320, 0x40041);
	sti();
	wrmsr(0x6e0, rdtsc());
	nop();
	equal(count[0x41], 1, "a TSC deadline in the past comes at once");
	equal(rdmsr(0x6e0), 0, "and is cleared");
	start = rdtsc() + 300000;
	wrmsr(0x6e0, start);
	equal(rdmsr(0x6e0), start, "one in the future can be read");
	while (count[0x41] < 2)
		;
	check(rdtsc() >= start, "and is not too early");
	wrmsr(0x6e0, rdtsc() + 300000);
	wrmsr(0x6e0, 0);
	equal(rdmsr(0x6e0), 0, "0 disarms it");
	wrmsr(0x6e0, rdtsc() + 300000);
	asm volatile("hlt" : : : "memory");
	equal(count[0x41], 3, "it ends a HLT");
	cli();
	apic_write(0x380, 1000);
	equal(apic_read(0x390), 0, "it does not count then");
	apic_write(0x320, 0x10041);
	equal(rdmsr(0x6e0), 0, "another mode disarms it");
}

static void all(void)
{
	apic_write(0xf0, 0x1ff);
	if (!x2apic) {
		apic_write(0xd0, 1 << 24);
		apic_write(0xe0, 0xffffffff);
	}
	ipis();
	priorities();
	errors();
	nonmaskable();
	timer();
	apic_write(0xf0, 0xff);
	apic_write(0x320, 0x41);
	equal(apic_read(0x320) & 0x10000, 0x10000, "switched off by software, its entries are masked");
	count[0x61] = 0;
	apic_write(0x300, SELF | ASSERT | 0x61);
	equal(taken(0x61), 0, "and it takes nothing");
}

int main(void)
{
	for (int vector = 0x50; vector < 0x80; vector++)
		handler[vector] = notes;
	say("# xAPIC mode\n");
	all();
	say("# x2APIC mode\n");
	wrmsr(0x1b, rdmsr(0x1b) | 0x400);
	x2apic = true;
	all();
	return 0;
}
