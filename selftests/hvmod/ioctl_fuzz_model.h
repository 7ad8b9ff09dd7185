/* SPDX-License-Identifier: GPL-2.0 */
/*
 * For ioctl_fuzz.c: partitions that several threads use at once, and calls on them that are right,
 * as far as one thread can know, until ioctl_fuzz.h spoils some.
 */
#ifndef HVMOD_TEST_IOCTL_FUZZ_MODEL_H
#define HVMOD_TEST_IOCTL_FUZZ_MODEL_H

#include <sched.h>
#include <sys/eventfd.h>

#include "ioctl_fuzz.h"

#define SLOTS		3
#define VPS		3
#define EVENTS		4
#define REGIONS		12
#define REGION_PAGES	16
#define BELLS		4
#define GSIS		16
#define BELL_GPA	0xa0000		/* no memory is ever there */
#define UNIT_GPA	0x200000	/* memory that can be discarded */
#define MESSAGES	0x4000		/* pages of the SynIC */
#define FLAGS		0x5000
#define SINT		4

/* States of a part. */
enum { FREE, HELD, CHANGING };

struct slot {
	_Atomic bool busy;		/* is being made anew */
	_Atomic bool tracked, private, synic;
	_Atomic int fd, vps[VPS], events[EVENTS], bell;
	_Atomic int unit;		/* the memory at UNIT_GPA */
	_Atomic bool discarded;
	_Atomic int irq[EVENTS], bells[BELLS], regions[REGIONS];
};

static struct slot slots[SLOTS];
static _Atomic int device;

static uint8_t *memory_of(struct slot *slot)
{
	return arena + (slot - slots) * (REGIONS * REGION_PAGES * PAGE);
}

/* Of this process alone, so that nobody else gives it back what was discarded. */
static uint8_t *units;

static uint8_t *unit_of(struct slot *slot)
{
	return units + (slot - slots) * HVMOD_DISCARD_UNIT;
}

/* Instructions of real mode, most of which are intercepts or faults, or hvcore's business. */
static void write_code(uint8_t *volatile at, size_t size)
{
	static const struct {
		uint8_t length, bytes[7];
	} pieces[] = {
		{ 2, { 0xe6, 0x80 } }, { 2, { 0xe4, 0x60 } }, { 1, { 0xef } }, { 1, { 0xed } },
		{ 1, { 0x6c } }, { 1, { 0x6f } }, { 2, { 0xf3, 0x6e } },
		{ 2, { 0x0f, 0xa2 } }, { 2, { 0x0f, 0x32 } }, { 2, { 0x0f, 0x30 } },
		{ 3, { 0x26, 0x89, 0x05 } }, { 3, { 0x26, 0x8b, 0x05 } }, { 3, { 0x26, 0x88, 0x05 } },
		{ 3, { 0x64, 0x89, 0x05 } }, { 3, { 0x64, 0x8b, 0x05 } },
		{ 3, { 0x65, 0x89, 0x05 } }, { 3, { 0x65, 0x8b, 0x05 } },
		{ 4, { 0x66, 0x65, 0x89, 0x05 } }, { 4, { 0x66, 0x65, 0x8b, 0x05 } },
		{ 4, { 0x66, 0x64, 0x89, 0x05 } }, { 4, { 0x66, 0x64, 0x8b, 0x05 } },
		{ 2, { 0x89, 0x07 } }, { 2, { 0x8b, 0x07 } }, { 2, { 0xf3, 0x90 } },
		{ 3, { 0x0f, 0x01, 0xc1 } }, { 2, { 0x0f, 0x08 } }, { 2, { 0x0f, 0x09 } },
		{ 3, { 0x0f, 0x20, 0xc0 } }, { 3, { 0x0f, 0x22, 0xc0 } }, { 3, { 0x0f, 0x22, 0xe0 } },
		{ 1, { 0xcc } }, { 2, { 0x0f, 0x0b } }, { 3, { 0x0f, 0x01, 0xd1 } },
		{ 2, { 0x0f, 0x31 } }, { 1, { 0xfb } }, { 1, { 0xfa } }, { 1, { 0xcf } },
	};
	static const uint32_t msrs[] = {
		0x10, 0x1b, 0x3a, 0x8b, 0xfe, 0x174, 0x1d9, 0x277, 0x2ff, 0x480, 0x6e0, 0x802, 0x808,
		0x80b, 0x830, 0x832, 0xda0, 0x40000000, 0x40000001, 0x40000073, 0xc0000080, 0xc0000103,
	};
	volatile size_t done = 0;

	if (sigsetjmp(fault, 1))
		return;
	while (done < size - 12) {
		unsigned int which = below(40);

		if (which < 2) {
			/* ECX names an MSR; EAX is a value. */
			uint32_t value = which ? ONE_OF(msrs) : odd();

			at[done++] = 0x66;
			at[done++] = which ? 0xb9 : 0xb8;
			memcpy(at + done, &value, 4);
			done += 4;
		} else if (which < 5) {
			/* DI, DX or AX. */
			uint16_t value = rarely(2) ? next() : below(BELLS) * 8;

			at[done++] = which == 2 ? 0xbf : which == 3 ? 0xba : 0xb8;
			memcpy(at + done, &value, 2);
			done += 2;
		} else if (rarely(60)) {
			/* HLT, or a loop without an end: for those who send signals. */
			at[done++] = rarely(2) ? 0xf4 : 0xeb;
			if (at[done - 1] == 0xeb)
				at[done++] = 0xfe;
		} else if (rarely(30)) {
			at[done++] = next();
		} else {
			unsigned int piece = below(sizeof(pieces) / sizeof(*pieces));

			memcpy(at + done, pieces[piece].bytes, pieces[piece].length);
			done += pieces[piece].length;
		}
	}
	/* Back to the beginning. */
	at[done] = 0xe9;
	at[done + 1] = -(done + 3);
	at[done + 2] = -(done + 3) >> 8;
}

