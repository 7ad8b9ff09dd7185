// SPDX-License-Identifier: GPL-2.0
/* Exceptions of each kind, their error codes, and events on the way to others. */
#include "c64.h"

extern char tss[];
#define IST1	(*(volatile u64 *)(tss + 0x24))

#define RF	(1 << 16)

static volatile u64 zero, seen;

static void page(u64 at, u64 entry)
{
	static u64 table[512] __attribute__((aligned(4096)));

	for (int i = 0; i < 512; i++)
		table[i] = (at & ~0x1fffffull) | (u64)i << 12 | 7;
	table[at >> 12 & 511] = entry;
	pd[at >> 21] = (u64)table | 7;
	write_cr3(read_cr3());
}

static void whole_again(u64 at)
{
	pd[at >> 21] = (at & ~0x1fffffull) | 0x87;
	write_cr3(read_cr3());
}

static void each(void)
{
	equal(TRY("xor %%edx, %%edx; mov $1, %%eax; divq %0", : : "m"(zero) : "rax", "rdx"), 0, "#DE");
	equal(TRY("int3", ::), 3, "#BP");
	equal(TRY("ud2", ::), 6, "#UD");
	write_cr0(read_cr0() | 8);
	equal(TRY("fnop", ::), 7, "#NM");
	write_cr0(read_cr0() & ~8);
	equal(TRY("mov %0, %%ds", : : "r"(0x1234)), 13, "#GP by a bad selector");
	equal(caught.error, 0x1234 & 0xfffc, "with the selector as its error code");
	gdt[8] &= ~(1ull << 41);
	equal(TRY("mov %0, %%ds", : : "r"(0x40)), 13, "#GP by a code segment that cannot be read");
	gdt[9] &= ~(1ull << 47);
	equal(TRY("mov %0, %%ds", : : "r"(0x48)), 11, "#NP");
	equal(caught.error, 0x48, "with the selector as its error code");
	equal(TRY("mov %0, %%ss", : : "r"(0x48)), 12, "#SS");
	gdt[8] |= 1ull << 41;
	gdt[9] |= 1ull << 47;
	equal(TRY("mov (%0), %%rax", : : "D"(1ull << 63) : "rax"), 13, "#GP by an address that is not canonical");
	register u64 bad __asm__("rbp") = 1ull << 63;
	equal(TRY("mov (%%rbp), %%rax", : : "r"(bad) : "rax"), 12, "#SS by one in the stack segment");
	equal(TRY("mov (%0), %%rax", : : "r"(1ull << 40) : "rax"), 14, "#PF");
	check(caught.cr2 == 1ull << 40 && caught.error == 0, "with the address and error code 0");
	page(0x600000, 0x600000 | 1);
	equal(TRY("movq $1, (%0)", : : "r"(0x600123ull) : "memory"), 14, "#PF by a read-only page");
	check(caught.cr2 == 0x600123 && caught.error == 3, "error code 3");
	page(0x600000, 0x600000 | 3 | 1ull << 63);
	equal(TRY("jmp *%0", : : "r"(0x600000ull) : "memory"), 14, "#PF by a page without code");
	equal(caught.error, 0x11, "error code 17");
	page(0x600000, 0x600000 | 3 | 1ull << 51);
	equal(TRY("mov (%0), %%rax", : : "r"(0x600000ull) : "rax"), 14, "#PF by a reserved bit");
	equal(caught.error, 9, "error code 9");
	whole_again(0x600000);
	write_cr0(read_cr0() | 1 << 5);
	u16 control = 0;
	asm volatile("fninit; fldcw %0; fldz; fldz; fdivp" : : "m"(control));
	equal(TRY("fwait", ::), 16, "#MF");
	asm volatile("fnclex; fninit");
	equal(TRY("mov %0, %%cr0", : : "r"(read_cr0() & ~1ull)), 13, "#GP: CR0.PE cannot go with paging");
	equal(TRY("mov %0, %%cr0", : : "r"(read_cr0() | 1ull << 32)), 13, "#GP: CR0 has 32 bits");
	equal(TRY("mov %0, %%cr4", : : "r"(read_cr4() & ~0x20ull)), 13, "#GP: CR4.PAE cannot go in long mode");
	equal(TRY("mov %0, %%cr4", : : "r"(read_cr4() | 1 << 13)), 13, "#GP: CR4.VMXE");
	equal(TRY("mov %0, %%cr4", : : "r"(read_cr4() | 1 << 12)), 13, "#GP: CR4.LA57");
	equal(TRY("mov %0, %%cr4", : : "r"(read_cr4() | 1 << 14)), 13, "#GP: CR4.SMXE");
	equal(TRY("mov %0, %%cr4", : : "r"(read_cr4() | 1 << 15)), 13, "#GP: a reserved bit of CR4");
	equal(TRY("mov %0, %%cr3", : : "r"(1ull << 62)), 13, "#GP: a reserved bit of CR3");
}

