// SPDX-License-Identifier: GPL-2.0
/* What a VP is: CPUID, MSRs, exceptions, triple faults, registers, vector state. */
#include <cpuid.h>

#include "partition.h"

GUEST_CODE(64, cpuid,
	"mov $0x4000, %edi\n"
	"1: mov (%rdi), %eax\n"
	"mov 4(%rdi), %ecx\n"
	"cpuid\n"
	"mov %eax, (%rdi)\n"
	"mov %ebx, 4(%rdi)\n"
	"mov %ecx, 8(%rdi)\n"
	"mov %edx, 12(%rdi)\n"
	"outb %al, $0x10\n"
	"jmp 1b\n");

/* RDMSR or WRMSR of ECX; the handler of #GP comes out at port 0x11. */
GUEST_CODE(64, read_msr,
	"rdmsr\n"
	"outb %al, $0x10\n");
GUEST_CODE(64, write_msr,
	"wrmsr\n"
	"outb %al, $0x10\n");
GUEST_CODE(64, fault,
	"pop %rbx\n"
	"outb %al, $0x11\n");

GUEST_CODE(64, undefined, "ud2\n");
GUEST_CODE(64, vmcall, "vmcall\n" "outb %al, $0x10\n");
GUEST_CODE(16, triple, "lidt 0x3000\n" "int3\n");

GUEST_CODE(64, vectors,
	"movups 0x4000, %xmm3\n"
	"mov $1000, %ecx\n"
	"1: outb %al, $0x10\n"
	"movups %xmm3, 0x4010\n"
	"jmp 1b\n");

GUEST_CODE(64, counts,
	"1: rdtsc\n"
	"shl $32, %rdx\n"
	"or %rdx, %rax\n"
	"outb %al, $0x10\n"
	"jmp 1b\n");

/* PKRU as it is found, and after that twice another value. */
GUEST_CODE(64, keys,
	"xor %ecx, %ecx\n"
	"1: rdpkru\n"
	"outb %al, $0x10\n"
	"xor $0x54, %eax\n"
	"wrpkru\n"
	"jmp 1b\n");

struct leaf {
	uint32_t eax, ebx, ecx, edx;
};

static struct leaf guest_leaf(struct partition *p, uint32_t leaf, uint32_t subleaf)
{
	struct leaf *place = (struct leaf *)(p->memory + RESULTS);

	start_long(p, cpuid, cpuid_end);
	*place = (struct leaf){ .eax = leaf, .ebx = subleaf };
	if (run(p) || p->message.type != HV_MSG_IO_PORT)
		tap_bail_out("CPUID leaf %#x: message %#x", leaf, p->message.type);
	return *place;
}

static void leaves(void)
{
	struct partition p;
	struct leaf guest, host;

	partition_open(&p);
	guest = guest_leaf(&p, 0, 0);
	__cpuid(0, host.eax, host.ebx, host.ecx, host.edx);
	tap(guest.ebx == host.ebx && guest.ecx == host.ecx && guest.edx == host.edx,
	    "CPUID: the vendor is the machine's");
	tap(guest.eax >= 7 && guest.eax <= 0x20, "CPUID: the greatest leaf is plausible");
	guest = guest_leaf(&p, 1, 0);
	__cpuid(1, host.eax, host.ebx, host.ecx, host.edx);
	tap_equal("CPUID: the model is the machine's", guest.eax, host.eax);
	tap(!(guest.ecx & 1 << 5), "CPUID: no VMX");
	tap_equal("CPUID: APIC ID 0", guest.ebx >> 24, 0);
	tap(guest.edx & 1 << 9, "CPUID: an APIC");
	tap(guest.edx & 1 << 25 && guest.edx & 1 << 26, "CPUID: SSE and SSE2");
	tap_equal("CPUID: OSXSAVE follows CR4", guest.ecx >> 27 & 1, 0);
	tap((guest.ecx & ~host.ecx & ~(1u << 31 | 1 << 24 | 1 << 21)) == 0 && !(guest.edx & ~host.edx),
	    "CPUID: no feature that the machine lacks");
	guest = guest_leaf(&p, 0x80000001, 0);
	tap(guest.edx & 1 << 29, "CPUID: long mode");
	guest = guest_leaf(&p, HVMOD_CPUID_BASE, 0);
	tap(memcmp(&guest.ebx, "hvmod root", 4), "CPUID: a child does not take itself for the root");
	partition_close(&p);
}

enum { NO_FAULT = 0x10, FAULT = 0x11 };

