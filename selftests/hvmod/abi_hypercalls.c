// SPDX-License-Identifier: GPL-2.0
/* Every hypercall and property of docs/abi.md: served, or refused as the table says. */
#include "partition.h"

#define OK 0

/* On the device, the partition and the VP: the errno of a call with valid input. */
static const struct {
	const char *name;
	uint16_t code;
	int device, partition, vp;
} calls[] = {
	{ "GET_PARTITION_PROPERTY", 0x44, OK, OK, OK },
	{ "SET_PARTITION_PROPERTY", 0x45, EINVAL, OK, EINVAL },
	{ "CLEAR_VIRTUAL_INTERRUPT", 0x56, EINVAL, OK, OK },
	{ "SIGNAL_EVENT_DIRECT", 0xc0, EINVAL, EINVAL, EINVAL },
	{ "POST_MESSAGE_DIRECT", 0xc1, EINVAL, EINVAL, EINVAL },
	{ "READ_GPA", 0x53, EINVAL, EINVAL, EINVAL },
	{ "WRITE_GPA", 0x54, EINVAL, EINVAL, EINVAL },
	{ "MAP_GPA_PAGES", 0x4b, EINVAL, EINVAL, EINVAL },
	{ "CREATE_VP", 0x4e, EINVAL, EINVAL, EINVAL },
};

/* Values that can be read, -1 for any; `set` is the errno of setting that value again. */
static const struct {
	const char *name;
	uint32_t code;
	long long value;
	int set;
} properties[] = {
	{ "PRIVILEGE_FLAGS", 0x00010000, 0, EIO },
	{ "SYNTHETIC_PROC_FEATURES", 0x00010001, -1, EIO },
	{ "SUSPEND", 0x00020000, 0, EINVAL },
	{ "TIME_FREEZE", 0x00030003, 0, OK },
	{ "PROCESSORS_PER_SOCKET", 0x00050003, 0, EIO },
	{ "GPA_PAGE_ACCESS_TRACKING", 0x00050005, 0, OK },
	{ "ISOLATION_STATE", 0x0005000c, 0, EINVAL },
	{ "UNIMPLEMENTED_MSR_ACTION", 0x00050017, 0, OK },
	{ "PROCESSOR_VENDOR", 0x00060000, 1, EACCES },
	{ "PROCESSOR_XSAVE_FEATURES", 0x00060002, -1, EACCES },
	{ "PROCESSOR_CL_FLUSH_SIZE", 0x00060003, -1, EINVAL },
	{ "PHYSICAL_ADDRESS_WIDTH", 0x00060006, -1, EACCES },
	{ "XSAVE_STATES", 0x00060007, -1, EACCES },
	{ "MAX_XSAVE_DATA_SIZE", 0x00060008, -1, EACCES },
	{ "PROCESSOR_CLOCK_FREQUENCY", 0x00060009, -1, EACCES },
	{ "PROCESSOR_FEATURES0", 0x0006000a, -1, EACCES },
	{ "PROCESSOR_FEATURES1", 0x0006000b, -1, EACCES },
	{ "GUEST_OS_ID", 0x00070000, 0, EINVAL },
};

#define COUNT(array) (sizeof(array) / sizeof(array[0]))

static int call(int fd, uint16_t code)
{
	/* Valid for each: a time that is not frozen. */
	struct hv_set_property in = { .code = 0x00030003 };
	uint8_t out[64];
	bool get = code == 0x44;

	return hypercall(fd, code, 0, &in, get ? 16 : sizeof(in), code == 0x45 ? NULL : out,
			 code == 0x45 ? 0 : 8) ? errno : 0;
}

static int get_property(int fd, uint32_t code, uint64_t *value)
{
	struct hv_set_property in = { .code = code };

	return hypercall(fd, HV_GET_PARTITION_PROPERTY, 0, &in, 16, value, 8) ? errno : 0;
}

static int set_property(int fd, uint32_t code, uint64_t value)
{
	struct hv_set_property in = { .code = code, .value = value };

	return hypercall(fd, HV_SET_PARTITION_PROPERTY, 0, &in, sizeof(in), NULL, 0) ? errno : 0;
}

static void hypercalls(struct partition *p)
{
	size_t i;

	/* The device stands for the root, which has no frozen time: any property will do. */
	for (i = 0; i < COUNT(calls); i++) {
		uint64_t vendor;
		int device = calls[i].code == 0x44 ? get_property(p->device, 0x00060000, &vendor) :
						     call(p->device, calls[i].code);

		tap(device == calls[i].device && call(p->fd, calls[i].code) == calls[i].partition &&
		    call(p->vp, calls[i].code) == calls[i].vp, "%s (%#x)", calls[i].name, calls[i].code);
	}
}

