// SPDX-License-Identifier: GPL-2.0
/* Every register of docs/abi.md: served, constant, read only, or refused, as the table says. */
#include "partition.h"

/* Registers that hold what is set, `count` that follow each other, and a value that each can hold. */
static const struct {
	const char *name;
	uint32_t first, count;
	uint64_t value;
} held[] = {
	{ "RAX to R15", 0x20000, 16, 0x123456789abc },
	{ "RIP", 0x20010, 1, 0x1234 },
	{ "RFLAGS", 0x20011, 1, 0x246 },
	{ "XMM0 to XMM15", 0x30000, 16, 0x1122334455667788 },
	{ "FP_MMX0 to FP_MMX7", 0x30010, 8, 0x1122334455667788 },
	{ "FP_CONTROL_STATUS", 0x30018, 1, 0x37f },
	{ "XMM_CONTROL_STATUS", 0x30019, 1, 0 },
	{ "CR0", 0x40000, 1, 0x80010033 },
	{ "CR2", 0x40001, 1, 0xfeed000 },
	{ "CR3", 0x40002, 1, 0x11000 },
	{ "CR4", 0x40003, 1, 0x6a0 },
	{ "CR8", 0x40004, 1, 5 },
	{ "XFEM", 0x40005, 1, 3 },
	{ "the intermediate CR0", 0x41000, 1, 0x80010031 },
	{ "the intermediate CR3", 0x41002, 1, 0x12000 },
	{ "the intermediate CR4", 0x41003, 1, 0x620 },
	{ "the intermediate CR8", 0x41004, 1, 3 },
	{ "DR0 to DR3", 0x50000, 4, 0x4000 },
	{ "DR6", 0x50004, 1, 0xffff4ff1 },
	{ "DR7", 0x50005, 1, 0x401 },
	{ "EFER", 0x80001, 1, 0x501 },
	{ "APIC_BASE", 0x80003, 1, 0xfee00900 },
	{ "U_XSS", 0x8008b, 1, 0 },
	{ "KERNEL_GS_BASE", 0x80002, 1, 0x7fff12345000 },
	{ "PAT", 0x80004, 1, 0x0007010600070106 },
	{ "SYSENTER_CS", 0x80005, 1, 8 },
	{ "SYSENTER_EIP and _ESP", 0x80006, 2, 0x7fff12345000 },
	{ "STAR", 0x80008, 1, 0x0023001000000000 },
	{ "LSTAR and CSTAR", 0x80009, 2, 0x7fff12345000 },
	{ "SFMASK", 0x8000b, 1, 0x47700 },
	{ "MTRR_DEF_TYPE", 0x8000e, 1, 0xc06 },
	{ "MTRR_PHYS_BASE0 to 7", 0x80010, 8, 0x80000006 },
	{ "MTRR_PHYS_MASK0 to 7", 0x80040, 8, 0x780000800 },
	{ "the fixed MTRRs", 0x80070, 11, 0x0606060606060606 },
	{ "TSC_AUX", 0x8007b, 1, 7 },
	{ "EXPLICIT_SUSPEND", 0, 1, 1 },
	{ "EXPLICIT_SUSPEND, cleared", 0, 1, 0 },
	{ "INTERCEPT_SUSPEND", 1, 1, 1 },
	{ "INTERNAL_ACTIVITY_STATE", 4, 1, 2 },
	{ "INTERNAL_ACTIVITY_STATE, cleared", 4, 1, 0 },
	{ "PENDING_INTERRUPTION", 0x10002, 1, 0x30001 | 3 << 1 },
	{ "PENDING_INTERRUPTION, cleared", 0x10002, 1, 0 },
	{ "INTERRUPT_STATE", 0x10003, 1, 2 },
	{ "PENDING_EVENT0, with none", 0x10004, 1, 0 },
};

/* Registers that have one value. */
static const struct {
	const char *name;
	uint32_t first, count;
	uint64_t value;
	int error;		/* of setting another one */
} constant[] = {
	{ "INITIAL_APIC_ID", 0x8000c, 1, 0, EINVAL },
	{ "APIC_ID", 0x84802, 1, 0, EINVAL },
	{ "MTRR_CAP", 0x8000d, 1, 0x508, EINVAL },
	{ "MISC_ENABLE", 0x800a0, 1, 1, EINVAL },
	{ "DEBUG_CTL", 0x8007d, 1, 0, EINVAL },
	{ "TSC_ADJUST", 0x80096, 1, 0, EINVAL },
	{ "PENDING_EVENT1", 0x10005, 1, 0, EINVAL },
	{ "DISPATCH_SUSPEND", 3, 1, 0, EINVAL },
	{ "DELIVERABILITY_NOTIFICATIONS", 0x10006, 1, 0, EINVAL },
	{ "HYPERCALL, where it was not asked for", 0x90001, 1, 0, EINVAL },
	{ "GUEST_OS_ID, the same", 0x90002, 1, 0, EINVAL },
	{ "VP_ASSIST_PAGE, the same", 0x90013, 1, 0, EINVAL },
	{ "REFERENCE_TSC, the same", 0x90017, 1, 0, EINVAL },
	{ "SINT0 to SINT15", 0xa0000, 16, 1 << 16, EINVAL },
	{ "SCONTROL to EOM", 0xa0010, 5, 0, EINVAL },
	{ "STIMER0 to STIMER3", 0xb0000, 8, 0, EINVAL },
};