/* An access to an MSR: the port at which the guest comes out. */
static int msr(struct partition *p, bool write, uint32_t number, uint64_t value)
{
	start_long(p, write ? write_msr : read_msr, write ? write_msr_end : read_msr_end);
	memcpy(p->memory + CODE + 0x800, fault, fault_end - fault);
	set_gate(p, 13, 0x800);
	set(p, HV_RCX, number);
	set(p, HV_RAX, value & 0xffffffff);
	set(p, HV_RDX, value >> 32);
	if (run(p) || p->message.type != HV_MSG_IO_PORT) {
		tap_note("message %#x", p->message.type);
		return -1;
	}
	return p->message.port.port;
}

static void msrs(void)
{
	static const struct {
		const char *name;
		bool write;
		uint32_t number;
		uint64_t value;
		int outcome;
	} cases[] = {
		{ "RDMSR of one that nobody has: #GP", false, 0x12345678, 0, FAULT },
		{ "WRMSR of one that nobody has: #GP", true, 0x12345678, 0, FAULT },
		{ "RDMSR of IA32_VMX_BASIC: #GP", false, 0x480, 0, FAULT },
		{ "WRMSR of EFER with a reserved bit: #GP", true, 0xc0000080, 0x1500 | 1ull << 40, FAULT },
		{ "WRMSR of a non-canonical LSTAR: #GP", true, 0xc0000082, 1ull << 62, FAULT },
		{ "WRMSR of PAT with a reserved type: #GP", true, 0x277, 2, FAULT },
		{ "WRMSR of LSTAR", true, 0xc0000082, 0xffff800000001234, NO_FAULT },
		{ "WRMSR of PAT", true, 0x277, 0x0007040600070406, NO_FAULT },
		{ "RDMSR of IA32_APIC_BASE", false, 0x1b, 0, NO_FAULT },
		{ "RDMSR of IA32_TSC", false, 0x10, 0, NO_FAULT },
		{ "RDMSR of IA32_MTRRCAP", false, 0xfe, 0, NO_FAULT },
		{ "RDMSR of IA32_MISC_ENABLE", false, 0x1a0, 0, NO_FAULT },
	};
	struct partition p;
	size_t i;

	partition_open(&p);
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int port = msr(&p, cases[i].write, cases[i].number, cases[i].value);

		tap(port == cases[i].outcome, "%s", cases[i].name);
		if (port == FAULT && cases[i].outcome == FAULT)
			tap_equal("  with error code 0", get(&p, HV_RBX), 0);
	}
	msr(&p, false, 0x1b, 0);
	tap_equal("IA32_APIC_BASE: enabled, bootstrap processor, at the usual place",
		  p.message.port.rax & 0xfffffd00, 0xfee00900);
	msr(&p, true, 0xc0000082, 0xffff800000001234);
	msr(&p, false, 0xc0000082, 0);
	tap_equal("LSTAR holds what was written", p.message.port.rax & 0xffffffff, 0x00001234);
	partition_close(&p);
}

static void exceptions(void)
{
	struct partition p;

	partition_open(&p);
	start_long(&p, undefined, undefined_end);
	memcpy(p.memory + CODE + 0x800, fault, fault_end - fault);
	set_gate(&p, 6, 0x800);
	if (run_to(&p, HV_MSG_IO_PORT, "UD2 leads to the guest's own handler"))
		tap_equal("with the address of UD2", get(&p, HV_RBX), CODE);
	start_long(&p, vmcall, vmcall_end);
	memcpy(p.memory + CODE + 0x800, fault, fault_end - fault);
	set_gate(&p, 6, 0x800);
	if (run_to(&p, HV_MSG_IO_PORT, "VMCALL of a child comes to nothing"))
		tap(p.message.port.port == NO_FAULT && p.message.port.rax == 2 /* HV_STATUS_INVALID_HYPERCALL_CODE */,
		    "it says that there is no such hypercall");
	partition_close(&p);

	partition_open(&p);
	start_real(&p, triple, triple_end, 0);
	run_to(&p, HV_MSG_UNRECOVERABLE, "a triple fault is an intercept");
	partition_close(&p);

	/* Long mode without a single gate. */
	partition_open(&p);
	start_long(&p, undefined, undefined_end);
	run_to(&p, HV_MSG_UNRECOVERABLE, "a triple fault in long mode too");
	partition_close(&p);
}