static void absent(void)
{
	u64 m = 0;

	equal(TRY("vmxoff", ::), 6, "VMXOFF: #UD");
	equal(TRY("vmxon %0", : : "m"(m)), 6, "VMXON: #UD");
	equal(TRY("vmptrld %0", : : "m"(m)), 6, "VMPTRLD: #UD");
	equal(TRY("vmread %%rax, %%rax", : : : "rax"), 6, "VMREAD: #UD");
	equal(TRY("vmlaunch", ::), 6, "VMLAUNCH: #UD");
	equal(TRY("invept %0, %%rax", : : "m"(m) : "rax"), 6, "INVEPT: #UD");
	equal(TRY("vmfunc", : : "a"(0), "c"(0)), 6, "VMFUNC: #UD");
	equal(TRY("getsec", : : "a"(0)), 6, "GETSEC: #UD");
	equal(TRY("monitor", : : "a"(&zero), "c"(0), "d"(0)), 6, "MONITOR: #UD");
	equal(TRY("mwait", : : "a"(0), "c"(0)), 6, "MWAIT: #UD");
	equal(TRY("rsm", ::), 6, "RSM: #UD");
	equal(TRY("vmmcall", ::), 6, "VMMCALL, which is AMD's: #UD");
	equal(TRY("rdpmc", : : "c"(0) : "rax", "rdx"), 13, "RDPMC with no counters: #GP");
	write_cr4(read_cr4() & ~(1ull << 18));
	equal(TRY("xsetbv", : : "a"(1), "d"(0), "c"(0)), 6, "XSETBV without CR4.OSXSAVE: #UD");
	if (cpuid(1, 0).c & 1 << 26) {
		write_cr4(read_cr4() | 1 << 18);
		check(cpuid(1, 0).c & 1 << 27, "CPUID tells of CR4.OSXSAVE");
		equal(TRY("xsetbv", : : "a"(3), "d"(0), "c"(0)), -1, "XSETBV of x87 and SSE");
		equal(TRY("xsetbv", : : "a"(2), "d"(0), "c"(0)), 13, "without x87: #GP");
		equal(TRY("xsetbv", : : "a"(5), "d"(0), "c"(0)), 13, "AVX without SSE: #GP");
		equal(TRY("xsetbv", : : "a"(3), "d"(1u << 31), "c"(0)), 13, "an unknown bit: #GP");
		equal(TRY("xsetbv", : : "a"(3), "d"(0), "c"(1)), 13, "another register: #GP");
		equal(TRY("xgetbv", : : "c"(2) : "rax", "rdx"), 13, "XGETBV of another register: #GP");
		equal(TRY("xsetbv", : : "a"(1), "d"(0), "c"(1ull << 32)), -1, "of ECX's upper half nothing counts");
		write_cr4(read_cr4() & ~(1ull << 18));
	}
	u64 rax = 5;
	equal(TRY("vmcall", : "+a"(rax)), -1, "VMCALL is answered");
	equal(rax, 2, "with status 2: no hypercall is known");
	asm volatile("wbinvd; invd; clflush %0" : : "m"(m));
	check(true, "WBINVD, INVD and CLFLUSH go by");
}

static u64 doubles, faults, fault_code;

static void double_fault(struct frame *frame)
{
	doubles++;
	seen = frame->error;
	frame->rip += 2;
	idt[2 * 13] |= 1ull << 47;
}

static void page_fault(struct frame *frame)
{
	faults++;
	fault_code = frame->error;
	IST1 = zero;
}

static void undefined(struct frame *frame)
{
	count[frame->vector]++;
	seen = frame->rflags;
	frame->rip += 2;
}

