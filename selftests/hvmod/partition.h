/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A partition, at first of one VP, for tests of the calls of linux/mshv.h. What cannot be set up
 * ends the program.
 */
#ifndef HVMOD_TEST_PARTITION_H
#define HVMOD_TEST_PARTITION_H

#include <fcntl.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/hvmod.h>
#include <linux/mshv.h>

#include "tap.h"
#include "tlfs.h"

#define MEMORY_SIZE	(2u << 20)

/* Where things lie in guest memory. */
#define CODE		0x1000
#define RESULTS		0x4000
#define STACK		0x8000
#define GDT		0x9000
#define IDT		0xa000
#define PML4		0x10000
#define PDPT		0x11000
#define PD_LOW		0x12000		/* GVA 0 to 1 GiB, the same GPA */
#define PD_HIGH		0x13000		/* GVA 3 to 4 GiB, the same GPA */
/* But for this: */
#define ALIAS_GVA	0x3fe00000
#define ALIAS_GPA	0x18000000

#define PAGE		4096

/* Guest code: symbols NAME and NAME_end, in this program's read-only data. */
#define GUEST_CODE(bits, name, text)						\
	asm(".pushsection .rodata\n.code" #bits "\n" #name ":\n" text "\n"	\
	    #name "_end:\n.code64\n.popsection\n");				\
	extern const uint8_t name[], name##_end[]

struct partition {
	int device;
	int fd;
	int vp;
	uint32_t index;		/* of the VP */
	uint8_t *memory;
	struct hv_message message;
};

__attribute__((unused))
static int hypercall(int fd, uint16_t code, uint16_t reps, const void *in, size_t in_size,
		     void *out, size_t out_size)
{
	struct mshv_root_hvcall call = {
		.code = code, .reps = reps, .in_sz = in_size, .out_sz = out_size,
		.in_ptr = (uintptr_t)in, .out_ptr = (uintptr_t)out,
	};

	return ioctl(fd, MSHV_ROOT_HVCALL, &call);
}

__attribute__((unused))
static int try_set_registers(struct partition *p, const struct hv_assoc *registers, int count)
{
	struct {
		struct hv_registers_header header;
		struct hv_assoc registers[32];
	} in = { .header.vp_index = p->index };

	memcpy(in.registers, registers, count * sizeof(*registers));
	return hypercall(p->vp, HV_SET_VP_REGISTERS, count, &in,
			 sizeof(in.header) + count * sizeof(*registers), NULL, 0);
}

__attribute__((unused))
static void set_registers(struct partition *p, const struct hv_assoc *registers, int count)
{
	if (try_set_registers(p, registers, count))
		tap_bail_out("registers cannot be set: %s", strerror(errno));
}

__attribute__((unused))
static void set(struct partition *p, uint32_t name, uint64_t value)
{
	struct hv_assoc assoc = { .name = name, .value.u64 = value };

	set_registers(p, &assoc, 1);
}

__attribute__((unused))
static union hv_value get_value(struct partition *p, uint32_t name)
{
	struct {
		struct hv_registers_header header;
		uint32_t name;
	} in = { .header.vp_index = p->index, .name = name };
	union hv_value value;

	if (hypercall(p->vp, HV_GET_VP_REGISTERS, 1, &in, sizeof(in.header) + sizeof(in.name),
		      &value, sizeof(value)))
		tap_bail_out("register %#x cannot be got: %s", name, strerror(errno));
	return value;
}

__attribute__((unused))
static uint64_t get(struct partition *p, uint32_t name)
{
	return get_value(p, name).u64;
}

__attribute__((unused))
static int map(struct partition *p, uint64_t gpa, void *memory, size_t size, uint8_t flags)
{
	struct mshv_user_mem_region region = {
		.size = size, .guest_pfn = gpa / PAGE, .userspace_addr = (uintptr_t)memory,
		.flags = flags,
	};

	return ioctl(p->fd, MSHV_SET_GUEST_MEMORY, &region);
}

#define WRITABLE	(1 << MSHV_SET_MEM_BIT_WRITABLE)
#define EXECUTABLE	(1 << MSHV_SET_MEM_BIT_EXECUTABLE)
#define UNMAP		(1 << MSHV_SET_MEM_BIT_UNMAP)

__attribute__((unused))
static void *some_memory(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		tap_bail_out("no memory");
	return memory;
}

/* A partition with MEMORY_SIZE at 0 and VP 0, and these synthetic features. */
__attribute__((unused))
static void partition_open_as(struct partition *p, uint64_t features)
{
	struct hv_set_property property = { .code = HV_PROP_SYNTHETIC_FEATURES, .value = features };
	struct mshv_create_partition create = {
		.pt_flags = 1 << MSHV_PT_BIT_LAPIC | 1 << MSHV_PT_BIT_X2APIC |
			    1 << MSHV_PT_BIT_GPA_SUPER_PAGES,
	};
	struct mshv_create_vp vp = { 0 };

	memset(p, 0, sizeof(*p));
	p->device = open("/dev/mshv", O_RDWR | O_CLOEXEC);
	if (p->device < 0)
		tap_bail_out("/dev/mshv: %s", strerror(errno));
	p->fd = ioctl(p->device, MSHV_CREATE_PARTITION, &create);
	if (p->fd < 0)
		tap_bail_out("MSHV_CREATE_PARTITION: %s", strerror(errno));
	if (hypercall(p->fd, HV_SET_PARTITION_PROPERTY, 0, &property, sizeof(property), NULL, 0))
		tap_bail_out("SYNTHETIC_PROC_FEATURES: %s", strerror(errno));
	if (ioctl(p->fd, MSHV_INITIALIZE_PARTITION))
		tap_bail_out("MSHV_INITIALIZE_PARTITION: %s", strerror(errno));
	p->memory = some_memory(MEMORY_SIZE);
	if (map(p, 0, p->memory, MEMORY_SIZE, WRITABLE | EXECUTABLE))
		tap_bail_out("MSHV_SET_GUEST_MEMORY: %s", strerror(errno));
	p->vp = ioctl(p->fd, MSHV_CREATE_VP, &vp);
	if (p->vp < 0)
		tap_bail_out("MSHV_CREATE_VP: %s", strerror(errno));
}

/* The same with none. */
__attribute__((unused))
static void partition_open(struct partition *p)
{
	partition_open_as(p, 0);
}

/* VP `index` of the same partition; errno in `errno` if its `vp` is negative. */
__attribute__((unused))
static struct partition another_vp(const struct partition *p, uint32_t index)
{
	struct mshv_create_vp create = { .vp_index = index };
	struct partition vp = *p;

	vp.index = index;
	vp.vp = ioctl(p->fd, MSHV_CREATE_VP, &create);
	return vp;
}

__attribute__((unused))
static void partition_close(struct partition *p)
{
	close(p->vp);
	close(p->fd);
	close(p->device);
	munmap(p->memory, MEMORY_SIZE);
}

/* Run to the next message: 0, or the errno. */
__attribute__((unused))
static int run(struct partition *p)
{
	memset(&p->message, 0xaa, sizeof(p->message));
	return ioctl(p->vp, MSHV_RUN_VP, &p->message) ? errno : 0;
}

/* Run to a message of this type, or say what came instead. */
__attribute__((unused))
static bool run_to(struct partition *p, uint32_t type, const char *name)
{
	int error = run(p);

	if (tap(!error && p->message.type == type, "%s", name))
		return true;
	if (error)
		tap_note("RUN_VP: %s", strerror(error));
	else
		tap_note("message %#x, wanted %#x; RIP %#llx, GPA %#llx", p->message.type, type,
			 (unsigned long long)p->message.header.rip,
			 (unsigned long long)(p->message.type >> 1 == HV_MSG_UNMAPPED_GPA >> 1 ?
					      p->message.memory.gpa : 0));
	return false;
}

/* Go on behind the instruction that was intercepted. */
__attribute__((unused))
static void skip_instruction(struct partition *p)
{
	set(p, HV_RIP, p->message.header.rip + p->message.header.length);
}

#define SEGMENT(register, base_, selector_, limit_, attributes_)		\
	{ .name = register, .value.segment = { .base = base_, .limit = limit_,	\
	  .selector = selector_, .attributes = attributes_ } }
#define TABLE(register, base_, limit_)						\
	{ .name = register, .value.table = { .base = base_, .limit = limit_ } }
#define PLAIN(register, number) { .name = register, .value.u64 = number }

/* Put code at CODE and start there in real mode; FS begins at `fs`. */
__attribute__((unused))
static void start_real(struct partition *p, const uint8_t *code, const uint8_t *end, uint64_t fs)
{
	struct hv_assoc registers[] = {
		SEGMENT(HV_CS, 0, 0, 0xffff, 0x9b), SEGMENT(HV_SS, 0, 0, 0xffff, 0x93),
		SEGMENT(HV_DS, 0, 0, 0xffff, 0x93), SEGMENT(HV_ES, 0, 0, 0xffff, 0x93),
		SEGMENT(HV_FS, fs, 0, 0xffff, 0x93), SEGMENT(HV_GS, 0, 0, 0xffff, 0x93),
		SEGMENT(HV_TR, 0, 0, 0xffff, 0x8b), SEGMENT(HV_LDTR, 0, 0, 0xffff, 0x82),
		TABLE(HV_IDTR, 0, 0x3ff), TABLE(HV_GDTR, 0, 0xffff),
		PLAIN(HV_CR0, 0x10), PLAIN(HV_CR3, 0), PLAIN(HV_CR4, 0), PLAIN(HV_EFER, 0),
		PLAIN(HV_RIP, CODE), PLAIN(HV_RFLAGS, 2), PLAIN(HV_RSP, STACK),
		PLAIN(HV_RAX, 0), PLAIN(HV_RCX, 0), PLAIN(HV_RDX, 0), PLAIN(HV_RBX, 0),
	};

	memcpy(p->memory + CODE, code, end - code);
	set_registers(p, registers, sizeof(registers) / sizeof(registers[0]));
}

__attribute__((unused))
static uint64_t *guest_u64(struct partition *p, uint64_t gpa)
{
	return (uint64_t *)(p->memory + gpa);
}

/* The same in long mode, with all of the first GiB and the devices below 4 GiB mapped. */
__attribute__((unused))
static void start_long(struct partition *p, const uint8_t *code, const uint8_t *end)
{
	struct hv_assoc registers[] = {
		SEGMENT(HV_CS, 0, 8, ~0u, 0xa09b), SEGMENT(HV_SS, 0, 16, ~0u, 0xc093),
		SEGMENT(HV_DS, 0, 16, ~0u, 0xc093), SEGMENT(HV_ES, 0, 16, ~0u, 0xc093),
		SEGMENT(HV_FS, 0, 16, ~0u, 0xc093), SEGMENT(HV_GS, 0, 16, ~0u, 0xc093),
		SEGMENT(HV_TR, 0, 24, 0x67, 0x8b), SEGMENT(HV_LDTR, 0, 0, 0, 0x82),
		TABLE(HV_IDTR, IDT, 0xfff), TABLE(HV_GDTR, GDT, 0x2f),
		PLAIN(HV_CR0, 0x80010031), PLAIN(HV_CR3, PML4), PLAIN(HV_CR4, 0x620),
		PLAIN(HV_EFER, 0x500),
		PLAIN(HV_RIP, CODE), PLAIN(HV_RFLAGS, 2), PLAIN(HV_RSP, STACK),
		PLAIN(HV_RAX, 0), PLAIN(HV_RCX, 0), PLAIN(HV_RDX, 0), PLAIN(HV_RBX, 0),
	};
	uint64_t i;

	*guest_u64(p, PML4) = PDPT | 7;
	guest_u64(p, PDPT)[0] = PD_LOW | 7;
	guest_u64(p, PDPT)[3] = PD_HIGH | 7;
	for (i = 0; i < 512; i++) {
		guest_u64(p, PD_LOW)[i] = i << 21 | 0x83;
		guest_u64(p, PD_HIGH)[i] = (3ull << 30 | i << 21) | 0x83;
	}
	guest_u64(p, PD_LOW)[ALIAS_GVA >> 21] = ALIAS_GPA | 0x83;
	guest_u64(p, GDT)[1] = 0x00af9b000000ffff;
	guest_u64(p, GDT)[2] = 0x00cf93000000ffff;
	memcpy(p->memory + CODE, code, end - code);
	set_registers(p, registers, sizeof(registers) / sizeof(registers[0]));
}

/* Gate `vector` of the long mode IDT leads to `offset` in the code. */
__attribute__((unused))
static void set_gate(struct partition *p, int vector, uint64_t offset)
{
	uint64_t address = CODE + offset;

	guest_u64(p, IDT)[vector * 2] = (address & 0xffff) | 8 << 16 | 0x8e00ull << 32 |
					(address >> 16 & 0xffff) << 48;
	guest_u64(p, IDT)[vector * 2 + 1] = address >> 32;
}

/* Ends the program, with a skip, where the processors cannot run partitions. */
__attribute__((unused))
static void need_partitions(void)
{
	struct hvmod_caps caps = { 0 };
	int device = open("/dev/hvmod", O_RDWR | O_CLOEXEC);

	if (device < 0)
		tap_bail_out("/dev/hvmod: %s", strerror(errno));
	if (ioctl(device, HVMOD_GET_CAPS, &caps))
		tap_bail_out("HVMOD_GET_CAPS: %s", strerror(errno));
	close(device);
	if (!(caps.caps & HVMOD_CAP_CHILDREN)) {
		/* The runner knows which models can. */
		if (!getenv("CHILDREN") || !*getenv("CHILDREN")) {
			printf("1..0 # SKIP this processor cannot run partitions\n");
			exit(0);
		}
		tap(false, "HVMOD_CAP_CHILDREN is set on a processor that can");
	}
	/* A test that hangs would hang the machine. */
	alarm(300);
}

#endif
