// SPDX-License-Identifier: GPL-2.0
/* HVMOD_DISCARD_MEMORY: memory that a guest does without, and has again when it touches it. */
#include <sys/wait.h>

#include "partition.h"

#define UNIT	HVMOD_DISCARD_UNIT
#define REGION	0x400000ull	/* three units */
/* A hypervisor that guests know, with a reference TSC. */
#define FEATURES	(1 << 0 | 1 << 1 | 1 << 9)

/* Says what is at RBX, then writes RCX there. */
GUEST_CODE(64, toucher,
	"1: mov (%rbx), %rax\n"
	"outl %eax, $0x10\n"
	"mov %rcx, (%rbx)\n"
	"outb %al, $0x11\n"
	"jmp 1b\n");

static uint8_t *region;

static int discard(struct partition *p, uint64_t gpa, uint64_t size)
{
	struct hvmod_discard_memory memory = { .guest_pfn = gpa / PAGE, .size = size };

	return ioctl(p->fd, HVMOD_DISCARD_MEMORY, &memory) ? errno : 0;
}

/* Whether the guest reads `wanted` at an address of the region and then writes `next` there. */
static bool touch(struct partition *p, uint64_t offset, uint64_t wanted, uint64_t next)
{
	uint64_t got;

	set(p, HV_RBX, REGION + offset);
	set(p, HV_RCX, next);
	set(p, HV_RIP, CODE);
	if (run(p) || p->message.type != HV_MSG_IO_PORT)
		return false;
	got = p->message.port.rax & 0xffffffff;
	if (got != wanted)
		tap_note("the guest reads %llu, wanted %llu", (unsigned long long)got,
			 (unsigned long long)wanted);
	skip_instruction(p);
	return !run(p) && p->message.type == HV_MSG_IO_PORT && got == wanted;
}

static uint64_t *ours(uint64_t offset)
{
	return (uint64_t *)(region + offset);
}

static uint64_t shared(struct partition *p)
{
	struct hvmod_partition_info info = { 0 };

	if (ioctl(p->device, HVMOD_GET_PARTITION_INFO, &info))
		tap_bail_out("HVMOD_GET_PARTITION_INFO: %s", strerror(errno));
	return info.shared_bytes;
}

static int track(struct partition *p, uint64_t on)
{
	struct hv_set_property property = { .code = HV_PROP_GPA_ACCESS_TRACKING, .value = on };

	return hypercall(p->fd, HV_SET_PARTITION_PROPERTY, 0, &property, sizeof(property), NULL, 0);
}

static void refusals(struct partition *p)
{
	struct hvmod_discard_memory memory = { .guest_pfn = REGION / PAGE, .size = UNIT };

	tap_equal("not where a unit begins: EINVAL", discard(p, REGION + PAGE, UNIT), EINVAL);
	tap_equal("no whole unit: EINVAL", discard(p, REGION, UNIT - PAGE), EINVAL);
	tap_equal("nothing: EINVAL", discard(p, REGION, 0), EINVAL);
	tap_equal("where no memory is: ENOENT", discard(p, 1ull << 40, UNIT), ENOENT);
	tap_equal("at the last address: ENOENT", discard(p, -(uint64_t)UNIT, UNIT), ENOENT);
	tap_equal("more than there is: ENOENT", discard(p, REGION, 4 * UNIT), ENOENT);
	tap_equal("much more: ENOENT", discard(p, REGION, -(uint64_t)UNIT), ENOENT);
	tap_equal("from one region into another: ENOENT",
		  discard(p, REGION + 2 * UNIT, 2 * UNIT), ENOENT);
	memory.reserved[1] = 1;
	tap(ioctl(p->fd, HVMOD_DISCARD_MEMORY, &memory) && errno == EINVAL, "a reserved word: EINVAL");
	tap(ioctl(p->fd, HVMOD_DISCARD_MEMORY, NULL) && errno == EFAULT, "a bad pointer: EFAULT");
	tap(ioctl(p->device, HVMOD_DISCARD_MEMORY, &memory) && errno == ENOTTY, "on the device: ENOTTY");
}