static int set_all(int fd, uint32_t index, const struct hv_assoc *registers, int number)
{
	struct {
		struct hv_registers_header header;
		struct hv_assoc registers[24];
	} in = { .header.vp_index = index };

	memcpy(in.registers, registers, number * sizeof(*registers));
	return HVCALL(SET_REGISTERS, fd, HV_SET_VP_REGISTERS, number, &in,
		      sizeof(in.header) + number * sizeof(*registers), NULL, 0);
}

/*
 * The VP runs from some code on, in real mode; ES reaches the doorbells, FS the local APIC, GS what
 * can be discarded.
 */
static void start_vp(int fd, uint32_t index)
{
	struct hv_assoc registers[] = {
		SEGMENT(HV_CS, 0, 0, 0xffff, 0x9b), SEGMENT(HV_SS, 0, 0, 0xffff, 0x93),
		SEGMENT(HV_DS, 0, 0, 0xffff, 0x93), SEGMENT(HV_ES, BELL_GPA, 0xa000, 0xffff, 0x93),
		SEGMENT(HV_FS, 0xfee00000, 0, 0xffff, 0x93), SEGMENT(HV_GS, UNIT_GPA, 0, 0xffff, 0x93),
		SEGMENT(HV_TR, 0, 0, 0xffff, 0x8b), SEGMENT(HV_LDTR, 0, 0, 0xffff, 0x82),
		TABLE(HV_IDTR, 0, 0x3ff), TABLE(HV_GDTR, 0, 0xffff),
		PLAIN(HV_CR0, 0x10), PLAIN(HV_CR3, 0), PLAIN(HV_CR4, 0), PLAIN(HV_EFER, 0),
		PLAIN(HV_RIP, CODE + (below(4) << 9)), PLAIN(HV_RFLAGS, 2), PLAIN(HV_RSP, STACK),
		PLAIN(HV_RAX, odd()), PLAIN(HV_RCX, below(8)), PLAIN(HV_ACTIVITY, 0),
	};

	set_all(fd, index, registers, sizeof(registers) / sizeof(*registers));
}