static void nested(void)
{
	u64 good = IST1;

	idt[2 * 0x90] &= ~(1ull << 47);
	equal(TRY("int $0x90", ::), 11, "an interrupt whose gate is absent: #NP");
	equal(caught.error, 0x90 << 3 | 2, "with the gate as its error code");
	idt[2 * 0x90] |= 1ull << 47;
	handler[8] = double_fault;
	handler[14] = page_fault;
	handler[6] = undefined;
	idt[2 * 13] &= ~(1ull << 47);
	asm volatile("rdmsr" : : "c"(0x12345678) : "rax", "rdx", "memory");
	equal(doubles, 1, "#GP by RDMSR whose gate is absent: #DF");
	equal(seen, 0, "with error code 0");
	idt[2 * 13] &= ~(1ull << 47);
	asm volatile("mov %0, %%ds" : : "r"(0x1234) : "memory");
	equal(doubles, 2, "#GP by MOV whose gate is absent: #DF");
	/* On the way to #UD its stack turns out to be absent; the handler puts it right. */
	zero = good;
	IST1 = 0x7000000000;
	idt[2 * 6] |= 1ull << 32;
	asm volatile("ud2" : : : "memory");
	check(faults == 1 && read_cr2() >> 12 == 0x6ffffffull && fault_code == 2,
	      "#PF while #UD is delivered");
	equal(count[6], 1, "then #UD is");
	idt[2 * 6] &= ~(1ull << 32);
	handler[13] = undefined;
	IST1 = 0x7000000000;
	idt[2 * 13] |= 1ull << 32;
	asm volatile("rdpmc" : : "c"(0) : "rax", "rdx", "memory");
	check(faults == 2 && count[13] == 1, "the same for #GP by an instruction that exits");
	check(seen & RF, "with RF in the flags that are pushed");
	idt[2 * 13] &= ~(1ull << 32);
	handler[6] = handler[13] = handler[14] = NULL;
}

u64 user_stack[512], kernel_stack, back;

static void from_user(struct frame *frame)
{
	frame->cs = 8;
	frame->ss = 0x10;
	frame->rip = back;
	frame->rsp = kernel_stack;
	frame->rflags = 2;
}

/* Runs code at CPL 3 with that I/O privilege level, and gives the vector of its exception, or -1. */
#define USER(iopl, code) ({							\
	caught.vector = -1;							\
	asm volatile("push %%rbp; lea 772f(%%rip), %%rax; mov %%rax, back; mov %%rsp, kernel_stack\n"	\
		     "lea 773f(%%rip), %%rax; mov %%rax, resume\n"		\
		     "push $0x23; push %0; push %1; push $0x2b; lea 774f(%%rip), %%rax; push %%rax; iretq\n"	\
		     "774: " code "\n773: int $0x91\n772: pop %%rbp"		\
		     : : "r"((u64)&user_stack[512]), "r"((u64)(iopl) << 12 | 2)	\
		     : "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "memory");	\
	resume = 0;								\
	caught.vector;								\
})

static void user(void)
{
	u64 class = 3ull << 45;

	handler[0x91] = from_user;
	idt[2 * 0x91] |= class;
	equal(USER(3, "mov $0x3fd, %%edx; inb %%dx, %%al; outb %%al, $0x80; cpuid"), -1,
	      "a user with IOPL 3: IN, OUT, CPUID");
	equal(USER(0, "inb $0x80, %%al"), 13, "a user with IOPL 0: IN: #GP");
	equal(USER(0, "mov $0x3fd, %%edx; mov $user_stack, %%edi; insb"), 13, "INS: #GP");
	equal(USER(3, "mov $0x3fd, %%edx; mov $user_stack, %%edi; mov $9, %%ecx; rep insb"), -1,
	      "with IOPL 3: REP INS");
	equal(USER(3, "hlt"), 13, "HLT: #GP");
	equal(USER(3, "rdmsr"), 13, "RDMSR: #GP");
	equal(USER(3, "wbinvd"), 13, "WBINVD: #GP");
	equal(USER(3, "mov %%cr8, %%rax"), 13, "MOV from CR8: #GP");
	equal(USER(3, "mov %%rax, %%cr4"), 13, "MOV to CR4: #GP");
	equal(USER(3, "vmcall"), 6, "VMCALL: #UD");
	equal(USER(3, "xor %%ecx, %%ecx; xsetbv"), 6, "XSETBV without CR4.OSXSAVE: #UD");
	equal(USER(3, "monitor"), 6, "MONITOR: #UD");
	equal(USER(3, "invd"), 13, "INVD: #GP");
	equal(USER(3, "mov 0xfec00000, %%eax"), -1, "a device in memory");
	equal(USER(3, "mov 0xfee00030, %%eax"), -1, "the local APIC");
	if (cpuid(7, 0).c & 4) {
		write_cr4(read_cr4() | 1 << 11);
		equal(USER(3, "sgdt user_stack"), 13, "SGDT with UMIP: #GP");
		equal(USER(3, "smsw %%eax"), 13, "SMSW with UMIP: #GP");
		write_cr4(read_cr4() & ~(1ull << 11));
	}
	equal(USER(3, "sgdt user_stack"), -1, "SGDT without UMIP");
}

int main(void)
{
	each();
	absent();
	nested();
	user();
	return 0;
}
