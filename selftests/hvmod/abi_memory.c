// SPDX-License-Identifier: GPL-2.0
/* Memory of a partition: intercepts where there is none, and what may be done with it. */
#include <sys/eventfd.h>

#include "partition.h"

GUEST_CODE(16, real_mmio,
	"movb %fs:0x10, %al\n"
	"movl $0x99887766, %fs:0x20\n"
	"outb %al, $0xff\n");

GUEST_CODE(64, reads_apic, "mov $0xfee00020, %ebp\n" "mov 0(%rbp), %eax\n" "outb %al, $0x10\n");
GUEST_CODE(64, long_mmio,
	"mov $0x10000008, %ebx\n"
	"mov (%rbx), %rax\n"
	"mov %eax, 4(%rbx)\n"
	"mov $0x3fe00040, %ebx\n"	/* ALIAS_GVA */
	"movw %ax, (%rbx)\n"
	"outb %al, $0xff\n");

/* Writes to the second region, at 4 MiB. */
GUEST_CODE(64, region_access,
	"mov $0x400000, %ebx\n"
	"mov (%rbx), %rax\n"
	"outb %al, $0x10\n"
	"movq $77, (%rbx)\n"
	"outb %al, $0x11\n"
	"jmp *%rbx\n");

static bool is_memory(struct partition *p, uint64_t gpa, int access, const char *name)
{
	struct hv_memory_message *m = &p->message.memory;
	bool right = m->gpa == gpa && m->header.access == access;

	tap(right, "%s: address and direction", name);
	if (!right)
		tap_note("GPA %#llx access %d", (unsigned long long)m->gpa, m->header.access);
	return right;
}

static void has_bytes(struct partition *p, const uint8_t *bytes, int count, const char *name)
{
	struct hv_memory_message *m = &p->message.memory;

	tap(m->bytes_count >= count && !memcmp(m->bytes, bytes, count),
	    "%s: the instruction's bytes", name);
}

/* What a VMM does after it emulated an instruction of this length. */
static void skip_bytes(struct partition *p, int count)
{
	set(p, HV_RIP, p->message.header.rip + count);
}

static void real_mode(void)
{
	struct partition p;

	partition_open(&p);
	start_real(&p, real_mmio, real_mmio_end, 0x40000000);
	if (run_to(&p, HV_MSG_UNMAPPED_GPA, "real mode: a read where nothing is")) {
		is_memory(&p, 0x40000010, HV_READ, "real mode: read");
		has_bytes(&p, real_mmio, 4, "real mode: read");
		tap_equal("real mode: read: RIP", p.message.header.rip, CODE);
		set(&p, HV_RAX, 0x5a);
		skip_bytes(&p, 4);
	}
	if (run_to(&p, HV_MSG_UNMAPPED_GPA, "real mode: a write where nothing is")) {
		is_memory(&p, 0x40000020, HV_WRITE, "real mode: write");
		has_bytes(&p, real_mmio + 4, 10, "real mode: write");
		skip_bytes(&p, 10);
	}
	if (run_to(&p, HV_MSG_IO_PORT, "real mode: the end"))
		tap_equal("real mode: what was read", p.message.port.rax & 0xff, 0x5a);
	partition_close(&p);
}

/* With its local APIC off, and the base of that at memory, as QEMU has it for a processor without one. */
static void no_apic(void)
{
	struct partition p;

	partition_open(&p);
	start_long(&p, reads_apic, reads_apic_end);
	set(&p, HV_APIC_BASE, 0x100);
	if (run_to(&p, HV_MSG_UNMAPPED_GPA, "no local APIC: a read where it was")) {
		is_memory(&p, 0xfee00020, HV_READ, "no local APIC");
		skip_bytes(&p, 3);
	}
	run_to(&p, HV_MSG_IO_PORT, "no local APIC: the guest goes on");
	partition_close(&p);
}