/* With its SynIC on, as far as it has one. */
static void start_synic(struct slot *slot, int fd, uint32_t index)
{
	struct hv_assoc registers[] = {
		PLAIN(HV_SCONTROL, 1), PLAIN(HV_SIMP, MESSAGES | 1), PLAIN(HV_SIEFP, FLAGS | 1),
		PLAIN(HV_SINT0 + SINT, 0x20 + below(200)), PLAIN(HV_STIMER0 + 1, below(1 << 20)),
		PLAIN(HV_STIMER0, 1 | below(2) << 1 | SINT << 16),
	};

	if (slot->synic)
		set_all(fd, index, registers, sizeof(registers) / sizeof(*registers));
}

static void make_partition(struct slot *slot);

static void make_vp(struct slot *slot, uint32_t index)
{
	struct mshv_create_vp create = { .vp_index = index };
	int fd;

	if (slot->vps[index] >= 0)
		return;
	fd = WITH(CREATE_VP, slot->fd, MSHV_CREATE_VP, create);
	/* A VP whose file was closed does not come back. */
	if (fd < 0 && errno == EEXIST && rarely(3))
		return make_partition(slot);
	if (fd <= 2)
		return;
	close_file(atomic_exchange(&slot->vps[index], fd));
	start_vp(fd, index);
	start_synic(slot, fd, index);
}

/* Maps a region that is not mapped, or unmaps one. */
static void change_region(struct slot *slot, int number)
{
	struct mshv_user_mem_region region = {
		.size = REGION_PAGES * PAGE, .guest_pfn = number * REGION_PAGES,
		.userspace_addr = (uintptr_t)memory_of(slot) + number * REGION_PAGES * PAGE,
		.flags = WRITABLE | EXECUTABLE,
	};
	int is = atomic_exchange(&slot->regions[number], CHANGING);
	int result;

	if (is == CHANGING)
		return;
	if (is == HELD) {
		region.flags = UNMAP;
		result = WITH(UNMAP, slot->fd, MSHV_SET_GUEST_MEMORY, region);
	} else if (slot->private && rarely(2)) {
		struct hvmod_private_memory private = {
			.guest_pfn = region.guest_pfn, .size = region.size,
			.image = number == 0 || rarely(2) ? region.userspace_addr : 0,
			.flags = HVMOD_PRIVATE_WRITABLE | HVMOD_PRIVATE_EXECUTABLE,
		};

		/* It does not come back, so the region stays in between. */
		result = WITH(PRIVATE, slot->fd, HVMOD_SET_PRIVATE_MEMORY, private);
		if (!result)
			return;
	} else {
		if (number && rarely(4))
			region.flags = below(4);
		result = WITH(SET_MEMORY, slot->fd, MSHV_SET_GUEST_MEMORY, region);
	}
	atomic_store(&slot->regions[number], (is == HELD) == !result ? FREE : HELD);
}

/* Whether all of what was discarded and given back is there: only a guest's touch does that. */
static bool is_restored(uint8_t *unit)
{
	static __thread uint8_t there[HVMOD_DISCARD_UNIT / PAGE];

	return !mincore(unit, HVMOD_DISCARD_UNIT, there) && !memchr(there, 0, sizeof(there));
}

/* Memory that the guest can do without comes, goes for a while, and goes for good. */
static void change_unit(struct slot *slot)
{
	uint8_t *unit = unit_of(slot);
	struct mshv_user_mem_region region = {
		.size = HVMOD_DISCARD_UNIT, .guest_pfn = UNIT_GPA / PAGE, .userspace_addr = (uintptr_t)unit,
		.flags = WRITABLE,
	};
	struct hvmod_discard_memory discard = {
		.guest_pfn = UNIT_GPA / PAGE, .size = HVMOD_DISCARD_UNIT,
	};
	int is = atomic_exchange(&slot->unit, CHANGING);

	if (is == CHANGING)
		return;
	if (is == FREE) {
		if (!WITH(SET_MEMORY, slot->fd, MSHV_SET_GUEST_MEMORY, region))
			is = HELD;
	} else if (rarely(8)) {
		region.flags = UNMAP;
		if (!WITH(UNMAP, slot->fd, MSHV_SET_GUEST_MEMORY, region))
			is = FREE;
		slot->discarded = false;
	} else {
		if (slot->discarded && is_restored(unit))
			count(ROW_RESTORED, 0);
		slot->discarded = !WITH(DISCARD, slot->fd, HVMOD_DISCARD_MEMORY, discard) &&
				  !madvise(unit, HVMOD_DISCARD_UNIT, MADV_DONTNEED);
	}
	atomic_store(&slot->unit, is);
}