/* Registers that are only read, and those that do not exist. */
static const struct {
	const char *name;
	uint32_t name_of;
	int get, set;
} others[] = {
	{ "VP_INDEX", 0x90003, 0, EACCES },
	{ "VP_ROOT_SIGNAL_COUNT", 0x90014, 0, EACCES },
	{ "SPEC_CTRL", 0x80084, EINVAL, EINVAL },
	{ "U_CET", 0x80086, EINVAL, EINVAL },
	{ "S_CET", 0x80087, EINVAL, EINVAL },
	{ "BNDCFGS", 0x8007c, EINVAL, EINVAL },
	{ "MTRR_PHYS_BASE8, of 8 pairs", 0x80018, EINVAL, EINVAL },
	{ "the register page", 0x9001c, EINVAL, EINVAL },
	{ "the one behind GDTR", 0x70002, EINVAL, EINVAL },
	{ "the last number", 0xffffffff, EINVAL, EINVAL },
};

#define COUNT(array) (sizeof(array) / sizeof(array[0]))

static struct partition p;

static int try_get(uint32_t name, uint64_t *value)
{
	struct {
		struct hv_registers_header header;
		uint32_t name;
	} in = { .name = name };
	union hv_value out = { .u64 = ~0ull };
	int error = hypercall(p.vp, HV_GET_VP_REGISTERS, 1, &in, sizeof(in.header) + sizeof(in.name),
			      &out, sizeof(out)) ? errno : 0;

	*value = out.u64;
	return error;
}

static int try_set(uint32_t name, uint64_t value)
{
	struct hv_assoc assoc = { .name = name, .value.u64 = value };

	return try_set_registers(&p, &assoc, 1) ? errno : 0;
}

/* Sets RAX or CR2, one that is refused, and RBX: the errno and how many were set. */
static int set_three(uint32_t first, uint64_t value, uint32_t second, uint64_t bad, uint16_t *done)
{
	struct {
		struct hv_registers_header header;
		struct hv_assoc registers[3];
	} in = { .registers = { PLAIN(first, value), PLAIN(second, bad), PLAIN(HV_RBX, 0x22) } };
	struct mshv_root_hvcall call = {
		.code = HV_SET_VP_REGISTERS, .reps = 3, .in_sz = sizeof(in), .in_ptr = (uintptr_t)&in,
	};
	int error;

	/* What VMMs leave there. */
	in.registers[0].reserved1 = ~0u;
	in.registers[0].reserved2 = ~0ull;
	error = ioctl(p.vp, MSHV_ROOT_HVCALL, &call) ? errno : 0;
	*done = call.reps;
	return error;
}

static void in_part(void)
{
	struct {
		struct hv_registers_header header;
		uint32_t names[3];
	} in = { .names = { HV_RAX, 0x7fffffff, HV_RBX } };
	union hv_value out[3];
	struct mshv_root_hvcall call = {
		.code = HV_GET_VP_REGISTERS, .reps = 3, .in_sz = sizeof(in), .in_ptr = (uintptr_t)&in,
		.out_sz = sizeof(out), .out_ptr = (uintptr_t)out,
	};
	uint16_t done;

	set(&p, HV_RBX, 0x11);
	tap(set_three(HV_RAX, 0x33, HV_RFLAGS, 1ull << 63, &done) == EINVAL && done == 1 &&
	    get(&p, HV_RAX) == 0x33 && get(&p, HV_RBX) == 0x11, "those before a value that is refused are set");
	tap(set_three(HV_CR2, 0x44000, 0x7fffffff, 0, &done) == EINVAL && done == 1 &&
	    get(&p, HV_CR2) == 0x44000 && get(&p, HV_RBX) == 0x11, "and those before a name that is none");
	tap(ioctl(p.vp, MSHV_ROOT_HVCALL, &call) == -1 && errno == EINVAL && call.reps == 1,
	    "of what is got, those before a name that is none count");
}

int main(void)
{
	uint64_t value = 0;
	size_t i;
	uint32_t n;

	need_partitions();
	partition_open(&p);
	start_long(&p, (const uint8_t *)"\xf4", (const uint8_t *)"\xf4" + 1);
	for (i = 0; i < COUNT(held); i++) {
		int error = 0, got = 0;

		for (n = 0; n < held[i].count; n++)
			error |= try_set(held[i].first + n, held[i].value);
		for (n = 0; n < held[i].count; n++)
			got += try_get(held[i].first + n, &value) || value != held[i].value;
		if (!tap(!error && !got, "%s", held[i].name))
			tap_note("set: errno %d; last %#llx, wanted %#llx", error,
				 (unsigned long long)value, (unsigned long long)held[i].value);
	}
	for (i = 0; i < COUNT(constant); i++) {
		int wrong = 0;

		for (n = 0; n < constant[i].count; n++) {
			uint32_t name = constant[i].first + n;

			wrong += try_get(name, &value) || value != constant[i].value;
			wrong += try_set(name, value) != 0;
			wrong += try_set(name, value ^ 0x5000) != constant[i].error;
			wrong += try_get(name, &value) || value != constant[i].value;
		}
		if (!tap(!wrong, "%s", constant[i].name))
			tap_note("%d differences; the last value is %#llx", wrong, (unsigned long long)value);
	}
	for (i = 0; i < COUNT(others); i++) {
		int get = try_get(others[i].name_of, &value), set = try_set(others[i].name_of, 1);

		if (!tap(get == others[i].get && set == others[i].set, "%s", others[i].name))
			tap_note("get: errno %d; set: errno %d", get, set);
	}
	in_part();
	partition_close(&p);
	return tap_finish();
}