static void long_mode(void)
{
	struct partition p;
	struct hv_message *page;
	const uint8_t *code = long_mmio + 5;

	partition_open(&p);
	start_long(&p, long_mmio, long_mmio_end);
	page = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, p.vp,
		    MSHV_VP_MMAP_OFFSET_INTERCEPT_MESSAGE * PAGE);
	tap(page != MAP_FAILED, "the page of intercept messages can be mapped");
	if (run_to(&p, HV_MSG_UNMAPPED_GPA, "long mode: a read where nothing is")) {
		is_memory(&p, 0x10000008, HV_READ, "long mode: read");
		has_bytes(&p, code, 3, "long mode: read");
		tap(p.message.memory.gva_valid && p.message.memory.gva == 0x10000008,
		    "long mode: read: the virtual address");
		if (page != MAP_FAILED)
			tap(page->type == HV_MSG_UNMAPPED_GPA && page->memory.gpa == 0x10000008,
			    "the mapped page holds the message");
		set(&p, HV_RAX, 0x123456789abcdef0);
		skip_bytes(&p, 3);
	}
	if (run_to(&p, HV_MSG_UNMAPPED_GPA, "long mode: a write where nothing is")) {
		is_memory(&p, 0x1000000c, HV_WRITE, "long mode: write");
		tap_equal("long mode: what is written", get(&p, HV_RAX), 0x123456789abcdef0);
		skip_bytes(&p, 3);
	}
	if (run_to(&p, HV_MSG_UNMAPPED_GPA, "long mode: a write through a mapping")) {
		is_memory(&p, ALIAS_GPA + 0x40, HV_WRITE, "long mode: mapped write");
		tap_equal("long mode: its virtual address", p.message.memory.gva, ALIAS_GVA + 0x40);
		skip_bytes(&p, 3);
	}
	run_to(&p, HV_MSG_IO_PORT, "long mode: the end");
	if (page != MAP_FAILED)
		munmap(page, PAGE);
	partition_close(&p);
}

static void regions(void)
{
	struct partition p;
	uint64_t *second = some_memory(MEMORY_SIZE);

	partition_open(&p);
	*second = 0x5eed;
	tap(!map(&p, 0x400000, second, MEMORY_SIZE, 0), "a region that may only be read is mapped");
	start_long(&p, region_access, region_access_end);
	if (run_to(&p, HV_MSG_IO_PORT, "it can be read")) {
		tap_equal("and holds our data", p.message.port.rax, 0x5eed);
		skip_instruction(&p);
	}
	if (run_to(&p, HV_MSG_GPA_INTERCEPT, "a write to it is an intercept")) {
		is_memory(&p, 0x400000, HV_WRITE, "a forbidden write");
		tap_equal("and changes nothing", *second, 0x5eed);
	}

	/* The same region again, with more rights; the guest repeats its write. */
	tap(!map(&p, 0x400000, second, MEMORY_SIZE, UNMAP), "it can be unmapped");
	run_to(&p, HV_MSG_UNMAPPED_GPA, "then nothing is there");
	tap(!map(&p, 0x400000, second, MEMORY_SIZE, WRITABLE), "it is mapped to be written");
	if (run_to(&p, HV_MSG_IO_PORT, "now the write succeeds")) {
		tap_equal("and we see it", *second, 77);
		skip_instruction(&p);
	}
	if (run_to(&p, HV_MSG_GPA_INTERCEPT, "executing there is an intercept"))
		is_memory(&p, 0x400000, HV_EXECUTE, "a forbidden jump");
	partition_close(&p);
	tap_equal("the memory outlives the partition", *second, 77);
	munmap(second, MEMORY_SIZE);
}

static void translation(void)
{
	struct partition p;
	struct hv_translate in = { .flags = 1 };
	struct hv_translated out;
	static const struct {
		const char *name;
		uint64_t gva, gpa;
		uint32_t result;
	} cases[] = {
		{ "an address of its own", 0x1000, 0x1000, 0 },
		{ "an address elsewhere without memory", ALIAS_GVA, ALIAS_GPA, 4 },
		{ "an address that is not mapped", 0x80000000, 0, 1 },
	};
	size_t i;

	partition_open(&p);
	start_long(&p, long_mmio, long_mmio_end);
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		in.gva_page = cases[i].gva / PAGE;
		memset(&out, 0xff, sizeof(out));
		if (!tap(!hypercall(p.vp, HV_TRANSLATE_VIRTUAL_ADDRESS, 0, &in, sizeof(in), &out,
				    sizeof(out)), "translate %s", cases[i].name))
			continue;
		tap_equal("  result", out.result, cases[i].result);
		if (cases[i].result == 0)
			tap_equal("  GPA", out.gpa_page, cases[i].gpa / PAGE);
	}
	partition_close(&p);
}