static void registers(void)
{
	struct hv_assoc cr0 = PLAIN(HV_CR0, 0x80000010);	/* paging without protection */
	struct partition p;
	union hv_value value;
	uint32_t name;
	bool kept = true;

	partition_open(&p);
	start_long(&p, counts, counts_end);
	for (name = HV_RAX; name <= HV_R15; name++)
		if (name != HV_RSP)
			set(&p, name, name * 0x100000001ull);
	for (name = HV_RAX; name <= HV_R15; name++)
		kept &= name == HV_RSP || get(&p, name) == name * 0x100000001ull;
	tap(kept, "general registers hold what was set");
	value = get_value(&p, HV_CS);
	tap(value.segment.selector == 8 && value.segment.attributes == 0xa09b &&
	    value.segment.limit == ~0u, "so does CS");
	value = get_value(&p, HV_GDTR);
	tap(value.table.base == GDT && value.table.limit == 0x2f, "so does GDTR");
	tap_equal("so does CR3", get(&p, HV_CR3), PML4);
	tap_equal("so does CR4", get(&p, HV_CR4), 0x620);
	tap_equal("so does EFER", get(&p, HV_EFER), 0x500);
	if (try_set_registers(&p, &cr0, 1) == 0) {
		int error = run(&p);

		tap(error || p.message.type == HV_MSG_INVALID_REGISTER ||
		    p.message.type == HV_MSG_UNRECOVERABLE, "an impossible CR0 does not run");
	} else {
		tap(true, "an impossible CR0 is refused");
	}
	partition_close(&p);
}

static void vector_state(void)
{
	uint8_t pattern[16], seen[16];
	struct partition p;
	int i, wrong = 0;

	for (i = 0; i < 16; i++)
		pattern[i] = 0xc0 + i;
	partition_open(&p);
	start_long(&p, vectors, vectors_end);
	memcpy(p.memory + RESULTS, pattern, 16);
	for (i = 0; i < 200; i++) {
		/* Our own XMM3 differs from the guest's, each time. */
		uint64_t ours = 0x1111 * (i + 1), kept;

		asm volatile("movq %0, %%xmm3" :: "r"(ours) : "xmm3");
		if (ioctl(p.vp, MSHV_RUN_VP, &p.message))
			tap_bail_out("RUN_VP: %s", strerror(errno));
		asm volatile("movq %%xmm3, %0" : "=r"(kept));
		wrong += kept != ours;
		skip_instruction(&p);
	}
	tap_equal("our vector registers are ours after each run", wrong, 0);
	memcpy(seen, p.memory + RESULTS + 16, 16);
	if (!tap(!memcmp(seen, pattern, 16), "the guest's are the guest's"))
		tap_note("%016llx%016llx", *(unsigned long long *)(seen + 8),
			 *(unsigned long long *)seen);
	partition_close(&p);
}

static void time_stamps(void)
{
	struct partition p;
	uint64_t last = 0;
	int i;

	partition_open(&p);
	start_long(&p, counts, counts_end);
	for (i = 0; i < 100; i++) {
		if (run(&p) || p.message.type != HV_MSG_IO_PORT || p.message.port.rax <= last)
			break;
		last = p.message.port.rax;
		skip_instruction(&p);
	}
	tap_equal("the guest's TSC only grows", i, 100);
	partition_close(&p);
}

static void states(void)
{
	struct mshv_get_set_vp_state state = { .buf_sz = PAGE };
	struct partition p, other;
	uint8_t *page = some_memory(4 * PAGE);

	partition_open(&p);
	start_long(&p, counts, counts_end);
	state.buf_ptr = (uintptr_t)page;
	state.type = MSHV_VP_STATE_LAPIC;
	if (tap(!ioctl(p.vp, MSHV_GET_VP_STATE, &state), "the local APIC's state can be got")) {
		tap_equal("  APIC ID", *(uint32_t *)page, 0);
		tap_equal("  version", ((uint32_t *)page)[1] & 0xf0, 0x10);
		state.buf_sz = PAGE;
		tap(!ioctl(p.vp, MSHV_SET_VP_STATE, &state), "and set");
	}
	other = another_vp(&p, 1);
	if (tap(!ioctl(other.vp, MSHV_GET_VP_STATE, &state), "that of VP 1"))
		tap_equal("  APIC ID, as in the register of an xAPIC", *(uint32_t *)page, 1 << 24);
	close(other.vp);
	state.type = MSHV_VP_STATE_XSAVE;
	state.buf_sz = 4 * PAGE;
	if (tap(!ioctl(p.vp, MSHV_GET_VP_STATE, &state), "the vector state can be got")) {
		state.buf_sz = 4 * PAGE;
		tap(!ioctl(p.vp, MSHV_SET_VP_STATE, &state), "and set");
	}
	run_to(&p, HV_MSG_IO_PORT, "and the VP runs");
	partition_close(&p);
}