static void set_routing(struct slot *slot)
{
	struct {
		struct mshv_user_irq_table table;
		struct mshv_user_irq_entry entries[GSIS];
	} routing = { .table.nr = GSIS };
	int i;

	/* The upper half is level-triggered. */
	for (i = 0; i < GSIS; i++)
		routing.entries[i] = (struct mshv_user_irq_entry) {
			.gsi = i, .data = (0x20 + below(200)) | (i >= GSIS / 2 ? 1 << 15 : 0),
			.address_lo = 0xfee00000 | below(VPS) << 12 | (rarely(4) ? 1 << 2 : 0),
		};
	WITH(ROUTING, slot->fd, MSHV_SET_MSI_ROUTING, routing);
}

static int set_property_as(enum row row, int fd, uint32_t code, uint64_t value)
{
	struct hv_set_property in = { .code = code, .value = value };

	return hvcall(row, fd, HV_SET_PARTITION_PROPERTY, 0, &in, sizeof(in), NULL, 0);
}

static int set_property(int fd, uint32_t code, uint64_t value)
{
	return set_property_as(ROW_SET_PROPERTY, fd, code, value);
}

/* Time stands still for as long as it takes to see that, and mostly goes on. */
static void freeze(int fd)
{
	set_property_as(ROW_FREEZE, fd, HV_PROP_TIME_FREEZE, 1);
	set_property_as(ROW_FREEZE, fd, HV_PROP_TIME_FREEZE, 0);
}

static void forget(struct slot *slot)
{
	int i;

	for (i = 0; i < VPS; i++)
		close_file(atomic_exchange(&slot->vps[i], -1));
	for (i = 0; i < REGIONS; i++)
		slot->regions[i] = FREE;
	for (i = 0; i < EVENTS; i++) {
		close_file(atomic_exchange(&slot->events[i], -1));
		slot->irq[i] = FREE;
	}
	for (i = 0; i < BELLS; i++)
		slot->bells[i] = FREE;
	close_file(atomic_exchange(&slot->bell, -1));
	slot->tracked = slot->synic = slot->discarded = false;
	slot->unit = FREE;
}

static int create_partition(void)
{
	struct mshv_create_partition_v2 create = {
		.pt_flags = 1 << MSHV_PT_BIT_LAPIC | 1 << MSHV_PT_BIT_X2APIC |
			    1 << MSHV_PT_BIT_GPA_SUPER_PAGES,
		.pt_num_cpu_fbanks = MSHV_NUM_CPU_FEATURES_BANKS,
	};

	if (!rarely(4))
		return with(ROW_CREATE_PARTITION, device, MSHV_CREATE_PARTITION, &create,
			    sizeof(struct mshv_create_partition));
	create.pt_flags |= 1 << MSHV_PT_BIT_CPU_AND_XSAVE_FEATURES;
	create.pt_cpu_fbanks[below(MSHV_NUM_CPU_FEATURES_BANKS)] = odd();
	create.pt_disabled_xsave = rarely(2) ? odd() : 0;
	return WITH(CREATE_PARTITION_V2, device, MSHV_CREATE_PARTITION, create);
}

