// SPDX-License-Identifier: GPL-2.0
/* Debug exceptions: single steps over instructions that exit, in shadows, and breakpoints. */
#include "c64.h"

#define TF	(1 << 8)
#define RF	(1 << 16)
#define LOW	0xffff0ff0ull
#define BS	(1 << 14)
#define BD	(1 << 13)

static struct { u64 rip, dr6; } hit[16];
static volatile unsigned int hits;

static void debug(struct frame *frame)
{
	hit[hits].rip = frame->rip;
	hit[hits].dr6 = read_dr6();
	if (hit[hits].dr6 & 0xf)
		frame->rflags |= RF;
	if (++hits == 16) {
		frame->rflags &= ~TF;
		write_dr7(0x400);
	}
}

/* Runs code with TF set; its steps are expected to end at the given distances from `first`. */
#define STEPS(name, first, code, ...) ({					\
	static const unsigned char want[] = { __VA_ARGS__ };			\
	u64 start;								\
	bool good;								\
										\
	hits = 0;								\
	write_dr6(0);								\
	asm volatile("pushf; pop %%rax; or $0x100, %%eax; push %%rax\n"		\
		     code							\
		     "lea 1b(%%rip), %0"					\
		     : "=r"(start) : : "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "memory", "cc");	\
	good = hits == sizeof(want);						\
	for (unsigned int i = 0; i < sizeof(want); i++)				\
		good &= hit[i].rip == start + want[i] &&			\
			hit[i].dr6 == (LOW | (i == 0 ? first : BS));		\
	check(good, name);							\
	for (unsigned int i = 0; !good && i < hits; i++)			\
		say("# at start + %x, DR6 %x\n", hit[i].rip - start, hit[i].dr6);	\
})

#define OFF "and $~0x100, %%eax; push %%rax; popf\n"

static void tick(struct frame *frame)
{
	counts(frame);
}

static volatile unsigned int hits_before;

static void sent(struct frame *frame)
{
	hits_before = hits;
	counts(frame);
}

/* What a stepped instruction brings about comes after its trap. */
#define SENDS(name, send, ...) do {						\
	sti();									\
	hits_before = 0;							\
	STEPS(name, BS,								\
	      "mov %%eax, %%esi; mov $0x83f, %%ecx; xor %%edx, %%edx; mov $0xef, %%eax;"	\
	      "mov $0xfee00300, %%ebx; mov $0x400ef, %%edi; popf; nop; 1: " send		\
	      "nop; and $~0x100, %%esi; push %%rsi; popf\n", __VA_ARGS__);		\
	cli();									\
	equal(hits_before, 2, name ": after its trap");				\
} while (0)

static void steps(void)
{
	STEPS("plain instructions", BS, "popf; and $~0x100, %%eax; 1: push %%rax; popf\n", 0, 1, 2);
	STEPS("CPUID, IN and RDMSR", BS,
	      "popf; and $~0x100, %%eax; 1: push %%rax; xor %%eax, %%eax; cpuid;"
	      "mov $0x3fd, %%edx; inb %%dx, %%al; mov $0x1b, %%ecx; rdmsr; popf\n",
	      0, 1, 3, 5, 10, 11, 16, 18, 19);
	STEPS("OUT and a device in memory", BS,
	      "popf; and $~0x100, %%eax; 1: push %%rax; outb %%al, $0x80;"
	      "movabs 0xfec00000, %%eax; movabs 0xfee00390, %%eax; popf\n",
	      0, 1, 3, 12, 21, 22);
	STEPS("after STI", BS, "cli; popf; sti; 1: " OFF, 0, 5, 6, 7);
	STEPS("after MOV SS one later", BS,
	      "mov %%ss, %%ebx; popf; mov %%ebx, %%ss; and $~0x100, %%eax; 1: push %%rax; popf\n",
	      0, 1, 2);
	STEPS("INT1 after MOV SS", 0,
	      "mov %%ss, %%ebx; popf; mov %%ebx, %%ss; .byte 0xf1; 1: and $~0x100, %%eax; push %%rax; popf\n",
	      0, 5, 6, 7);
	cli();
	handler[0xee] = tick;
	write32(LAPIC + 0xf0, 0x1ff);
	write32(LAPIC + 0x320, 0xee);
	write32(LAPIC + 0x3e0, 0xb);
	write32(LAPIC + 0x380, 2000000);
	STEPS("STI and HLT", BS, "popf; sti; 1: hlt; " OFF, 0, 1, 6, 7, 8);
	cli();
	write32(LAPIC + 0x380, 0);
	handler[0xef] = sent;
	SENDS("an interrupt sent by ICR", "mov %%edi, (%%rbx);", 0, 2, 3, 9, 10, 11);
	STEPS("CR8 and WBINVD", BS,
	      "popf; and $~0x100, %%eax; 1: push %%rax; mov %%cr8, %%rbx; mov %%rbx, %%cr8; wbinvd; popf\n",
	      0, 1, 5, 9, 11, 12);
}

