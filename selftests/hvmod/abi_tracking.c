// SPDX-License-Identifier: GPL-2.0
/* Which pages a guest touched: GPA_PAGE_ACCESS_TRACKING and the access bitmap. */
#include "partition.h"

/* Writes to pages 0x20 and 0x22, reads page 0x24. */
GUEST_CODE(64, touches,
	"1: movb $1, 0x20000\n"
	"movb $1, 0x22010\n"
	"movb 0x24000, %al\n"
	"outb %al, $0x10\n"
	"jmp 1b\n");

enum { ACCESSED, DIRTY };
enum { NOTHING, CLEAR, SET };

static int track(struct partition *p, uint64_t on)
{
	struct hv_set_property in = { .code = HV_PROP_GPA_ACCESS_TRACKING, .value = on };

	return hypercall(p->fd, HV_SET_PARTITION_PROPERTY, 0, &in, sizeof(in), NULL, 0) ? errno : 0;
}

/* The bits of pages 0x20 to 0x27, or -errno. */
static int bits(struct partition *p, int type, int op)
{
	uint8_t bitmap[8] = { 0xee, 0xee };
	struct mshv_gpap_access_bitmap args = {
		.access_type = type, .access_op = op, .page_count = 8, .gpap_base = 0x20,
		.bitmap_ptr = (uintptr_t)bitmap,
	};

	return ioctl(p->fd, MSHV_GET_GPAP_ACCESS_BITMAP, &args) ? -errno : bitmap[0];
}

static void go(struct partition *p, const char *name)
{
	run_to(p, HV_MSG_IO_PORT, name);
	skip_instruction(p);
}

static void dirty(void)
{
	struct hv_access_states in = { .gpa_page = 0x20 };
	uint8_t states[6] = { 0 };
	struct partition p;
	uint8_t *more;

	partition_open(&p);
	start_long(&p, touches, touches_end);
	tap_equal("without tracking there is no bitmap: EIO", bits(&p, DIRTY, NOTHING), -EIO);
	go(&p, "the guest runs without tracking");
	tap_equal("tracking is switched on", track(&p, 1), 0);
	tap_equal("nothing is dirty", bits(&p, DIRTY, NOTHING), 0);
	tap_equal("nothing is accessed", bits(&p, ACCESSED, NOTHING), 0);
	go(&p, "the guest runs");
	tap_equal("the pages that it wrote are dirty", bits(&p, DIRTY, NOTHING), 0x05);
	tap_equal("the one that it read is accessed too", bits(&p, ACCESSED, NOTHING), 0x15);
	tap(!hypercall(p.fd, HV_GET_GPA_ACCESS_STATES, 6, &in, sizeof(in), states, sizeof(states)),
	    "the same by hypercall");
	tap(states[0] == 3 && states[1] == 0 && states[2] == 3 && states[4] == 1, "  says the same");
	tap_equal("reading the bitmap can clear it", bits(&p, DIRTY, CLEAR), 0x05);
	tap_equal("nothing is dirty any more", bits(&p, DIRTY, NOTHING), 0);
	go(&p, "the guest runs again");
	tap_equal("what it wrote is dirty again", bits(&p, DIRTY, CLEAR), 0x05);
	tap_equal("accessed can be cleared", bits(&p, ACCESSED, CLEAR), 0x15);
	tap_equal("  and is", bits(&p, ACCESSED, NOTHING), 0);
	tap_equal("dirty can be set", bits(&p, DIRTY, SET), 0);
	tap_equal("  and is", bits(&p, DIRTY, CLEAR), 0xff);

	more = some_memory(PAGE);
	tap(!map(&p, 0x20000000, more, PAGE, WRITABLE), "memory can be added");
	tap(!map(&p, 0x20000000, more, PAGE, UNMAP), "  and taken away");
	go(&p, "the guest runs with the bits cleared");
	*(p.memory + 0x22010) = 0;
	tap_equal("tracking is switched off", track(&p, 0), 0);
	go(&p, "the guest runs without tracking");
	tap_equal("  and writes", *(p.memory + 0x22010), 1);
	tap_equal("there is no bitmap: EIO", bits(&p, DIRTY, NOTHING), -EIO);
	partition_close(&p);
}

/* Below the page of the local APIC, which stays mapped whoever asks. */
GUEST_CODE(64, below_apic,
	"mov $0xfedff000, %ebx\n"
	"1: movb $1, (%rbx)\n"
	"outb %al, $0x10\n"
	"jmp 1b\n");

/* What is unmapped around that page is gone from the guest before the program has it again. */
static void around_the_apic(void)
{
	uint8_t *memory = some_memory(4 * PAGE);
	uint64_t gpa = 0xfee00000 - PAGE;
	struct partition p;
	int error;

	partition_open(&p);
	start_long(&p, below_apic, below_apic_end);
	error = map(&p, gpa, memory, 4 * PAGE, WRITABLE) ? errno : 0;
	tap_equal("memory around the local APIC: EEXIST", error, EEXIST);
	track(&p, 1);
	error = map(&p, gpa, memory, 4 * PAGE, WRITABLE) ? errno : 0;
	tap_equal("with tracking as well: EEXIST", error, EEXIST);
	if (!error)
		go(&p, "the guest has it");
	map(&p, gpa, memory, 4 * PAGE, UNMAP);
	set(&p, HV_RIP, CODE);
	run_to(&p, HV_MSG_UNMAPPED_GPA, "what is taken away the guest does not reach");
	partition_close(&p);
	munmap(memory, 4 * PAGE);
}

static void refusals(void)
{
	uint8_t bitmap[8];
	struct mshv_gpap_access_bitmap args = { .page_count = 8, .bitmap_ptr = (uintptr_t)bitmap };
	struct hv_access_states in = { .flags = 16 };
	struct partition p;

	partition_open(&p);
	tap_equal("tracking of another kind: EINVAL", track(&p, 2), EINVAL);
	track(&p, 1);
	args.access_type = 2;
	tap(ioctl(p.fd, MSHV_GET_GPAP_ACCESS_BITMAP, &args) && errno == EINVAL, "an unknown type: EINVAL");
	args.access_type = 0;
	args.access_op = 3;
	tap(ioctl(p.fd, MSHV_GET_GPAP_ACCESS_BITMAP, &args) && errno == EINVAL, "an unknown operation: EINVAL");
	args.access_op = 0;
	args.bitmap_ptr = 8;
	tap(ioctl(p.fd, MSHV_GET_GPAP_ACCESS_BITMAP, &args) && errno == EFAULT, "a bitmap nowhere: EFAULT");
	args.bitmap_ptr = (uintptr_t)bitmap;
	args.gpap_base = 0x1000000;
	tap(!ioctl(p.fd, MSHV_GET_GPAP_ACCESS_BITMAP, &args) && bitmap[0] == 0,
	    "pages that are not there were not touched");
	tap(hypercall(p.fd, HV_GET_GPA_ACCESS_STATES, 1, &in, sizeof(in), bitmap, sizeof(bitmap)) &&
	    errno == EINVAL, "an unknown flag: EINVAL");
	partition_close(&p);
}

int main(void)
{
	need_partitions();
	dirty();
	around_the_apic();
	refusals();
	return tap_finish();
}