/* Protection keys are a part of the vector state. */
static void protection_keys(void)
{
	struct mshv_get_set_vp_state state = {
		.type = MSHV_VP_STATE_XSAVE, .buf_sz = 4 * PAGE, .buf_ptr = (uintptr_t)some_memory(4 * PAGE),
	};
	struct partition p;
	struct leaf leaf;

	partition_open(&p);
	__cpuid_count(7, 0, leaf.eax, leaf.ebx, leaf.ecx, leaf.edx);
	if (!(leaf.ecx >> 4 & 1)) {
		tap_note("Linux does not use protection keys");
		partition_close(&p);
		return;
	}
	start_long(&p, keys, keys_end);
	set(&p, HV_CR4, 0x620 | 1 << 22);
	run_to(&p, HV_MSG_IO_PORT, "a VP with protection keys runs");
	tap_equal("PKRU at first", get(&p, HV_RAX), 0);
	set(&p, HV_RIP, p.message.header.rip + p.message.header.length);
	run_to(&p, HV_MSG_IO_PORT, "and sets one");
	tap_equal("PKRU", get(&p, HV_RAX), 0x54);
	tap(!ioctl(p.vp, MSHV_GET_VP_STATE, &state), "its vector state can be got");
	set(&p, HV_RIP, p.message.header.rip + p.message.header.length);
	run_to(&p, HV_MSG_IO_PORT, "it sets another");
	tap_equal("PKRU", get(&p, HV_RAX), 0);
	state.buf_sz = 4 * PAGE;
	tap(!ioctl(p.vp, MSHV_SET_VP_STATE, &state), "the first state is set");
	set(&p, HV_RIP, CODE);
	run_to(&p, HV_MSG_IO_PORT, "it runs on");
	tap_equal("PKRU is that of the state", get(&p, HV_RAX), 0x54);
	partition_close(&p);
}

static void register_page(void)
{
	struct mshv_get_set_vp_state state = { .buf_sz = PAGE, .buf_ptr = (uintptr_t)some_memory(PAGE) };
	volatile struct hv_register_page *page;
	struct partition p;

	partition_open(&p);
	page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, p.vp,
		    MSHV_VP_MMAP_OFFSET_REGISTERS * PAGE);
	if (!tap(page != MAP_FAILED, "the register page can be mapped"))
		return;
	tap(page->version == 1 && !page->valid, "it is of version 1, and not valid yet");
	start_long(&p, counts, counts_end);
	tap(page->valid && !page->dirty, "it is valid once registers were set");
	tap(page->rip == CODE && page->rflags == 2 && page->gpr[4] == STACK, "it has the general registers");
	tap(page->cr0 == 0x80010031 && page->cr3 == PML4 && page->cr4 == 0x620 && page->efer == 0x500,
	    "and the control registers");
	tap(page->segments[1].selector == 8 && page->segments[1].attributes == 0xa09b &&
	    page->segments[5].limit == ~0u, "and segments");
	tap(page->dr7 == 0x400 && page->xfem & 1 && !page->pending_interruption, "and others");
	set(&p, 0x40004, 5);
	tap_equal("CR8 follows", page->cr8, 5);
	set(&p, HV_RCX, 77);
	tap_equal("RCX follows", page->gpr[1], 77);
	page->gpr[3] = 0x1234;
	page->segments[4].base = 0x5678;
	page->xmm[5][0] = 0x9abc;
	page->dirty = 1 << 0 | 1 << 2 | 1 << 3;
	tap(get(&p, HV_RBX) == 0x1234 && get_value(&p, HV_FS).segment.base == 0x5678 &&
	    get(&p, HV_XMM0 + 5) == 0x9abc, "what is written there is the VP's");
	tap_equal("and is not dirty any more", page->dirty, 0);
	run_to(&p, HV_MSG_IO_PORT, "the VP runs");
	tap(page->valid && page->rip == p.message.header.rip && page->gpr[3] == 0x1234,
	    "the page has its registers");
	page->rip += p.message.header.length;
	page->dirty = 1 << 1;
	run_to(&p, HV_MSG_IO_PORT, "it goes on from where the page says");
	tap_equal("to the same place", page->rip, p.message.header.rip);
	state.type = MSHV_VP_STATE_LAPIC;
	tap(!ioctl(p.vp, MSHV_GET_VP_STATE, &state) && !ioctl(p.vp, MSHV_SET_VP_STATE, &state) && page->valid,
	    "it is valid when other state was set");
	munmap((void *)page, PAGE);
	partition_close(&p);
}

int main(void)
{
	need_partitions();
	leaves();
	msrs();
	exceptions();
	registers();
	vector_state();
	protection_keys();
	time_stamps();
	states();
	register_page();
	return tap_finish();
}
