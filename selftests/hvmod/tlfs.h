/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What a VMM must know of Hyper-V's Top-Level Functional Specification to use
 * linux/mshv.h: hypercalls, registers, messages. Written from the specification;
 * the kernel has the same in include/hyperv, which programs cannot include.
 */
#ifndef HVMOD_TEST_TLFS_H
#define HVMOD_TEST_TLFS_H

#include <stdint.h>

/* Hypercalls. */
#define HV_GET_PARTITION_PROPERTY	0x0044
#define HV_SET_PARTITION_PROPERTY	0x0045
#define HV_INSTALL_INTERCEPT		0x004d
#define HV_GET_VP_REGISTERS		0x0050
#define HV_SET_VP_REGISTERS		0x0051
#define HV_TRANSLATE_VIRTUAL_ADDRESS	0x0052
#define HV_CLEAR_VIRTUAL_INTERRUPT	0x0056
#define HV_REGISTER_INTERCEPT_RESULT	0x0091
#define HV_ASSERT_VIRTUAL_INTERRUPT	0x0094
#define HV_SIGNAL_EVENT			0x00c0
#define HV_POST_MESSAGE			0x00c1
#define HV_GET_GPA_ACCESS_STATES	0x00c9
#define HV_GET_VP_CPUID_VALUES		0x00f4
#define HV_CREATE_PARTITION		0x0040	/* never passed through */

/* Names of registers. */
#define HV_RAX		0x20000
#define HV_RCX		0x20001
#define HV_RDX		0x20002
#define HV_RBX		0x20003
#define HV_RSP		0x20004
#define HV_RSI		0x20006
#define HV_RDI		0x20007
#define HV_R15		0x2000f
#define HV_RIP		0x20010
#define HV_RFLAGS	0x20011
#define HV_XMM0		0x30000
#define HV_CR0		0x40000
#define HV_CR2		0x40001
#define HV_CR3		0x40002
#define HV_CR4		0x40003
#define HV_ES		0x60000
#define HV_CS		0x60001
#define HV_SS		0x60002
#define HV_DS		0x60003
#define HV_FS		0x60004
#define HV_GS		0x60005
#define HV_LDTR		0x60006
#define HV_TR		0x60007
#define HV_IDTR		0x70000
#define HV_GDTR		0x70001
#define HV_EFER		0x80001
#define HV_APIC_BASE	0x80003
#define HV_ACTIVITY	0x4		/* internal activity: 1 waits for SIPI, 2 halted */
#define HV_PENDING_INTERRUPTION 0x10002
#define HV_TSC		0x80000
#define HV_HYPERCALL	0x90001
#define HV_GUEST_OS_ID	0x90002
#define HV_VP_INDEX	0x90003
#define HV_REFERENCE_TSC 0x90017
#define HV_SINT0	0xa0000
#define HV_SCONTROL	0xa0010
#define HV_SIEFP	0xa0012
#define HV_SIMP		0xa0013
#define HV_STIMER0	0xb0000

/* Messages. */
#define HV_MSG_UNMAPPED_GPA		0x80000000
#define HV_MSG_GPA_INTERCEPT		0x80000001
#define HV_MSG_INVALID_REGISTER		0x80000020
#define HV_MSG_UNRECOVERABLE		0x80000021
#define HV_MSG_IO_PORT			0x80010000
#define HV_MSG_MSR			0x80010001
#define HV_MSG_CPUID			0x80010002
#define HV_MSG_EXCEPTION		0x80010003
#define HV_MSG_APIC_EOI			0x80010004
#define HV_MSG_HALT			0x80010007

enum { HV_READ, HV_WRITE, HV_EXECUTE };

struct hv_segment {
	uint64_t base;
	uint32_t limit;
	uint16_t selector;
	uint16_t attributes;	/* bits 8 to 23 of a descriptor's upper half */
};

struct hv_table {
	uint16_t pad[3];
	uint16_t limit;
	uint64_t base;
};

union hv_value {
	uint64_t u64;
	uint8_t bytes[16];
	struct hv_segment segment;
	struct hv_table table;
};

struct hv_assoc {
	uint32_t name;
	uint32_t reserved1;
	uint64_t reserved2;
	union hv_value value;
};

/* Followed by names (get) or by struct hv_assoc (set). */
struct hv_registers_header {
	uint64_t partition_id;
	uint32_t vp_index;
	uint8_t vtl;
	uint8_t reserved[3];
};

struct hv_assert_interrupt {
	uint64_t partition_id;
	uint32_t type;		/* as the local APIC's delivery mode */
	uint32_t control;	/* bit 0 level-triggered, 1 logical destination */
	uint64_t destination;
	uint32_t vector;
	uint8_t vtl;
	uint8_t reserved[3];
};

struct hv_translate {
	uint64_t partition_id;
	uint32_t vp_index;
	uint32_t padding;
	uint64_t flags;		/* bit 0 read, 1 write, 2 execute */
	uint64_t gva_page;
};

struct hv_translated {
	uint32_t result;	/* 0 success, 1 page not present, 4 GPA not mapped */
	uint32_t flags;
	uint64_t gpa_page;
};

/* Properties. */
#define HV_PROP_SYNTHETIC_FEATURES	0x00010001
#define HV_PROP_TIME_FREEZE		0x00030003
#define HV_PROP_REFERENCE_TIME		0x00030005
#define HV_PROP_GPA_ACCESS_TRACKING	0x00050005
#define HV_PROP_UNIMPLEMENTED_MSR	0x00050017

struct hv_set_property {
	uint64_t partition_id;
	uint32_t code;
	uint32_t padding;
	uint64_t value;
};

