// SPDX-License-Identifier: GPL-2.0
/* What a VMM has a say in: CPUID, MSRs that the hypervisor lacks, exceptions. */
#include "partition.h"

GUEST_CODE(64, ask_cpuid, "cpuid\n" "outb %al, $0x10\n");
GUEST_CODE(64, ask_msr, "rdmsr\n" "outb %al, $0x10\n");
GUEST_CODE(64, tell_msr, "wrmsr\n" "outb %al, $0x10\n");
GUEST_CODE(64, page_fault, "movb $1, 0x40001234\n" "outb %al, $0x10\n");
GUEST_CODE(64, breakpoint, "int3\n" "outb %al, $0x10\n");
GUEST_CODE(64, handler, "outb %al, $0x11\n");

#define ABSENT_MSR	0x4b564d00	/* nobody has it */

static int install(struct partition *p, uint32_t type, uint32_t access, uint64_t parameter)
{
	struct hv_install_intercept in = { .access = access, .type = type, .parameter = parameter };

	return hypercall(p->fd, HV_INSTALL_INTERCEPT, 0, &in, sizeof(in), NULL, 0) ? errno : 0;
}

static int register_result(struct partition *p, struct hv_cpuid_result in)
{
	in.type = HV_TYPE_CPUID;
	return hypercall(p->vp, HV_REGISTER_INTERCEPT_RESULT, 0, &in, sizeof(in), NULL, 0) ? errno : 0;
}

/* EBX that a leaf has for the guest; ~0 if the guest does not come out where it should. */
static uint32_t guest_cpuid(struct partition *p, uint32_t leaf, uint32_t subleaf)
{
	start_long(p, ask_cpuid, ask_cpuid_end);
	set(p, HV_RAX, leaf);
	set(p, HV_RCX, subleaf);
	if (run(p) || p->message.type != HV_MSG_IO_PORT)
		return ~0u;
	return get(p, HV_RBX);
}

static void cpuid_results(void)
{
	struct partition p;
	uint32_t before;

	partition_open(&p);
	before = guest_cpuid(&p, 1, 0);
	tap_equal("a result for every bit", register_result(&p, (struct hv_cpuid_result){
		.eax = 2, .values = { 1, ~0u, 0xabc, ~0u, 3, ~0u, 4, ~0u } }), 0);
	tap_equal("the guest is told so", guest_cpuid(&p, 2, 0), 0xabc);
	tap_equal("  in all registers", get(&p, HV_RDX), 4);
	tap_equal("a result for some bits", register_result(&p, (struct hv_cpuid_result){
		.eax = 1, .values = { 0, 0, 0x5a << 24, 0xff << 24 } }), 0);
	tap_equal("the others are the hypervisor's", guest_cpuid(&p, 1, 0),
		  (before & 0xffffff) | 0x5a << 24);
	tap_equal("a result for one subleaf", register_result(&p, (struct hv_cpuid_result){
		.eax = 4, .ecx = 5, .subleaf_specific = 1, .values = { 0, ~0u, 77, ~0u, 0, ~0u, 0, ~0u } }), 0);
	tap_equal("that subleaf has it", guest_cpuid(&p, 4, 5), 77);
	tap(guest_cpuid(&p, 4, 6) != 77, "another one has not");
	tap_equal("every feature there could be", register_result(&p, (struct hv_cpuid_result){
		.eax = 1, .values = { 0, 0, 0, 0, ~0u, ~0u, ~0u, ~0u } }), 0);
	guest_cpuid(&p, 1, 0);
	tap(!(get(&p, HV_RCX) & 1 << 5), "a VMM cannot add one that the hypervisor lacks: VMX");
	tap(get(&p, HV_RCX) >> 31 & 1, "it can say that there is a hypervisor");
	tap(!(get(&p, HV_RCX) & 1 << 27), "OSXSAVE follows CR4: clear");
	set(&p, HV_RIP, CODE);
	set(&p, HV_CR4, 0x40620);
	set(&p, HV_RAX, 1);
	run_to(&p, HV_MSG_IO_PORT, "CPUID with CR4.OSXSAVE");
	tap(get(&p, HV_RCX) >> 27 & 1, "OSXSAVE follows CR4: set");
	tap_equal("the same leaf again replaces the result", register_result(&p, (struct hv_cpuid_result){
		.eax = 2, .values = { 1, ~0u, 9, ~0u, 3, ~0u, 4, ~0u } }), 0);
	tap_equal("the guest is told the new one", guest_cpuid(&p, 2, 0), 9);
	tap_equal("a padding that is not 0: EINVAL", register_result(&p, (struct hv_cpuid_result){
		.eax = 2, .padding = 1 }), EINVAL);
	tap_equal("a VP that does not exist: EINVAL", register_result(&p, (struct hv_cpuid_result){
		.eax = 2, .vp_index = 7 }), EINVAL);
	tap_equal("refused ones change nothing", guest_cpuid(&p, 2, 0), 9);
	partition_close(&p);
}