static void comes_and_goes(struct partition *p)
{
	uint64_t before = shared(p);

	*ours(UNIT) = 11;
	tap(touch(p, UNIT, 11, 12), "the guest has its memory");
	tap_equal("it is discarded", discard(p, REGION + UNIT, UNIT), 0);
	tap_equal("and does not count as the partition's", before - shared(p), UNIT);
	tap_equal("twice", discard(p, REGION + UNIT, UNIT), 0);
	tap_equal("what is in it is the program's", *ours(UNIT), 12);
	tap(touch(p, UNIT, 12, 13), "touched, it is as the program has it");
	tap_equal("and counts", shared(p), before);
	tap_equal("the program sees what the guest writes", *ours(UNIT), 13);

	discard(p, REGION + UNIT, UNIT);
	tap(!madvise(region + UNIT, UNIT, MADV_REMOVE), "the program gives it back");
	tap(touch(p, UNIT + PAGE, 0, 14), "touched, it is new");
	tap_equal("and the same for both", *ours(UNIT + PAGE), 14);
	tap(touch(p, 2 * UNIT - 8, 0, 15), "up to its end");

	tap_equal("all of the region", discard(p, REGION, 3 * UNIT), 0);
	*ours(0) = 16;
	tap(touch(p, 0, 16, 17), "the program writes first: the guest sees it");
	tap(touch(p, 2 * UNIT, 0, 18), "and the rest of it later");
	tap_equal("one unit is still missing", before - shared(p), UNIT);
}

/* Also hvmod finds nothing there, where it writes pages of Hyper-V's interface. */
static void of_hvmod(struct partition *p)
{
	struct hv_assoc page = { .name = HV_REFERENCE_TSC, .value.u64 = (REGION + PAGE) | 1 };
	uint64_t now = *ours(8);

	discard(p, REGION, UNIT);
	tap(try_set_registers(p, &page, 1), "a page of the interface cannot be where nothing is");
	tap(touch(p, 8, now & 0xffffffff, 19), "touched, it is there");
	tap(!try_set_registers(p, &page, 1), "and can hold one");
	tap(*ours(PAGE), "which the program sees");
	page.value.u64 = 0;
	set_registers(p, &page, 1);
}

/* A thread of another program does not bring memory of its own. */
static void of_others(struct partition *p)
{
	pid_t child;
	int status;

	discard(p, REGION, UNIT);
	*ours(0) = 21;
	child = fork();
	if (!child) {
		set(p, HV_RBX, REGION);
		set(p, HV_RIP, CODE);
		*ours(0) = 20;
		_exit(run(p) || p->message.type == HV_MSG_IO_PORT);
	}
	waitpid(child, &status, 0);
	tap(WIFEXITED(status) && !WEXITSTATUS(status), "run by another program, it is an intercept");
	tap(touch(p, 0, 20, 22), "run by its own, it is there");
}

static void tracked(struct partition *p)
{
	discard(p, REGION, 3 * UNIT);
	if (!tap(!track(p, 1), "accesses can be tracked with memory discarded"))
		tap_note("%s", strerror(errno));
	tap_equal("while they are nothing is discarded: EBUSY", discard(p, REGION, UNIT), EBUSY);
	tap(touch(p, UNIT, *ours(UNIT) & 0xffffffff, 31), "touched, it is there");
	tap(!track(p, 0), "tracking ends");
	tap(touch(p, UNIT, 31, 32), "what was touched is there");
	tap(touch(p, 0, 22, 33), "and what was not comes");
}

int main(void)
{
	struct partition p;

	need_partitions();
	/* Its parts are at multiples of a unit, so that large pages are possible. */
	region = some_memory(4 * UNIT);
	region += -(uintptr_t)region & (UNIT - 1);
	partition_open_as(&p, FEATURES);
	if (map(&p, REGION, region, 3 * UNIT, WRITABLE | EXECUTABLE))
		tap_bail_out("MSHV_SET_GUEST_MEMORY: %s", strerror(errno));
	start_long(&p, toucher, toucher_end);
	refusals(&p);
	comes_and_goes(&p);
	of_hvmod(&p);
	of_others(&p);
	tracked(&p);
	discard(&p, REGION, 3 * UNIT);
	tap(!map(&p, REGION, region, 3 * UNIT, UNMAP), "a region of which nothing is there is unmapped");
	partition_close(&p);
	return tap_finish();
}