/* Intercepts: types, and the access that is wanted, 0 to take one back. */
enum { HV_TYPE_PORT, HV_TYPE_MSR, HV_TYPE_CPUID, HV_TYPE_EXCEPTION, HV_TYPE_MSR_INDEX = 12 };

struct hv_install_intercept {
	uint64_t partition_id;
	uint32_t access;	/* bit 0 read, 1 write, 2 execute */
	uint32_t type;
	uint64_t parameter;
};

struct hv_cpuid_result {
	uint64_t partition_id;
	uint32_t vp_index;
	uint32_t type;
	uint32_t eax;
	uint32_t ecx;
	uint8_t subleaf_specific;
	uint8_t always_override;
	uint16_t padding;
	uint32_t values[8];	/* EAX and its mask, EBX, ECX, EDX */
} __attribute__((packed));

struct hv_cpuid_values {
	uint64_t partition_id;
	uint32_t vp_index;
	uint32_t flags;		/* bit 0 the VP's XCR0, 1 with what was registered */
	uint32_t reserved[2];
	struct {
		uint32_t eax;
		uint32_t ecx;
		uint64_t xfem;
		uint64_t xss;
	} leaf[2];
};

struct hv_access_states {
	uint64_t partition_id;
	uint64_t flags;		/* bit 0 clear accessed, 1 set, 2 clear dirty, 3 set */
	uint64_t gpa_page;
};

/* What can be mapped of a VP. */
struct hv_register_page {
	uint16_t version;
	uint8_t valid;
	uint8_t reserved;
	uint32_t dirty;		/* bit 0 general, 1 RIP, 2 XMM, 3 segments, 4 RFLAGS */
	uint64_t gpr[16];	/* RAX, RCX, RDX, RBX, ... */
	uint64_t rip;
	uint64_t rflags;
	uint64_t reserved2;
	uint64_t xmm[6][2];
	struct hv_segment segments[6];	/* ES, CS, SS, DS, FS, GS */
	uint64_t cr0;
	uint64_t cr3;
	uint64_t cr4;
	uint64_t cr8;
	uint64_t efer;
	uint64_t dr7;
	uint64_t pending_interruption;
	uint64_t interrupt_state;
	uint64_t hints;
	uint64_t xfem;
};

struct hv_intercept_header {
	uint32_t vp_index;
	uint8_t length : 4;	/* of the instruction */
	uint8_t cr8 : 4;
	uint8_t access;
	uint16_t state;		/* bits 0 and 1 CPL, 2 CR0.PE, 4 EFER.LMA */
	struct hv_segment cs;
	uint64_t rip;
	uint64_t rflags;
};

struct hv_port_message {
	struct hv_intercept_header header;
	uint16_t port;
	uint8_t size : 3;
	uint8_t string : 1;
	uint8_t rep : 1;
	uint8_t reserved1 : 3;
	uint8_t bytes_count;
	uint32_t reserved2;
	uint64_t rax;
	uint8_t bytes[16];
	struct hv_segment ds;
	struct hv_segment es;
	uint64_t rcx;
	uint64_t rsi;
	uint64_t rdi;
};

struct hv_msr_message {
	struct hv_intercept_header header;
	uint32_t number;
	uint32_t reserved;
	uint64_t rdx;
	uint64_t rax;
};

struct hv_cpuid_message {
	struct hv_intercept_header header;
	uint64_t rax;
	uint64_t rcx;
	uint64_t rdx;
	uint64_t rbx;
	uint64_t native[4];	/* RAX, RCX, RDX, RBX */
};

struct hv_exception_message {
	struct hv_intercept_header header;
	uint16_t vector;
	uint8_t info;		/* bit 0 the error code is valid */
	uint8_t bytes_count;
	uint32_t error_code;
	uint64_t parameter;
};

struct hv_memory_message {
	struct hv_intercept_header header;
	uint32_t cache_type;
	uint8_t bytes_count;
	uint8_t gva_valid : 1;
	uint8_t gva_is_of_gpa : 1;
	uint8_t reserved1 : 6;
	uint8_t tpr;
	uint8_t reserved2;
	uint64_t gva;
	uint64_t gpa;
	uint8_t bytes[16];
};

struct hv_eoi_message {
	uint32_t vp_index;
	uint32_t vector;
};

struct hv_message {
	uint32_t type;
	uint8_t payload_size;
	uint8_t flags;
	uint8_t reserved[2];
	uint64_t sender;
	union {
		struct hv_intercept_header header;
		struct hv_port_message port;
		struct hv_memory_message memory;
		struct hv_eoi_message eoi;
		struct hv_msr_message msr;
		struct hv_cpuid_message cpuid;
		struct hv_exception_message exception;
		uint8_t payload[240];
	};
};

/* What comes to a guest's SynIC. */
struct hv_post_message {
	uint64_t partition_id;
	uint32_t vp_index;
	uint8_t vtl;
	uint8_t padding[3];
	uint32_t sint;
	struct hv_message message;
} __attribute__((packed));

struct hv_signal_event {
	uint64_t partition_id;
	uint32_t vp_index;
	uint8_t vtl;
	uint8_t sint;
	uint16_t flag;
};

_Static_assert(sizeof(struct hv_intercept_header) == 40, "");
_Static_assert(sizeof(struct hv_port_message) == 128, "");
_Static_assert(sizeof(struct hv_memory_message) == 80, "");
_Static_assert(sizeof(struct hv_msr_message) == 64, "");
_Static_assert(sizeof(struct hv_cpuid_message) == 104, "");
_Static_assert(sizeof(struct hv_cpuid_result) == 60, "");
_Static_assert(sizeof(struct hv_message) == 256, "");
_Static_assert(sizeof(struct hv_assoc) == 32, "");

#endif
