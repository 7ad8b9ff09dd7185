// SPDX-License-Identifier: GPL-2.0
/* What test kernels look for, and instructions of many forms on a device in memory. */
#include "c64.h"

#define FW_CFG	0x510

static u64 fw_cfg(u16 item, int bytes)
{
	u64 value = 0;

	outw(FW_CFG, item);
	for (int i = 0; i < bytes; i++)
		value |= (u64)inb(FW_CFG + 1) << (8 * i);
	return value;
}

static void edge(struct frame *frame)
{
	counts(frame);
}

static void redirect(u32 pin, u32 low)
{
	write32(IOAPIC, 0x11 + 2 * pin);
	write32(IOAPIC + 0x10, 0);
	write32(IOAPIC, 0x10 + 2 * pin);
	write32(IOAPIC + 0x10, low);
}

static u32 redirection(u32 pin)
{
	write32(IOAPIC, 0x10 + 2 * pin);
	return read32(IOAPIC + 0x10);
}

static u64 rip[2];

static void level(struct frame *frame)
{
	count[frame->vector]++;
	if (count[frame->vector] == 3)
		outb(0x2000 + 9, 0);
	eoi();
}

static void first(struct frame *frame)
{
	rip[0] = frame->rip;
	counts(frame);
}

static void second(struct frame *frame)
{
	rip[1] = frame->rip;
	counts(frame);
}

static void test_devices(void)
{
	equal(fw_cfg(5, 2), 1, "the number of processors");
	equal(fw_cfg(3, 8), 16ull << 20, "the size of memory");
	equal(fw_cfg(0, 4), 0x554d4551, "the configuration device's signature");
	outl(0xe0, 0x12345678);
	equal(inl(0xe0), 0x12345678, "four bytes at port 0xe0");
	outb(0xe1, 0xff);
	equal(inl(0xe0), 0x1234ff78, "one by one");
	*(volatile u64 *)0xff000ff8ull = 0x1122334455667788;
	equal(*(volatile u64 *)0xff000ff8ull, 0x1122334455667788, "memory at 0xff000000");
	asm volatile("lock addl $1, (%0)" : : "r"(0xff000ff8ull) : "memory");
	equal(read32(0xff000ff8), 0x55667789, "of any use");

	write32(LAPIC + 0xf0, 0x1ff);
	handler[0x77] = edge;
	redirect(14, 0x77);
	sti();
	outb(0x2000 + 14, 1);
	outb(0x2000 + 14, 0);
	nop();
	equal(count[0x77], 1, "an edge on a line of the I/O APIC");
	outb(0x2000 + 14, 1);
	outb(0x2000 + 14, 1);
	nop();
	equal(count[0x77], 2, "a standing one is no other");
	outb(0x2000 + 14, 0);
	cli();
	handler[0x78] = first;
	handler[0x66] = second;
	redirect(14, 0x78);
	redirect(15, 0x66);
	for (int pin = 15; pin >= 14; pin--) {
		outb(0x2000 + pin, 1);
		outb(0x2000 + pin, 0);
	}
	sti();
	nop();
	cli();
	check(count[0x78] == 1 && count[0x66] == 1 && rip[0] == rip[1], "two at once, the higher vector first");
	handler[0x79] = level;
	redirect(9, 0x79 | 1 << 15);
	sti();
	outb(0x2000 + 9, 1);
	nop();
	nop();
	cli();
	equal(count[0x79], 3, "a level comes until it goes");
	equal(redirection(9) & 1 << 14, 0, "and leaves no remote IRR");
	outb(0x2000 + 9, 1);
	equal(redirection(9) >> 14 & 1, 1, "which is set while it is in service");
	outb(0x2000 + 9, 0);
	sti();
	nop();
	cli();
	redirect(9, 0x79 | 1 << 15 | 1 << 16);
	outb(0x2000 + 9, 1);
	sti();
	nop();
	cli();
	equal(count[0x79], 4, "masked it does not come");
	outb(0x2000 + 9, 0);
}