static void cpuid_values(void)
{
	struct hv_cpuid_values in = { .flags = 3, .leaf = { { .eax = 2 }, { .eax = 1 } } };
	uint32_t out[2][4] = { 0 };
	struct partition p;

	partition_open(&p);
	register_result(&p, (struct hv_cpuid_result){
		.eax = 2, .values = { 1, ~0u, 0xabc, ~0u, 3, ~0u, 4, ~0u } });
	tap(!hypercall(p.vp, HV_GET_VP_CPUID_VALUES, 2, &in, sizeof(in), out, sizeof(out)),
	    "what CPUID says can be asked for");
	tap_equal("  with what was registered", out[0][1], 0xabc);
	tap_equal("  as the guest sees it", out[1][1], guest_cpuid(&p, 1, 0));
	in.flags = 1;
	tap(!hypercall(p.vp, HV_GET_VP_CPUID_VALUES, 1, &in, sizeof(in), out, sizeof(out)) &&
	    out[0][1] != 0xabc, "or without it");
	in.flags = 4;
	tap(hypercall(p.vp, HV_GET_VP_CPUID_VALUES, 1, &in, sizeof(in), out, sizeof(out)) &&
	    errno == EINVAL, "an unknown flag: EINVAL");
	partition_close(&p);
}

static void cpuid_intercepts(void)
{
	struct partition p;

	partition_open(&p);
	tap_equal("an intercept of one leaf", install(&p, HV_TYPE_CPUID, 1 << HV_EXECUTE, 0x40000000), 0);
	start_long(&p, ask_cpuid, ask_cpuid_end);
	set(&p, HV_RAX, 0x40000000);
	set(&p, HV_RCX, 3);
	if (run_to(&p, HV_MSG_CPUID, "CPUID of that leaf is told")) {
		tap_equal("  RAX", p.message.cpuid.rax, 0x40000000);
		tap_equal("  RCX", p.message.cpuid.rcx, 3);
		tap_equal("  RIP is at the instruction", p.message.header.rip, CODE);
		tap_equal("  of 2 bytes", p.message.header.length, 2);
		set(&p, HV_RBX, 0x1234);
		skip_instruction(&p);
		run_to(&p, HV_MSG_IO_PORT, "the guest goes on");
		tap_equal("with what the VMM said", get(&p, HV_RBX), 0x1234);
	}
	tap(guest_cpuid(&p, 0, 0) != ~0u, "other leaves are not told");
	tap_equal("the intercept is taken back", install(&p, HV_TYPE_CPUID, 0, 0x40000000), 0);
	tap(guest_cpuid(&p, 0x40000000, 0) != ~0u, "CPUID of that leaf is not told any more");
	partition_close(&p);
}

/* An access to the MSR that nobody has: the port at which the guest comes out, or a message. */
static uint32_t msr(struct partition *p, bool write)
{
	start_long(p, write ? tell_msr : ask_msr, write ? tell_msr_end : ask_msr_end);
	memcpy(p->memory + CODE + 0x800, handler, handler_end - handler);
	set_gate(p, 13, 0x800);
	set(p, HV_RCX, ABSENT_MSR);
	set(p, HV_RAX, 0x55);
	set(p, HV_RDX, 0x66);
	if (run(p))
		return 0;
	return p->message.type == HV_MSG_IO_PORT ? p->message.port.port : p->message.type;
}

