// SPDX-License-Identifier: GPL-2.0
/* The guest under hvmod, by the calls of linux/mshv.h. */
#define __packed __attribute__((packed))
#include <errno.h>
#include <fcntl.h>
#include <linux/mshv.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../include/uapi/linux/hvmod.h"
#include "guest.h"
#include "hvbench.h"

/* From the kernel's include/hyperv: there is no public header of these. */
#define HVCALL_SET_VP_REGISTERS		0x51
#define HV_X64_REGISTER_RAX		0x00020000
#define HV_X64_REGISTER_RIP		0x00020010
#define HVMSG_UNMAPPED_GPA		0x80000000
#define HVMSG_GPA_INTERCEPT		0x80000001
#define HVMSG_X64_IO_PORT_INTERCEPT	0x80010000

struct intercept_header {
	uint32_t vp_index;
	uint8_t instruction_length : 4, cr8 : 4;
	uint8_t access;		/* 0: read, 1: write */
	uint16_t execution_state;
	uint8_t cs_segment[16];
	uint64_t rip;
	uint64_t rflags;
} __packed;

struct message {
	uint32_t type;
	uint8_t payload_size;
	uint8_t flags[3];
	uint64_t sender;
	struct intercept_header header;
	union {
		struct {
			uint16_t port;
			uint8_t access_info;
			uint8_t instruction_bytes_count;
			uint32_t reserved;
			uint64_t rax;
		} __packed io;
		struct {
			uint32_t cache_type;
			uint8_t instruction_byte_count;
			uint8_t info[3];
			uint64_t gva;
			uint64_t gpa;
			uint8_t instruction[16];
		} __packed memory;
	};
} __packed;

struct set_registers {
	uint64_t partition_id;
	uint32_t vp_index;
	uint32_t reserved;
	struct {
		uint32_t name;
		uint32_t reserved1;
		uint64_t reserved2;
		uint64_t low;
		uint64_t high;
	} element[2];
} __packed;

/* The beginning of struct hv_vp_register_page. */
struct register_page {
	uint16_t version;
	uint8_t valid;
	uint8_t reserved;
	uint32_t dirty;		/* bit 0: general registers, bit 1: RIP */
	uint64_t gpr[16];
	uint64_t rip;
};

static int device, vp;
static struct register_page *registers;	/* NULL if there is none */
static union {
	struct mshv_run_vp run;
	struct message message;
} last;

static void map(int partition, uint64_t gpa, void *memory, uint64_t size)
{
	struct mshv_user_mem_region region = {
		.size = size,
		.guest_pfn = gpa >> 12,
		.userspace_addr = (uintptr_t)memory,
		.flags = 1 << MSHV_SET_MEM_BIT_WRITABLE | 1 << MSHV_SET_MEM_BIT_EXECUTABLE,
	};

	if (ioctl(partition, MSHV_SET_GUEST_MEMORY, &region))
		die("MSHV_SET_GUEST_MEMORY: %s", strerror(errno));
}

static void create(void *ram, void *reset_page)
{
	struct mshv_create_partition arguments = { .pt_flags = 1 << MSHV_PT_BIT_LAPIC };
	struct mshv_create_vp first = { .vp_index = 0 };
	int partition;

	device = open("/dev/hvmod", O_RDWR | O_CLOEXEC);
	if (device < 0)
		die("/dev/hvmod: %s", strerror(errno));
	partition = ioctl(device, MSHV_CREATE_PARTITION, &arguments);
	if (partition < 0)
		die("MSHV_CREATE_PARTITION: %s", strerror(errno));
	if (ioctl(partition, MSHV_INITIALIZE_PARTITION))
		die("MSHV_INITIALIZE_PARTITION: %s", strerror(errno));
	map(partition, 0, ram, GUEST_RAM);
	map(partition, RESET_PAGE, reset_page, 0x1000);
	vp = ioctl(partition, MSHV_CREATE_VP, &first);
	if (vp < 0)
		die("MSHV_CREATE_VP: %s", strerror(errno));
	registers = mmap(NULL, MSHV_HV_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, vp,
			 MSHV_VP_MMAP_OFFSET_REGISTERS * MSHV_HV_PAGE_SIZE);
	if (registers == MAP_FAILED)
		registers = NULL;
}

/*
 * Goes behind the instruction that was intercepted; a read also sets RAX. By the
 * register page, as VMMs do, or by a hypercall where there is none.
 */
static void complete(unsigned int length, int reads, uint32_t answer)
{
	struct set_registers input = {
		.element[0] = { .name = HV_X64_REGISTER_RIP, .low = last.message.header.rip + length },
		.element[1] = { .name = HV_X64_REGISTER_RAX, .low = answer },
	};
	struct mshv_root_hvcall call = {
		.code = HVCALL_SET_VP_REGISTERS,
		.reps = reads ? 2 : 1,
		.in_sz = reads ? sizeof(input) : sizeof(input) - sizeof(input.element[1]),
		.in_ptr = (uintptr_t)&input,
	};

	if (registers && registers->valid) {
		registers->rip = input.element[0].low;
		registers->dirty |= 2;
		if (reads) {
			registers->gpr[0] = answer;
			registers->dirty |= 1;
		}
		return;
	}
	if (ioctl(vp, MSHV_ROOT_HVCALL, &call))
		die("HVCALL_SET_VP_REGISTERS: %s, status %#x", strerror(errno), call.status);
}

static void run(uint32_t answer, struct event *event)
{
	struct message *message = &last.message;

	switch (message->type) {
	case HVMSG_X64_IO_PORT_INTERCEPT:
		complete(message->header.instruction_length, message->header.access == 0, answer);
		break;
	case HVMSG_UNMAPPED_GPA:
	case HVMSG_GPA_INTERCEPT:
		complete(2, 1, answer);
		break;
	}
	if (ioctl(vp, MSHV_RUN_VP, &last.run))
		die("MSHV_RUN_VP: %s", strerror(errno));
	switch (message->type) {
	case HVMSG_X64_IO_PORT_INTERCEPT:
		event->kind = message->header.access == 0 ? EVENT_IN : EVENT_OUT;
		event->port = message->io.port;
		event->value = message->io.rax;
		return;
	case HVMSG_UNMAPPED_GPA:
	case HVMSG_GPA_INTERCEPT:
		/* The one access of the guest's that needs decoding: mov (%rdi), %eax. */
		if (message->memory.gpa != GUEST_MMIO || message->memory.instruction_byte_count < 2 ||
		    memcmp(message->memory.instruction, "\x8b\x07", 2))
			die("an access to %#llx at RIP %#llx that is not the guest's",
			    (unsigned long long)message->memory.gpa,
			    (unsigned long long)message->header.rip);
		event->kind = EVENT_READ;
		return;
	default:
		die("MSHV_RUN_VP gave message %#x at RIP %#llx", message->type,
		    (unsigned long long)message->header.rip);
	}
}

static struct exits exits(void)
{
	struct exits now = { 0 };

	for (struct hvmod_lp_info lp = { .index = 0 };; lp = (struct hvmod_lp_info){ .index = lp.index + 1 }) {
		if (ioctl(device, HVMOD_GET_LP_INFO, &lp)) {
			if (errno == ENOENT)
				return now;
			die("HVMOD_GET_LP_INFO: %s", strerror(errno));
		}
		for (int i = 0; i < HVMOD_EXIT_REASONS; i++) {
			now.guest += lp.child_exits[i];
			now.root += lp.root_exits[i];
		}
	}
}

const struct interface mshv = { "hvmod", create, run, exits };