/* A new partition in place of what was there, whoever uses that. */
static void make_partition(struct slot *slot)
{
	int fd, i;

	if (atomic_exchange(&slot->busy, true))
		return;
	close_file(atomic_exchange(&slot->fd, -1));
	forget(slot);
	fd = create_partition();
	if (fd > 2) {
		if (!rarely(3))
			slot->synic = !set_property(fd, HV_PROP_SYNTHETIC_FEATURES,
						    rarely(4) ? odd() : 0x600ff3);
		call(ROW_INITIALIZE, fd, MSHV_INITIALIZE_PARTITION, NULL);
		slot->private = rarely(3);
		for (i = 0; i < EVENTS; i++)
			slot->events[i] = eventfd(0, EFD_NONBLOCK);
		slot->bell = eventfd(0, EFD_NONBLOCK);
		slot->fd = fd;
		for (i = 0; i < 4; i++)
			write_code(memory_of(slot) + CODE + (i << 9), 1 << 9);
		change_region(slot, 0);
		make_vp(slot, 0);
		set_routing(slot);
	}
	slot->busy = false;
}

static void change_irqfd(struct slot *slot)
{
	int number = below(EVENTS), is = atomic_exchange(&slot->irq[number], CHANGING);
	/* The last two are level-triggered, and want to know of the EOI. */
	bool level = number >= EVENTS / 2;
	struct mshv_user_irqfd irqfd = {
		.fd = slot->events[number], .gsi = number + (level ? GSIS / 2 : 0),
		.resamplefd = slot->events[0], .flags = level ? 1 << MSHV_IRQFD_BIT_RESAMPLE : 0,
	};
	int result;

	if (is == CHANGING)
		return;
	if (is == HELD) {
		irqfd.flags = 1 << MSHV_IRQFD_BIT_DEASSIGN;
		result = WITH(IRQFD_DEASSIGN, slot->fd, MSHV_IRQFD, irqfd);
	} else if (level) {
		result = WITH(IRQFD_RESAMPLE, slot->fd, MSHV_IRQFD, irqfd);
	} else {
		result = WITH(IRQFD, slot->fd, MSHV_IRQFD, irqfd);
	}
	atomic_store(&slot->irq[number], (is == HELD) == !result ? FREE : HELD);
}

static void signal_event(struct slot *slot)
{
	uint64_t one = 1;

	count(ROW_SIGNAL, write(slot->events[below(EVENTS)], &one, 8));
}

static void change_bell(struct slot *slot)
{
	int number = below(BELLS), is = atomic_exchange(&slot->bells[number], CHANGING);
	struct mshv_user_ioeventfd request = {
		.addr = BELL_GPA + 8 * number, .len = number == 3 ? 0 : 1 << number, .fd = slot->bell,
		.datamatch = number, .flags = number & 1 ? 1 << MSHV_IOEVENTFD_BIT_DATAMATCH : 0,
	};
	int result;

	if (is == CHANGING)
		return;
	if (is == HELD) {
		request.flags |= 1 << MSHV_IOEVENTFD_BIT_DEASSIGN;
		result = WITH(IOEVENTFD_DEASSIGN, slot->fd, MSHV_IOEVENTFD, request);
	} else {
		result = WITH(IOEVENTFD, slot->fd, MSHV_IOEVENTFD, request);
	}
	atomic_store(&slot->bells[number], (is == HELD) == !result ? FREE : HELD);
}

static void access_bitmap(struct slot *slot)
{
	struct mshv_gpap_access_bitmap bitmap = {
		.access_type = below(2), .access_op = below(3), .page_count = 1 + below(200),
		.gpap_base = below(REGIONS * REGION_PAGES), .bitmap_ptr = (uintptr_t)place(80),
	};
	struct hv_access_states in = { .flags = below(16), .gpa_page = below(200) };
	unsigned int reps = 1 + below(64);

	if (!slot->tracked || rarely(16)) {
		bool on = !slot->tracked;

		if (!set_property(slot->fd, HV_PROP_GPA_ACCESS_TRACKING, on))
			slot->tracked = on;
	} else if (rarely(2)) {
		WITH(BITMAP, slot->fd, MSHV_GET_GPAP_ACCESS_BITMAP, bitmap);
	} else {
		HVCALL(ACCESS_STATES, slot->fd, HV_GET_GPA_ACCESS_STATES, reps, &in, sizeof(in), NULL, reps);
	}
}

