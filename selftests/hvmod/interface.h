/* SPDX-License-Identifier: GPL-2.0 */
/* A guest that knows Hyper-V: its MSRs, one access at a time. */
#ifndef HVMOD_TEST_INTERFACE_H
#define HVMOD_TEST_INTERFACE_H

#include "partition.h"

enum {
	MSR_GUEST_OS_ID = 0x40000000, MSR_HYPERCALL, MSR_VP_INDEX, MSR_RESET,
	MSR_VP_RUNTIME = 0x40000010, MSR_TIME = 0x40000020, MSR_REFERENCE_TSC, MSR_TSC_FREQUENCY,
	MSR_APIC_FREQUENCY, MSR_EOI = 0x40000070, MSR_VP_ASSIST_PAGE = 0x40000073,
	MSR_SCONTROL = 0x40000080, MSR_SVERSION, MSR_SIEFP,
	MSR_SIMP, MSR_EOM, MSR_SINT0 = 0x40000090, MSR_STIMER0 = 0x400000b0, MSR_IDLE = 0x400000f0,
	MSR_TSC_INVARIANT = 0x40000118,
};

GUEST_CODE(64, ask_msr, "rdmsr\n" "outb %al, $0x10\n");
GUEST_CODE(64, tell_msr, "wrmsr\n" "outb %al, $0x10\n");
GUEST_CODE(64, fault, "outb %al, $0x11\n");

/* Whether the code came to its end: false if it faulted. */
__attribute__((unused))
static bool comes_through(struct partition *p)
{
	memcpy(p->memory + CODE + 0x800, fault, fault_end - fault);
	set_gate(p, 6, 0x800);
	set_gate(p, 13, 0x800);
	if (run(p) || p->message.type != HV_MSG_IO_PORT)
		tap_bail_out("the guest is lost: message %#x", p->message.type);
	return p->message.port.port == 0x10;
}

__attribute__((unused))
static bool read_msr(struct partition *p, uint32_t msr, uint64_t *value)
{
	start_long(p, ask_msr, ask_msr_end);
	set(p, HV_RCX, msr);
	if (!comes_through(p))
		return false;
	*value = get(p, HV_RDX) << 32 | get(p, HV_RAX);
	return true;
}

__attribute__((unused))
static uint64_t msr(struct partition *p, uint32_t number)
{
	uint64_t value;

	if (!read_msr(p, number, &value))
		tap_bail_out("MSR %#x cannot be read", number);
	return value;
}

__attribute__((unused))
static bool write_msr(struct partition *p, uint32_t msr, uint64_t value)
{
	start_long(p, tell_msr, tell_msr_end);
	set(p, HV_RCX, msr);
	set(p, HV_RAX, value & 0xffffffff);
	set(p, HV_RDX, value >> 32);
	return comes_through(p);
}

#endif
