/* SPDX-License-Identifier: GPL-2.0 */
/*
 * For ioctl_fuzz.c: choices, places for arguments, and the account of all calls. The same seed
 * makes the same choices.
 */
#ifndef HVMOD_TEST_IOCTL_FUZZ_H
#define HVMOD_TEST_IOCTL_FUZZ_H

#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>

#include "partition.h"

#define ARENA		(8u << 20)
#define GUARD		(1u << 20)
#define ERRORS		134
#define FILES		32		/* that are nobody's in particular */

/* Of how many random calls one that is rare succeeds: of 4000 it does some four times. */
#define RARE		20000

/* A row of the account: a call, its name, and of how many calls of any kind it must succeed once. */
#define ROWS(row)								\
	row(OPEN, "open", 1)							\
	row(CREATE_PARTITION, "MSHV_CREATE_PARTITION", 1)			\
	row(CREATE_PARTITION_V2, "MSHV_CREATE_PARTITION with features", 1)	\
	row(INITIALIZE, "MSHV_INITIALIZE_PARTITION", 1)				\
	row(CREATE_VP, "MSHV_CREATE_VP", 1)					\
	row(SET_MEMORY, "MSHV_SET_GUEST_MEMORY map", 1)				\
	row(UNMAP, "MSHV_SET_GUEST_MEMORY unmap", 1)				\
	row(IRQFD, "MSHV_IRQFD", 1)						\
	row(IRQFD_RESAMPLE, "MSHV_IRQFD resample", 1)				\
	row(IRQFD_DEASSIGN, "MSHV_IRQFD deassign", 1)				\
	row(IOEVENTFD, "MSHV_IOEVENTFD", 1)					\
	row(IOEVENTFD_DEASSIGN, "MSHV_IOEVENTFD deassign", 1)			\
	row(ROUTING, "MSHV_SET_MSI_ROUTING", 1)					\
	row(BITMAP, "MSHV_GET_GPAP_ACCESS_BITMAP", 1)				\
	row(RUN, "MSHV_RUN_VP", 1)						\
	row(GET_LAPIC, "MSHV_GET_VP_STATE local APIC", 1)			\
	row(SET_LAPIC, "MSHV_SET_VP_STATE local APIC", 1)			\
	row(GET_XSAVE, "MSHV_GET_VP_STATE XSAVE", 1)				\
	row(SET_XSAVE, "MSHV_SET_VP_STATE XSAVE", 1)				\
	row(GET_SYNIC, "MSHV_GET_VP_STATE SynIC", 1)				\
	row(SET_SYNIC, "MSHV_SET_VP_STATE SynIC", 1)				\
	row(ROOT_PROPERTY, "MSHV_ROOT_HVCALL on the device", 1)			\
	row(GET_PROPERTY, "  GET_PARTITION_PROPERTY", 1)			\
	row(GET_PROPERTY_EX, "  GET_PARTITION_PROPERTY_EX", 1)			\
	row(SET_PROPERTY, "  SET_PARTITION_PROPERTY", 1)			\
	row(FREEZE, "  SET_PARTITION_PROPERTY TIME_FREEZE", 1)			\
	row(INSTALL, "  INSTALL_INTERCEPT", 1)					\
	row(GET_REGISTERS, "  GET_VP_REGISTERS", 1)				\
	row(SET_REGISTERS, "  SET_VP_REGISTERS", 1)				\
	row(TRANSLATE, "  TRANSLATE_VIRTUAL_ADDRESS", 1)			\
	row(CPUID_RESULT, "  REGISTER_INTERCEPT_RESULT", 1)			\
	row(ASSERT, "  ASSERT_VIRTUAL_INTERRUPT", 1)				\
	row(ACCESS_STATES, "  GET_GPA_PAGES_ACCESS_STATES", 1)			\
	row(SIGNAL_EVENT, "  SIGNAL_EVENT_DIRECT", 1)				\
	row(POST_MESSAGE, "  POST_MESSAGE_DIRECT", RARE)			\
	row(CPUID_VALUES, "  GET_VP_CPUID_VALUES", 1)				\
	row(ANY_HVCALL, "  any number", 0)					\
	row(CAPS, "HVMOD_GET_CAPS", 1)						\
	row(INFO, "HVMOD_GET_INFO", 1)						\
	row(LP_INFO, "HVMOD_GET_LP_INFO", 1)					\
	row(PARTITION_INFO, "HVMOD_GET_PARTITION_INFO", 1)			\
	row(VP_INFO, "HVMOD_GET_VP_INFO", 1)					\
	row(READ_LOG, "HVMOD_READ_LOG", 1)					\
	row(PRIVATE, "HVMOD_SET_PRIVATE_MEMORY", 1)				\
	row(DISCARD, "HVMOD_DISCARD_MEMORY", 1)					\
	row(RESTORED, "  and the guest touched it", RARE)			\
	row(ANY_IOCTL, "any number, any file", 0)				\
	row(MMAP, "mmap", 1)							\
	row(SIGNAL, "eventfd write", 1)						\
	row(FILE_CALL, "read, write, poll, lseek, dup", 0)			\
	row(CLOSE, "close", 1)

enum row {
#define ROW(name, text, needed) ROW_##name,
	ROWS(ROW)
#undef ROW
	ROW_COUNT
};

static struct shared {
	_Atomic uint64_t calls, good;
	struct {
		_Atomic uint64_t calls, good, errors[ERRORS];
	} rows[ROW_COUNT];
} *shared;

