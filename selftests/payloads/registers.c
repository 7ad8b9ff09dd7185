// SPDX-License-Identifier: GPL-2.0
/* MSRs and CPUID: what is there works, what is not faults, and both say the same. */
#include "c64.h"

#define NOT_CANONICAL	0xaaaaaaaaaaaaaaaaull
#define ADDRESS		0x0000123456789abcull

static void holds(u32 msr, u64 value, const char *text)
{
	u64 old = rdmsr(msr), got;

	wrmsr(msr, value);
	got = rdmsr(msr);
	wrmsr(msr, old);
	equal(got, value, text);
}

static void addresses(u32 msr, const char *text)
{
	holds(msr, ADDRESS, text);
	equal(try_wrmsr(msr, NOT_CANONICAL), 13, "and #GP if it is not canonical");
}

static void absent(u32 msr, const char *text)
{
	int read = try_rdmsr(msr, NULL), write = try_wrmsr(msr, 0);

	check(read == 13 && write == 13, text);
}

static void msrs(void)
{
	u64 value = rdmsr(0x1a0);

	holds(0x174, 0x1234, "IA32_SYSENTER_CS");
	addresses(0x175, "IA32_SYSENTER_ESP");
	addresses(0x176, "IA32_SYSENTER_EIP");
	addresses(0xc0000100, "IA32_FS_BASE");
	addresses(0xc0000101, "IA32_GS_BASE");
	addresses(0xc0000102, "IA32_KERNEL_GS_BASE");
	addresses(0xc0000082, "IA32_LSTAR");
	addresses(0xc0000083, "IA32_CSTAR");
	holds(0xc0000084, 0xffffffff, "IA32_FMASK");
	holds(0xc0000081, 0x0023001000000000, "IA32_STAR");
	holds(0xc0000103, 0x12345678, "IA32_TSC_AUX");
	holds(0x277, 0x0007040600070406, "IA32_PAT");
	holds(0x277, 0x07070707, "IA32_PAT of other types");
	equal(try_wrmsr(0x277, 2), 13, "of a reserved type: #GP");
	holds(0xc0000080, rdmsr(0xc0000080) | 1, "IA32_EFER.SCE");
	equal(try_wrmsr(0xc0000080, rdmsr(0xc0000080) & ~0x100ull), 13, "EFER.LME with paging: #GP");
	equal(try_wrmsr(0xc0000080, rdmsr(0xc0000080) | 1 << 12), 13, "EFER.SVME: #GP");
	holds(0x1a0, (0x400c50809ull & ~0x1880ull) | (value & 0x1880), "IA32_MISC_ENABLE");
	equal(try_wrmsr(0x1d9, 1 << 20), 13, "a reserved bit of IA32_DEBUGCTL: #GP");
	holds(0x2ff, 0xc06, "IA32_MTRR_DEF_TYPE");
	equal(try_wrmsr(0x2ff, 2), 13, "of a reserved type: #GP");
	holds(0x250, 0x0606060606060606, "IA32_MTRR_FIX64K_00000");
	holds(0x200, 0x80000006, "IA32_MTRR_PHYSBASE0");
	holds(0x201, 0x80000800, "IA32_MTRR_PHYSMASK0");
	equal(try_wrmsr(0xfe, 0), 13, "IA32_MTRRCAP cannot be written");
	equal(try_wrmsr(0x3a, 5), 13, "nor IA32_FEATURE_CONTROL, which is locked");
	check(rdmsr(0x3a) & 1, "as it says");
	equal(rdmsr(0x179) & 0xff, 0, "no bank of machine checks");
	absent(0x400, "so IA32_MC0_CTL: #GP");
	absent(0x401, "and IA32_MC0_STATUS");
	absent(0x47c, "and those of bank 31");
	absent(0x480, "IA32_VMX_BASIC: #GP");
	absent(0x186, "IA32_PERFEVTSEL0: #GP");
	absent(0x38f, "IA32_PERF_GLOBAL_CTRL: #GP");
	absent(0x345, "IA32_PERF_CAPABILITIES: #GP");
	absent(0x6a0, "IA32_U_CET: #GP");
	absent(0x6e1, "IA32_PKRS: #GP");
	absent(0x122, "IA32_TSX_CTRL: #GP");
	absent(0x4b564d00, "KVM's clock: #GP");
	absent(0x40000000, "Hyper-V's guest OS ID: #GP");
	absent(0xc0010114, "AMD's VM_CR: #GP");
	absent(0xc0002000, "one beyond the bitmap: #GP");
	absent(0xffffffff, "the last number there is: #GP");
	equal(try_rdmsr(0x49, NULL), 13, "IA32_PRED_CMD cannot be read");
	equal(try_wrmsr(0x49, 2), 13, "nor written with other commands");
	equal(try_wrmsr(0x49, 0), cpuid(7, 0).d & 1 << 26 ? -1 : 13, "it is there if CPUID says so");
	equal(try_wrmsr(0x10b, 0), cpuid(7, 0).d & 1 << 28 ? -1 : 13, "so is IA32_FLUSH_CMD");
	equal(try_rdmsr(0x48, NULL), cpuid(7, 0).d & 1 << 26 ? -1 : 13, "and IA32_SPEC_CTRL");
	equal(try_rdmsr(0x10a, NULL), cpuid(7, 0).d & 1 << 29 ? -1 : 13, "and IA32_ARCH_CAPABILITIES");
}