/* Entry 0 of the I/O APIC, masked: 17 bits that hold what is written but for bits 12 and 14. */
#define WINDOW	(*(volatile u32 *)(IOAPIC + 0x10))
#define FORM(name, before, code, after) ({			\
	u64 at = IOAPIC + 0x10;					\
								\
	WINDOW = (before);					\
	asm volatile(code : "+D"(at) : : "rax", "rcx", "rdx", "rsi", "memory", "cc");	\
	equal(WINDOW, (after), name);				\
})

static void forms(void)
{
	u32 a, flags;
	u64 wide;
	static u8 bytes[64] __attribute__((aligned(16)));

	write32(IOAPIC, 0x10);
	FORM("MOV of 4 bytes", 0x10000, "movl $0x10031, (%%rdi)", 0x10031);
	FORM("OR", 0x10001, "orl $0x30, (%%rdi)", 0x10031);
	FORM("AND", 0x100ff, "andl $0x1000f, (%%rdi)", 0x1000f);
	FORM("XOR", 0x100ff, "mov $0xaa, %%eax; xorl %%eax, (%%rdi)", 0x10055);
	FORM("ADD", 0x10001, "addl $0x22, (%%rdi)", 0x10023);
	FORM("ADC", 0x10001, "stc; adcl $0x22, (%%rdi)", 0x10024);
	FORM("SUB", 0x10023, "subl $3, (%%rdi)", 0x10020);
	FORM("SBB", 0x10023, "stc; sbbl $3, (%%rdi)", 0x1001f);
	FORM("INC", 0x10023, "incl (%%rdi)", 0x10024);
	FORM("DEC", 0x10023, "decl (%%rdi)", 0x10022);
	FORM("LOCK INC", 0x10023, "lock incl (%%rdi)", 0x10024);
	FORM("NOT", 0x10023, "notl (%%rdi)", 0x0afdc);
	FORM("NEG", 0x10001, "negl (%%rdi)", 0x0afff);
	FORM("BTS", 0x10000, "btsl $5, (%%rdi)", 0x10020);
	FORM("BTR", 0x10021, "btrl $0, (%%rdi)", 0x10020);
	FORM("BTC", 0x10021, "mov $1, %%eax; btcl %%eax, (%%rdi)", 0x10023);
	FORM("SHL", 0x10021, "shll $1, (%%rdi)", 0x00042);
	FORM("SHR", 0x10042, "shrl $1, (%%rdi)", 0x08021);
	FORM("ROL", 0x08001, "mov $1, %%ecx; roll %%cl, (%%rdi)", 0x10002);
	FORM("SETC of a byte", 0x10000, "stc; setc (%%rdi)", 0x00001);
	FORM("POP", 0x10000, "push $0x77; popq (%%rdi)", 0x00077);
	FORM("STOSL", 0x10000, "mov $0x10055, %%eax; stosl", 0x10055);
	FORM("REP STOSL over the page", 0x10000,
	     "add $0xfec, %%rdi; mov $0x10055, %%eax; mov $2, %%ecx; rep stosl", 0x10000);
	FORM("MOVNTI", 0x10000, "mov $0x10066, %%eax; movnti %%eax, (%%rdi)", 0x10066);

	WINDOW = 0x10031;
	asm volatile("movzbl (%1), %0" : "=r"(a) : "D"(IOAPIC + 0x10));
	equal(a, 0x31, "MOVZX");
	asm volatile("movswl (%1), %0" : "=r"(a) : "D"(IOAPIC + 0x10));
	equal(a, 0x31, "MOVSX");
	asm volatile("mov (%1), %0" : "=r"(wide) : "D"(IOAPIC + 0x10));
	equal((u32)wide, 0x10031, "MOV of 8 bytes");
	a = 0x10032;
	asm volatile("xchg %0, (%1)" : "+r"(a) : "D"(IOAPIC + 0x10) : "memory");
	check(a == 0x10031 && WINDOW == 0x10032, "XCHG");
	a = 3;
	asm volatile("lock xadd %0, (%1)" : "+r"(a) : "D"(IOAPIC + 0x10) : "memory");
	check(a == 0x10032 && WINDOW == 0x10035, "XADD");
	a = 0x10035;
	asm volatile("lock cmpxchg %2, (%1); setz %b0; movzbl %b0, %0"
		     : "+a"(a) : "D"(IOAPIC + 0x10), "r"(0x10036) : "memory");
	check(a == 1 && WINDOW == 0x10036, "CMPXCHG, equal");
	a = 0x10035;
	asm volatile("cmpxchg %2, (%1)" : "+a"(a) : "D"(IOAPIC + 0x10), "r"(0x10037) : "memory");
	check(a == 0x10036 && WINDOW == 0x10036, "CMPXCHG, not equal");
	asm volatile("cmpl $0x10036, (%1); sete %b0; movzbl %b0, %0" : "=a"(a) : "D"(IOAPIC + 0x10));
	equal(a, 1, "CMP");
	asm volatile("testl $0x8, (%1); setz %b0; movzbl %b0, %0" : "=a"(a) : "D"(IOAPIC + 0x10));
	equal(a, 1, "TEST");
	asm volatile("btl $4, (%1); setc %b0; movzbl %b0, %0" : "=a"(a) : "D"(IOAPIC + 0x10));
	equal(a, 1, "BT");
	asm volatile("push (%1); pop %0" : "=r"(wide) : "D"(IOAPIC + 0x10) : "memory");
	equal((u32)wide, 0x10036, "PUSH");
	a = 5;
	asm volatile("cmp %0, %0; cmovel (%1), %0" : "+r"(a) : "D"(IOAPIC + 0x10) : "cc");
	equal(a, 0x10036, "CMOV");
	asm volatile("bsfl (%1), %0" : "=r"(a) : "D"(IOAPIC + 0x10) : "cc");
	equal(a, 1, "BSF");
	asm volatile("imull $3, (%1), %0" : "=r"(a) : "D"(IOAPIC + 0x10) : "cc");
	equal(a, 0x300a2, "IMUL");
	asm volatile("mov $3, %%eax; mull (%1)" : "=&a"(a) : "D"(IOAPIC + 0x10) : "rdx", "cc");
	equal(a, 0x300a2, "MUL");
	WINDOW = 0x10;
	asm volatile("mov $0x105, %%eax; xor %%edx, %%edx; divl (%1)" : "=&a"(a) : "D"(IOAPIC + 0x10) : "rdx", "cc");
	equal(a, 0x10, "DIV");
	WINDOW = 0;
	a = TRY("mov $0x105, %%eax; xor %%edx, %%edx; divl (%0)", : : "D"(IOAPIC + 0x10) : "rax", "rdx", "cc");
	equal(a, 0, "DIV by 0: #DE");
	WINDOW = 0x10036;
	wide = IOAPIC + 0x10;
	asm volatile("lodsl" : "=a"(a), "+S"(wide));
	equal(a, 0x10036, "LODS");
	wide = IOAPIC + 0x10;
	asm volatile("scasl; sete %b0; movzbl %b0, %0" : "=a"(a), "+D"(wide) : "0"(0x10036) : "cc");
	equal(a, 1, "SCAS");
	*(u32 *)bytes = 0x10036;
	u64 from = (u64)bytes;
	wide = IOAPIC + 0x10;
	asm volatile("cmpsl; sete %b0; movzbl %b0, %0" : "=a"(a), "+S"(from), "+D"(wide) : : "cc", "memory");
	equal(a, 1, "CMPS");
	*(u32 *)bytes = 0x10044;
	from = (u64)bytes;
	wide = IOAPIC + 0x10;
	asm volatile("movsl" : "+S"(from), "+D"(wide) : : "memory");
	equal(WINDOW, 0x10044, "MOVS");
	from = IOAPIC + 0x10;
	wide = (u64)bytes + 8;
	asm volatile("movsl" : "+S"(from), "+D"(wide) : : "memory");
	equal(*(u32 *)(bytes + 8), 0x10044, "MOVS from the device");
	write_cr4(read_cr4() | 3 << 9);
	*(u64 *)bytes = 0x10045;
	*(u64 *)(bytes + 8) = 0;
	asm volatile("movdqu %1, %%xmm3; movd %%xmm3, (%0); pxor %%xmm3, %%xmm3; movdqu (%0), %%xmm3; movdqu %%xmm3, %2"
		     : : "D"(IOAPIC + 0x10), "m"(bytes[0]), "m"(bytes[16]) : "memory");
	check(WINDOW == 0x10045 && *(u32 *)(bytes + 16) == 0x10045, "MOVD and MOVDQU");

	say("# INS and OUTS\n");
	outl(0xe0, 0x41414141);
	wide = (u64)bytes + 30;
	asm volatile("mov $5, %%ecx; mov $0xe0, %%edx; rep insb" : "+D"(wide) : : "rcx", "rdx", "memory");
	check(wide == (u64)bytes + 35 && bytes[34] == 0x41 && bytes[35] == 0, "REP INSB");
	from = (u64)bytes + 36;
	asm volatile("std; mov $3, %%ecx; mov $0xe0, %%edx; rep outsb; cld" : "+S"(from) : : "rcx", "rdx", "memory");
	equal(inl(0xe0) & 0xff, 0x41, "REP OUTSB downwards");
	asm volatile("pushf; pop %0" : "=r"(wide));
	flags = wide;
	asm volatile("xor %%ecx, %%ecx; mov $0xe0, %%edx; rep insb; pushf; pop %0" : "=r"(wide) : "D"(0) : "rcx", "rdx");
	check((wide & ~0xd5ull) == (flags & ~0xd5u), "REP INSB of nothing, to nowhere");
	/* Over the end of a page that the next one does not follow. */
	static u64 table[512] __attribute__((aligned(4096)));
	for (u64 i = 0; i < 512; i++)
		table[i] = (0x800000 + (i << 12)) | 7;
	table[1] = 0;
	pd[16] = (u64)table | 7;
	write_cr3(read_cr3());
	wide = 0x2000ff0;
	a = 32;
	equal(TRY("rep insb", : "+D"(wide), "+c"(a) : "d"(0xe0) : "memory"), 14, "REP INSB over an absent page: #PF");
	check(caught.cr2 == 0x2001000 && caught.error == 2 && wide == 0x2001000 && a == 16,
	      "where it begins, with what was done done");
	wide = 0x2000ffe;
	equal(TRY("movl $0, (%%rdi)", : : "D"(wide) : "memory"), 14, "a store over it: #PF");
	equal(TRY("insl", : : "D"(wide), "d"(0xe0) : "memory"), 14, "INSL over it: #PF");
	equal(TRY("insb", : : "D"(1ull << 63), "d"(0xe0) : "memory"), 13, "INSB to an address that is not canonical: #GP");
	pd[16] = 0x2000087;
	write_cr3(read_cr3());

	say("# nothing\n");
	equal(read32(0xfd000000), 0xffffffff, "where nothing is, reads are all ones");
	write32(0xfd000000, 0);
	equal(read32(0xfd000000), 0xffffffff, "and writes go nowhere");
	outb(0x21, 0xff);
	outb(0xa1, 0xff);
	outb(0x43, 0x34);
	equal(inb(0x61), 0xff, "no timer, no interrupt controller of old");
}

int main(void)
{
	test_devices();
	forms();
	return 0;
}