static _Atomic int files[FILES];
static uint8_t *arena, *constant, *edge;
static __thread uint64_t state;
static __thread sigjmp_buf fault;

static uint64_t next(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state * 0x2545f4914f6cdd1dull >> 7;
}

static uint64_t below(uint64_t limit)
{
	return next() % limit;
}

/* One time in `n`. */
static bool rarely(uint64_t n)
{
	return below(n) == 0;
}

#define ONE_OF(list) ((list)[below(sizeof(list) / sizeof(*(list)))])

/* A number that is somehow interesting. */
static uint64_t odd(void)
{
	static const uint64_t edges[] = {
		0, 1, 2, 7, 8, 63, 64, 255, 256, 511, 512, 4095, 4096, 0xfee00, 0xfee00000, 0x7fffffff,
		0x80000000, 0xffffffff, 1ull << 32, 1ull << 36, 1ull << 40, 1ull << 47, 1ull << 52,
		~0ull >> 1, 1ull << 63, ~0ull, ~0xfffull,
	};

	switch (below(4)) {
	case 0:
		return ONE_OF(edges);
	case 1:
		return next() >> below(57);
	default:
		return below(32);
	}
}

/* A page of the arena's last MiB, which is for arguments; the rest is guests' memory. */
static uint8_t *page(void)
{
	return arena + ARENA - (1 << 20) + (below(128) << 13);
}

/* Where something may lie that the kernel reads or writes: mostly where it can. */
static void *place(size_t size)
{
	if (!rarely(16))
		return page();
	switch (below(7)) {
	case 0:
		return NULL;
	case 1:
		return (void *)0xffff888000000000;
	case 2:
		return (void *)0x8000000000000000;
	case 3:
		return constant;
	case 4:
		return edge - below(size + 1);
	case 5:
		return (void *)odd();
	default:
		return arena + below(ARENA - 8192);
	}
}

static bool in_arena(const uint8_t *at)
{
	return at >= arena && at < arena + ARENA - 8192;
}

/* Copies, where memory may be gone. */
static bool copy(void *to, const void *from, size_t size)
{
	if (sigsetjmp(fault, 1))
		return false;
	memcpy(to, from, size);
	return true;
}

/* A file that may be anything. */
static int any_file(void)
{
	return rarely(20) ? (int)odd() : files[below(FILES)];
}

static void count(enum row row, long result)
{
	int error = result < 0 ? errno : 0;

	atomic_fetch_add(&shared->calls, 1);
	atomic_fetch_add(&shared->rows[row].calls, 1);
	if (!error) {
		atomic_fetch_add(&shared->good, 1);
		atomic_fetch_add(&shared->rows[row].good, 1);
	} else if (error < ERRORS) {
		atomic_fetch_add(&shared->rows[row].errors[error], 1);
	}
}

static int call(enum row row, int fd, unsigned long request, void *argument)
{
	int result = ioctl(fd, request, argument);

	count(row, result);
	return result;
}

static int close_file(int fd)
{
	int result = -1;

	if (fd > 2) {
		result = close(fd);
		count(ROW_CLOSE, result);
	}
	return result;
}

/* Bytes that lie in the kernel's reach, changed at times. */
static void spoil(void *structure, size_t size)
{
	uint8_t *bytes = structure;

	if (!rarely(12))
		return;
	if (rarely(2) && size >= 8) {
		uint64_t value = odd();

		memcpy(bytes + below(size - 7), &value, 8);
	} else {
		bytes[below(size)] ^= 1 << below(8);
	}
}

/* A call with this structure, at times with something wrong: in it, its place, or the file. */
static int with(enum row row, int fd, unsigned long request, void *structure, size_t size)
{
	uint8_t *at = place(size);
	int result;

	spoil(structure, size);
	if (rarely(32))
		fd = any_file();
	if (!in_arena(at))
		return call(row, fd, request, rarely(2) ? at : structure);
	copy(at, structure, size);
	result = call(row, fd, request, at);
	copy(structure, at, size);
	return result;
}

#define WITH(row, fd, request, structure) \
	with(ROW_##row, fd, request, &(structure), sizeof(structure))

static int hvcall(enum row row, int fd, uint16_t code, uint16_t reps, void *in,
		  size_t in_size, void *out, size_t out_size)
{
	struct mshv_root_hvcall request = {
		.code = code, .reps = reps, .in_sz = in_size, .out_sz = out_size,
		.in_ptr = (uintptr_t)place(in_size), .out_ptr = out_size ? (uintptr_t)place(out_size) : 0,
	};
	int result;

	spoil(in, in_size);
	if (!in_arena((uint8_t *)request.in_ptr) || !copy((void *)request.in_ptr, in, in_size))
		request.in_ptr = rarely(2) ? (uintptr_t)in : odd();
	if (rarely(40))
		request.reps = odd();
	if (rarely(40))
		request.in_sz = odd();
	if (rarely(40))
		request.out_sz = odd();
	result = with(row, fd, MSHV_ROOT_HVCALL, &request, sizeof(request));
	if (!result && out && in_arena((uint8_t *)request.out_ptr))
		copy(out, (void *)request.out_ptr, out_size);
	return result;
}

#define HVCALL(row, fd, code, reps, in, in_size, out, out_size) \
	hvcall(ROW_##row, fd, code, reps, in, in_size, out, out_size)

#endif