static void all_properties(struct partition *p)
{
	uint64_t value, again, out[2];
	struct {
		uint64_t partition_id;
		uint32_t code, padding;
		uint64_t argument;
	} ex = { .code = 0x00090007 };
	size_t i;

	for (i = 0; i < COUNT(properties); i++) {
		int got = get_property(p->fd, properties[i].code, &value);
		int set = set_property(p->fd, properties[i].code, value);

		tap(!got && (properties[i].value < 0 || value == (uint64_t)properties[i].value) &&
		    set == properties[i].set, "%s (%#x)", properties[i].name, properties[i].code);
		if (got || set != properties[i].set)
			tap_note("got: errno %d, %#llx; set: errno %d", got, (unsigned long long)value, set);
		get_property(p->fd, properties[i].code, &again);
		if (again != value)
			tap(false, "%s changed", properties[i].name);
	}
	tap(!hypercall(p->device, 0x101, 0, &ex, sizeof(ex), out, sizeof(out)) && out[1],
	    "VMM_CAPABILITIES by the EX form");
	ex.code = 0x00090009;
	tap(!hypercall(p->fd, 0x101, 0, &ex, sizeof(ex), out, sizeof(out)),
	    "ASSIGNABLE_SYNTHETIC_PROC_FEATURES by the EX form");
	ex.code = 0x00060000;
	tap(hypercall(p->fd, 0x101, 0, &ex, sizeof(ex), out, sizeof(out)) && errno == EINVAL,
	    "a plain property by the EX form: EINVAL");
	tap_equal("an unknown property: EINVAL", get_property(p->fd, 0x12345678, &value), EINVAL);
	tap_equal("  to be set: EINVAL", set_property(p->fd, 0x12345678, 0), EINVAL);
	tap_equal("a property of a structure by the plain form: EINVAL",
		  get_property(p->fd, 0x00090007, &value), EINVAL);
}

/* Those that are served: which have repetitions, and which output. */
static const struct {
	const char *name;
	uint16_t code;
	bool repeated, output;
} forms[] = {
	{ "GET_PARTITION_PROPERTY", 0x44, false, true },
	{ "SET_PARTITION_PROPERTY", 0x45, false, false },
	{ "INSTALL_INTERCEPT", 0x4d, false, false },
	{ "GET_VP_REGISTERS", 0x50, true, true },
	{ "SET_VP_REGISTERS", 0x51, true, false },
	{ "TRANSLATE_VIRTUAL_ADDRESS", 0x52, false, true },
	{ "REGISTER_INTERCEPT_RESULT", 0x91, false, false },
	{ "ASSERT_VIRTUAL_INTERRUPT", 0x94, false, false },
	{ "GET_GPA_PAGES_ACCESS_STATES", 0xc9, true, true },
	{ "GET_VP_CPUID_VALUES", 0xf4, true, true },
	{ "GET_PARTITION_PROPERTY_EX", 0x101, false, true },
};

/* Status 3, invalid input, which is EINVAL, and nothing done. */
static bool invalid(struct partition *p, uint16_t code, uint16_t reps, bool output)
{
	static uint64_t in[512], out[512];
	struct mshv_root_hvcall call = {
		.code = code, .reps = reps, .in_sz = sizeof(in), .out_sz = output ? sizeof(out) : 0,
		.in_ptr = (uintptr_t)in, .out_ptr = output ? (uintptr_t)out : 0,
	};

	memset(out, 0x5a, sizeof(out));
	return ioctl(p->fd, MSHV_ROOT_HVCALL, &call) == -1 && errno == EINVAL && call.status == 3 &&
	       call.reps == 0 && out[0] == 0x5a5a5a5a5a5a5a5a;
}

static void malformed(struct partition *p)
{
	size_t i;

	for (i = 0; i < COUNT(forms); i++) {
		bool repeated = forms[i].repeated, output = forms[i].output;

		tap(invalid(p, forms[i].code, repeated ? 0 : 1, output), "%s with%s repetitions",
		    forms[i].name, repeated ? "out" : "");
		if (repeated)
			tap(invalid(p, forms[i].code, 0xffff, output) &&
			    invalid(p, forms[i].code, 4096, output), "%s with too many repetitions", forms[i].name);
		if (output)
			tap(invalid(p, forms[i].code, repeated, false), "%s without room for its output",
			    forms[i].name);
	}
}

int main(void)
{
	struct partition p;

	need_partitions();
	partition_open(&p);
	hypercalls(&p);
	all_properties(&p);
	malformed(&p);
	partition_close(&p);
	return tap_finish();
}
