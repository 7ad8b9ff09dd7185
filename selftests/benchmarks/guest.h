/* SPDX-License-Identifier: GPL-2.0 */
/* What the guest code and the programs that run it agree on. */
#ifndef GUEST_H
#define GUEST_H

#define GUEST_RAM	0x400000
#define GUEST_ENTRY	0x8000		/* real mode, CS base 0 */
#define GUEST_STACK	0x7000
#define GUEST_TABLES	0x10000		/* PML4, PDPT, four page directories */
#define GUEST_IDT	0x20000
#define GUEST_SAMPLES	0x100000	/* u32 [operation][SAMPLES] */
#define GUEST_STRIDE	0x8000
#define GUEST_MMIO	0xd0000000	/* nothing is mapped here */
#define RESET_PAGE	0xfffff000

#define WARM_UP		64		/* samples that are not counted */
#define SAMPLES		4096		/* with the warm-up */

/* Ports: what is measured, and what tells how far it is. */
#define PORT_MEASURED	0x500
#define PORT_BEGIN	0x504		/* an operation begins: its number; or OP_COUNT: the end */
#define PORT_FAULT	0x508		/* the operation faulted: the vector */

#define OP_EMPTY	0
#define OP_CPUID	1
#define OP_VMCALL	2
#define OP_WRMSR	3
#define OP_OUT		4
#define OP_IN		5
#define OP_MMIO		6
#define OP_COUNT	7

/* A call number that no hypervisor gives a meaning. */
#define UNKNOWN_CALL	0x7f6f

#endif