/* The VP runs, and what it stops for is answered by going on behind it. */
static void run_vp(int fd, uint32_t index)
{
	struct hv_message message = { 0 };
	struct hv_assoc rip = PLAIN(HV_RIP, 0);

	if (fd < 0 || WITH(RUN, fd, MSHV_RUN_VP, message))
		return;
	if (message.type == HV_MSG_UNRECOVERABLE || message.type == HV_MSG_INVALID_REGISTER ||
	    message.header.rip > 0xffff || rarely(16))
		return start_vp(fd, index);
	if (message.type == HV_MSG_APIC_EOI)
		return;
	rip.value.u64 = message.header.rip + (message.header.length ? message.header.length : 2);
	if (!(rip.value.u64 & 0x1ff) || rip.value.u64 > CODE + 0x800)
		rip.value.u64 = CODE;
	set_all(fd, index, &rip, 1);
}

static const uint32_t names[] = {
	HV_RAX, HV_RCX, HV_RDX, HV_RBX, HV_RSP, HV_RSI, HV_RDI, HV_R15, HV_RIP, HV_RFLAGS, HV_XMM0,
	HV_CR0, HV_CR2, HV_CR3, HV_CR4, HV_ES, HV_CS, HV_SS, HV_LDTR, HV_TR, HV_IDTR, HV_GDTR, HV_EFER,
	HV_ACTIVITY, HV_TSC, HV_GUEST_OS_ID, HV_SCONTROL, HV_SIEFP, HV_SIMP, HV_SINT0 + SINT, HV_STIMER0,
	HV_STIMER0 + 1,
};

static void some_registers(int fd, uint32_t index)
{
	struct {
		struct hv_registers_header header;
		uint32_t names[8];
	} in = { .header.vp_index = index };
	union hv_value values[8];
	struct hv_assoc registers[8];
	unsigned int i, number = 1 + below(8);

	for (i = 0; i < number; i++)
		in.names[i] = ONE_OF(names);
	if (HVCALL(GET_REGISTERS, fd, HV_GET_VP_REGISTERS, number, &in,
		   sizeof(in.header) + 4 * number, values, number * sizeof(*values)) || rarely(2))
		return;
	/* Back, or one of them with something else. */
	for (i = 0; i < number; i++)
		registers[i] = (struct hv_assoc) { .name = in.names[i], .value = values[i] };
	if (rarely(3))
		registers[below(number)].value.u64 = odd();
	set_all(fd, index, registers, number);
}

static void vp_state(int fd)
{
	static const struct {
		uint8_t type;
		enum row get, set;
	} kinds[] = {
		{ MSHV_VP_STATE_LAPIC, ROW_GET_LAPIC, ROW_SET_LAPIC },
		{ MSHV_VP_STATE_XSAVE, ROW_GET_XSAVE, ROW_SET_XSAVE },
		{ MSHV_VP_STATE_SIMP, ROW_GET_SYNIC, ROW_SET_SYNIC },
		{ MSHV_VP_STATE_SIEFP, ROW_GET_SYNIC, ROW_SET_SYNIC },
		{ MSHV_VP_STATE_SYNTHETIC_TIMERS, ROW_GET_SYNIC, ROW_SET_SYNIC },
	};
	unsigned int kind = below(sizeof(kinds) / sizeof(*kinds));
	uint8_t *buffer = page();
	struct mshv_get_set_vp_state request = {
		.type = kinds[kind].type, .buf_sz = kind == MSHV_VP_STATE_XSAVE ? 8192 : 4096,
		.buf_ptr = (uintptr_t)buffer,
	}, again = request;

	if (with(kinds[kind].get, fd, MSHV_GET_VP_STATE, &request, sizeof(request)))
		return;
	if (rarely(4) && !sigsetjmp(fault, 1))
		buffer[below(1024)] = odd();
	with(kinds[kind].set, fd, MSHV_SET_VP_STATE, &again, sizeof(again));
}