static void clock(void)
{
	u64 one, two, adjust;
	u32 low, high, aux;

	equal(rdmsr(0x3b), 0, "IA32_TSC_ADJUST is 0 at first");
	one = rdtsc();
	wrmsr(0x3b, 100000000000ull);
	two = rdtsc();
	equal(rdmsr(0x3b), 100000000000ull, "it holds what is written");
	check(two - one >= 100000000000ull, "and moves the TSC by it");
	wrmsr(0x3b, 0);
	equal(rdmsr(0x3b), 0, "and back");
	check(rdtsc() < two, "the TSC too");
	one = rdtsc();
	wrmsr(0x10, 100000000000ull);
	two = rdtsc();
	adjust = rdmsr(0x3b);
	check(two >= 100000000000ull && two < 100001000000ull, "the TSC can be written");
	check(one <= 100000000000ull - adjust, "IA32_TSC_ADJUST tells by how much");
	wrmsr(0x3b, 0);
	wrmsr(0xc0000103, 0x1234);
	asm volatile("rdtscp" : "=a"(low), "=d"(high), "=c"(aux));
	equal(aux, 0x1234, "RDTSCP tells IA32_TSC_AUX");
	if (cpuid(7, 0).c & 1 << 22) {
		asm volatile("rdpid %0" : "=r"(one));
		equal(one, 0x1234, "so does RDPID");
	}
	write_cr4(read_cr4() | 4);
	check(rdtsc() && rdmsr(0x10), "CR4.TSD is for users");
	write_cr4(read_cr4() & ~4ull);
}