static void msrs(void)
{
	struct hv_set_property in = { .code = HV_PROP_UNIMPLEMENTED_MSR, .value = 1 };
	struct partition p;

	partition_open(&p);
	tap_equal("RDMSR of one that nobody has: #GP", msr(&p, false), 0x11);
	tap_equal("an intercept of reads", install(&p, HV_TYPE_MSR_INDEX, 1 << HV_READ, ABSENT_MSR), 0);
	if (tap_equal("RDMSR is told", msr(&p, false), HV_MSG_MSR)) {
		tap_equal("  its number", p.message.msr.number, ABSENT_MSR);
		tap_equal("  as a read", p.message.header.access, HV_READ);
		set(&p, HV_RAX, 0x77);
		skip_instruction(&p);
		run_to(&p, HV_MSG_IO_PORT, "the guest goes on");
		tap_equal("with what the VMM said", get(&p, HV_RAX), 0x77);
	}
	tap_equal("WRMSR still is #GP", msr(&p, true), 0x11);
	tap_equal("an intercept of every write", install(&p, HV_TYPE_MSR, 1 << HV_WRITE, 0), 0);
	if (tap_equal("WRMSR is told", msr(&p, true), HV_MSG_MSR)) {
		tap_equal("  EAX", p.message.msr.rax, 0x55);
		tap_equal("  EDX", p.message.msr.rdx, 0x66);
	}
	install(&p, HV_TYPE_MSR_INDEX, 0, ABSENT_MSR);
	install(&p, HV_TYPE_MSR, 0, 0);
	tap_equal("both are taken back", msr(&p, true), 0x11);
	tap(!hypercall(p.fd, HV_SET_PARTITION_PROPERTY, 0, &in, sizeof(in), NULL, 0),
	    "unknown MSRs are to be ignored");
	tap_equal("WRMSR does nothing", msr(&p, true), 0x10);
	tap_equal("RDMSR", msr(&p, false), 0x10);
	tap(get(&p, HV_RAX) == 0 && get(&p, HV_RDX) == 0, "  gives 0");
	in.value = 2;
	tap(hypercall(p.fd, HV_SET_PARTITION_PROPERTY, 0, &in, sizeof(in), NULL, 0) &&
	    errno == EINVAL, "another action: EINVAL");
	partition_close(&p);
}

static void exceptions(void)
{
	struct partition p;

	partition_open(&p);
	tap_equal("an intercept of #PF", install(&p, HV_TYPE_EXCEPTION, 1 << HV_EXECUTE, 14), 0);
	start_long(&p, page_fault, page_fault_end);
	set(&p, HV_CR2, 0x99);
	if (run_to(&p, HV_MSG_EXCEPTION, "#PF is told")) {
		tap_equal("  its vector", p.message.exception.vector, 14);
		tap_equal("  its error code: a write, not present", p.message.exception.error_code, 2);
		tap_equal("  which is valid", p.message.exception.info & 1, 1);
		tap_equal("  its address", p.message.exception.parameter, 0x40001234);
		tap_equal("  the bytes of the instruction", p.message.exception.bytes_count > 0, 1);
		tap_equal("CR2 is still the old one", get(&p, HV_CR2), 0x99);
	}
	start_long(&p, breakpoint, breakpoint_end);
	memcpy(p.memory + CODE + 0x800, handler, handler_end - handler);
	set_gate(&p, 3, 0x800);
	run_to(&p, HV_MSG_IO_PORT, "#BP is the guest's own");
	tap_equal("an intercept of #BP", install(&p, HV_TYPE_EXCEPTION, 1 << HV_EXECUTE, 3), 0);
	start_long(&p, breakpoint, breakpoint_end);
	if (run_to(&p, HV_MSG_EXCEPTION, "#BP is told"))
		tap_equal("  as a software exception", p.message.exception.info >> 1 & 1, 1);
	tap_equal("#BP is taken back", install(&p, HV_TYPE_EXCEPTION, 0, 3), 0);
	start_long(&p, breakpoint, breakpoint_end);
	memcpy(p.memory + CODE + 0x800, handler, handler_end - handler);
	set_gate(&p, 3, 0x800);
	run_to(&p, HV_MSG_IO_PORT, "#BP is the guest's own again");
	partition_close(&p);
}

static void refusals(void)
{
	static const struct {
		const char *name;
		uint32_t type, access;
		uint64_t parameter;
	} cases[] = {
		{ "NMI", HV_TYPE_EXCEPTION, 1 << HV_EXECUTE, 2 },
		{ "#MC", HV_TYPE_EXCEPTION, 1 << HV_EXECUTE, 18 },
		{ "exception 32", HV_TYPE_EXCEPTION, 1 << HV_EXECUTE, 32 },
		{ "reads of an exception", HV_TYPE_EXCEPTION, 1 << HV_READ, 14 },
		{ "execution of a port", HV_TYPE_PORT, 1 << HV_EXECUTE, 0x60 },
		{ "a type that does not exist", 13, 1 << HV_READ, 0 },
	};
	struct partition p;
	size_t i;

	partition_open(&p);
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		tap(install(&p, cases[i].type, cases[i].access, cases[i].parameter) == EINVAL,
		    "intercept of %s: EINVAL", cases[i].name);
	tap_equal("intercept of a port", install(&p, HV_TYPE_PORT, 3, 0x60), 0);
	start_long(&p, breakpoint, breakpoint_end);
	memcpy(p.memory + CODE + 0x800, handler, handler_end - handler);
	set_gate(&p, 3, 0x800);
	run_to(&p, HV_MSG_IO_PORT, "the partition is as it was");
	partition_close(&p);
}

int main(void)
{
	need_partitions();
	cpuid_results();
	cpuid_values();
	cpuid_intercepts();
	msrs();
	exceptions();
	refusals();
	return tap_finish();
}