/* Memory in many small regions, as a VMM with ROMs and holes has it. */
static void many_regions(void)
{
	struct partition p;
	uint8_t *memory = some_memory(256 * PAGE);
	const int most = 16500;
	int i, failed = 0;

	partition_open(&p);
	for (i = 0; i < 256; i++)
		failed += map(&p, 0x1000000 + 2ull * i * PAGE, memory + i * PAGE, PAGE, WRITABLE) != 0;
	tap_equal("256 regions of a page are mapped", failed, 0);
	for (i = 0; i < 256; i += 2)
		failed += map(&p, 0x1000000 + 2ull * i * PAGE, memory + i * PAGE, PAGE, UNMAP) != 0;
	tap_equal("every other one is unmapped", failed, 0);
	start_long(&p, long_mmio, long_mmio_end);
	set(&p, HV_RBX, 0);
	run_to(&p, HV_MSG_UNMAPPED_GPA, "and the guest runs on");
	/* A list of them that kmalloc() has no room for. */
	for (i = 0; i < most && !map(&p, 0x40000000 + (uint64_t)i * PAGE, memory, PAGE, WRITABLE); i++)
		;
	tap_equal("there can be many more of them", i, most);
	partition_close(&p);
	munmap(memory, 256 * PAGE);
}

/*
 * A region of large pages, at no multiple of their size, that takes more than one hypercall to unmap:
 * it goes completely, however many pages the partition has left for tables.
 */
static void large_pages(void)
{
	const uint64_t large = 2 << 20, gpa = 1 << 30, head = 1 << 20, size = 20 << 20;
	struct partition p;
	char *page = some_memory(PAGE), *memory, *start;
	int tables, failed = 0;

	memory = mmap(NULL, size + large, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		tap_bail_out("no memory");
	start = memory + (-(uintptr_t)memory & (large - 1));
	tap(!madvise(start, size, MADV_HUGEPAGE), "memory in large pages");
	partition_open(&p);
	/* Each small region takes a table, and a deposit is 64 pages. */
	for (tables = 0; tables < 72 && !failed; tables++) {
		failed = map(&p, 2 * gpa + tables * large, page, PAGE, WRITABLE) ||
			 map(&p, gpa + head, start + head, size - head, WRITABLE) ||
			 map(&p, gpa + head, start + head, size - head, UNMAP);
	}
	tap_equal("it is mapped and unmapped each time", failed, 0);
	if (failed)
		tap_note("not the %dth time: %s", tables, strerror(errno));
	partition_close(&p);
	munmap(memory, size + large);
	munmap(page, PAGE);
}

/* A write that somebody waits for is an event, and no intercept. */
static void doorbells(void)
{
	struct partition p;
	int event = eventfd(0, EFD_NONBLOCK);
	struct mshv_user_ioeventfd bell = {
		.addr = 0x1000000c, .len = 4, .fd = event, .datamatch = 0x9abcdef0,
		.flags = 1 << MSHV_IOEVENTFD_BIT_DATAMATCH,
	};
	uint64_t count = 0;

	partition_open(&p);
	start_long(&p, long_mmio, long_mmio_end);
	tap(!ioctl(p.fd, MSHV_IOEVENTFD, &bell), "a doorbell is assigned");
	run_to(&p, HV_MSG_UNMAPPED_GPA, "doorbell: the read before it");
	set(&p, HV_RAX, 0x123456789abcdef0);
	skip_bytes(&p, 3);
	if (run_to(&p, HV_MSG_UNMAPPED_GPA, "doorbell: the next intercept"))
		is_memory(&p, ALIAS_GPA + 0x40, HV_WRITE, "doorbell: it is the write behind it");
	tap(read(event, &count, sizeof(count)) == sizeof(count) && count == 1, "doorbell: it rang once");
	close(event);
	partition_close(&p);
}

int main(void)
{
	need_partitions();
	doorbells();
	real_mode();
	long_mode();
	no_apic();
	regions();
	translation();
	many_regions();
	large_pages();
	return tap_finish();
}