/* Something for the guest's SynIC; at times it has emptied the slot. */
static void synic_calls(struct slot *slot, int fd, uint32_t index)
{
	struct hv_post_message message = {
		.vp_index = index, .sint = SINT, .message = { .type = 1 + below(4), .payload_size = below(241) },
	};
	struct hv_signal_event event = {
		.vp_index = index, .sint = rarely(8) ? below(16) : SINT, .flag = below(2048),
	};
	uint32_t empty = 0;

	if (rarely(3))
		start_synic(slot, fd, index);
	if (rarely(2))
		copy(memory_of(slot) + MESSAGES + SINT * 256, &empty, sizeof(empty));
	if (rarely(2))
		HVCALL(SIGNAL_EVENT, fd, HV_SIGNAL_EVENT, 0, &event, sizeof(event), NULL, 8);
	else
		HVCALL(POST_MESSAGE, fd, HV_POST_MESSAGE, 0, &message, sizeof(message), NULL, 0);
}

static void hypercalls(int fd, uint32_t index)
{
	static const uint32_t properties[] = {
		HV_PROP_SYNTHETIC_FEATURES, HV_PROP_REFERENCE_TIME, HV_PROP_GPA_ACCESS_TRACKING,
		HV_PROP_UNIMPLEMENTED_MSR, 0x00060000, 0x00060006, 0x00070000, 0x00020000,
	};
	static const struct {
		uint32_t access, type;
	} intercepts[] = {
		{ 3, HV_TYPE_PORT }, { 3, HV_TYPE_MSR }, { 1, HV_TYPE_MSR_INDEX }, { 4, HV_TYPE_CPUID },
		{ 4, HV_TYPE_EXCEPTION },
	};
	struct {
		uint64_t partition, code, argument;
	} property = { .code = ONE_OF(properties) };
	struct hv_translate translate = {
		.vp_index = index, .flags = 1 + below(7), .gva_page = rarely(4) ? odd() : below(32),
	};
	struct hv_install_intercept install = { .parameter = rarely(4) ? 3 : below(2) * 14 };
	struct hv_cpuid_result result = {
		.vp_index = index, .type = HV_TYPE_CPUID, .eax = below(16), .values = { odd(), ~0u },
	};
	struct hv_cpuid_values values = {
		.vp_index = index, .flags = below(4), .leaf = { { .eax = below(16) }, { .eax = 0xd } },
	};
	struct hv_assert_interrupt assert = {
		.type = rarely(8) ? below(8) : 0, .control = below(4), .destination = index,
		.vector = 0x20 + below(200),
	};
	unsigned int number = below(sizeof(intercepts) / sizeof(*intercepts));

	switch (below(7)) {
	case 0:
		HVCALL(GET_PROPERTY, fd, HV_GET_PARTITION_PROPERTY, 0, &property, 16, NULL, 8);
		break;
	case 1:
		property.code = rarely(2) ? 0x00090007 : 0x00090009;
		HVCALL(GET_PROPERTY_EX, fd, 0x0101, 0, &property, 24, NULL, 16);
		break;
	case 2:
		install.type = intercepts[number].type;
		install.access = rarely(2) ? 0 : intercepts[number].access;
		HVCALL(INSTALL, fd, HV_INSTALL_INTERCEPT, 0, &install, sizeof(install), NULL, 0);
		break;
	case 3:
		HVCALL(TRANSLATE, fd, HV_TRANSLATE_VIRTUAL_ADDRESS, 0, &translate, sizeof(translate),
		       NULL, sizeof(struct hv_translated));
		break;
	case 4:
		HVCALL(CPUID_RESULT, fd, HV_REGISTER_INTERCEPT_RESULT, 0, &result, sizeof(result), NULL, 0);
		break;
	case 5:
		HVCALL(CPUID_VALUES, fd, HV_GET_VP_CPUID_VALUES, 1 + number % 2, &values,
		       24 + 24 * (1 + number % 2), NULL, 16 * (1 + number % 2));
		break;
	default:
		HVCALL(ASSERT, fd, HV_ASSERT_VIRTUAL_INTERRUPT, 0, &assert, sizeof(assert), NULL, 0);
	}
}

#endif