static volatile u64 word;

static void breakpoints(void)
{
	extern char bp1[], bp2[], wp1[], icebp[], halt[];

	hits = 0;
	write_dr6(0);
	write_dr2((u64)bp1);
	write_dr7(0x400 | 1 << 5);
	asm volatile("bp1: nop");
	check(hits == 1 && hit[0].rip == (u64)bp1 && hit[0].dr6 == (LOW | 4), "an instruction breakpoint");
	hits = 0;
	write_dr2((u64)bp2);
	write_dr6(LOW | BS | 2);
	asm volatile("bp2: nop");
	check(hits == 1 && hit[0].dr6 == (LOW | BS | 4), "DR6.BS stays, the other breakpoints' bits go");
	hits = 0;
	write_dr6(0);
	write_dr1((u64)&word);
	write_dr7(0x00d0040a);
	asm volatile("movq $42, %0; wp1:" : "=m"(word));
	check(hits == 1 && hit[0].rip == (u64)wp1 && hit[0].dr6 == (LOW | 2), "a data breakpoint");
	asm volatile("mov %%ss, %0" : "=m"(word));
	write_dr7(0x00f00408);
	hits = 0;
	write_dr6(0);
	apic_write(0x380, 2000000);
	asm volatile("sti; nop; mov %0, %%ss; hlt; halt: cli" : : "m"(word));
	apic_write(0x380, 0);
	check(hits == 1 && hit[0].rip == (u64)halt && hit[0].dr6 == (LOW | 2), "one behind MOV SS ends a HLT");
	write_dr7(0x400);
	hits = 0;
	write_dr6(0);
	asm volatile(".byte 0xf1; icebp:");
	check(hits == 1 && hit[0].rip == (u64)icebp && hit[0].dr6 == LOW, "INT1");
	hits = 0;
	wrmsr(0x1d9, 2);
	write_dr1((u64)&word);
	write_dr7(0x00d0040a);
	asm volatile("movq $43, %0" : "=m"(word));
	write_dr7(0x400);
	check(hits == 1 && rdmsr(0x1d9) == 0, "a debug exception clears IA32_DEBUGCTL.BTF");
	hits = 0;
	write_dr7(0x400 | 1 << 13);
	asm volatile("mov %%dr6, %%rax" : : : "rax");
	check(hits == 1 && (hit[0].dr6 & BD) && !(read_dr7() & 1 << 13), "general detect");
	write_dr6(0);
	write_cr4(read_cr4() & ~8);
	u64 alias;
	asm volatile("mov %%dr4, %0" : "=r"(alias));
	equal(alias, LOW, "DR4 is DR6 without CR4.DE");
	write_cr4(read_cr4() | 8);
	equal(TRY("mov %%dr4, %%rax", : : : "rax"), 6, "and #UD with it");
	equal(TRY("mov %0, %%dr7", : : "r"(1ull << 32)), 13, "DR7 of 33 bits: #GP");
	equal(read_dr7(), 0x400, "DR7 reads as written");
}

int main(void)
{
	handler[1] = debug;
	steps();
	wrmsr(0x1b, rdmsr(0x1b) | 0x400);
	x2apic = true;
	STEPS("CR8 and the task priority in x2APIC mode", BS,
	      "popf; and $~0x100, %%eax; 1: push %%rax; mov %%cr8, %%rbx; mov %%rbx, %%cr8;"
	      "mov $0x808, %%ecx; rdmsr; wrmsr; popf\n",
	      0, 1, 5, 9, 14, 16, 18, 19);
	SENDS("an interrupt sent by an MSR", "wrmsr;", 0, 2, 3, 9, 10, 11);
	breakpoints();
	return 0;
}