static void features(void)
{
	u64 cr4 = read_cr4();
	struct cpuid one = cpuid(1, 0), seven = cpuid(7, 0);
	static const struct { u8 bit; char word; u8 feature; const char *text; } bits[] = {
		{ 11, 'c', 2, "CR4.UMIP is there if CPUID says so" },
		{ 16, 'b', 0, "CR4.FSGSBASE" },
		{ 17, '1', 17, "CR4.PCIDE" },
		{ 18, '1', 26, "CR4.OSXSAVE" },
		{ 20, 'b', 7, "CR4.SMEP" },
		{ 21, 'b', 20, "CR4.SMAP" },
		{ 22, 'c', 3, "CR4.PKE" },
		{ 23, 'c', 7, "CR4.CET" },
		{ 24, 'c', 31, "CR4.PKS" },
		{ 12, 'x', 0, "CR4.LA57 is not" },
		{ 13, '1', 5, "CR4.VMXE" },
	};

	/* Users have the sixth 2 MiB alone. */
	for (int i = 0; i < 2048; i++)
		if (i != 5)
			pd[i] &= ~4ull;
	write_cr3(read_cr3());
	for (unsigned int i = 0; i < sizeof(bits) / sizeof(*bits); i++) {
		u32 word = bits[i].word == '1' ? one.c : bits[i].word == 'b' ? seven.b :
			   bits[i].word == 'c' ? seven.c : 0;
		int vector = TRY("mov %0, %%cr4", : : "r"(cr4 | 1ull << bits[i].bit) : "memory");

		write_cr4(cr4);
		equal(vector, word >> bits[i].feature & 1 ? -1 : 13, bits[i].text);
	}
	check(!(one.c & (1 << 5 | 1 << 6 | 1 << 3)), "no VMX, SMX or MONITOR");
	check(!(cpuid(0xa, 0).a & 0xff), "no performance counters");
	check((one.c & (1 << 21 | 1 << 24)) == (1 << 21 | 1 << 24), "x2APIC mode and TSC deadlines");
	equal(one.b >> 24, 0, "the APIC ID is 0");
	equal(cpuid(0xb, 0).d, 0, "in leaf 0xb too");
	u32 width = cpuid(0x80000008, 0).a & 0xff;
	check(width >= 36 && width <= 48, "an address width");
	equal(try_wrmsr(0x201, 1ull << width), 13, "which MTRRs keep to");
	equal(TRY("mov %0, %%cr3", : : "r"(read_cr3() | 1ull << width)), 13, "and CR3");
	check(cpuid(0x15, 0).a && cpuid(0x15, 0).b && cpuid(0x15, 0).c, "the TSC's frequency");

	if (seven.b & 1 << 10) {
		struct { u64 pcid, address; } what = { 0, 0 };

		write_cr4(cr4 | 1 << 17);
		equal(TRY("invpcid %0, %1", : : "m"(what), "r"(2ull) : "memory"), -1, "INVPCID of all");
		equal(TRY("invpcid %0, %1", : : "m"(what), "r"(4ull) : "memory"), 13, "of an unknown type: #GP");
		what.pcid = 1 << 12;
		equal(TRY("invpcid %0, %1", : : "m"(what), "r"(1ull) : "memory"), 13, "of a PCID of 13 bits: #GP");
		equal(TRY("mov %0, %%cr0", : : "r"(read_cr0() & ~(1ull << 31))), 13, "paging cannot go with CR4.PCIDE");
		write_cr4(cr4);
	}
	if (seven.b & 1 << 20) {
		write_cr4(cr4 | 1 << 21);
		equal(TRY("mov 0xa00000, %%eax", : : : "rax"), 14, "SMAP: the kernel cannot read a user's page");
		equal(TRY("stac; mov 0xa00000, %%eax; clac", : : : "rax"), -1, "but after STAC");
		asm volatile("clac");
		equal(TRY("mov $0x80, %%edx; mov $0xa00000, %%edi; insb", : : : "rdi", "rdx", "memory"), 14,
		      "INS to it faults too");
		equal(caught.error, 3, "with error code 3");
		equal(TRY("mov $0x80, %%edx; mov $0xa00000, %%esi; outsb", : : : "rsi", "rdx", "memory"), 14,
		      "and OUTS");
		equal(caught.error, 1, "with error code 1");
		write_cr4(cr4 | 1 << 20);
		equal(TRY("jmp *%0", : : "r"(0xa00000ull) : "memory"), 14, "SMEP: nor run it");
		write_cr4(cr4);
	}
}

int main(void)
{
	msrs();
	clock();
	features();
	return 0;
}
