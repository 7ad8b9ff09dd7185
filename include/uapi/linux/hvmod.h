/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * hvmod's own calls on /dev/hvmod, beside the mshv calls (linux/mshv.h) that the
 * device takes too. Fields have fixed sizes; reserved ones must be zero on the
 * way in (else EINVAL) and are zero on the way out; an unknown call is ENOTTY.
 * New abilities get a bit in hvmod_caps, never a new meaning for an old field.
 */
#ifndef _UAPI_LINUX_HVMOD_H
#define _UAPI_LINUX_HVMOD_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define HVMOD_IOCTL	0xBB

/* VM exits are counted by basic exit reason (SDM vol. 3, appendix C). */
#define HVMOD_EXIT_REASONS	80

/* VPs that a partition has at most. */
#define HVMOD_MAX_VPS	64

/* hvmod_caps.caps */
#define HVMOD_CAP_INFO		(1ULL << 0)	/* HVMOD_GET_INFO and the two below it */
#define HVMOD_CAP_LOG		(1ULL << 1)	/* HVMOD_READ_LOG */
/* VPs can run: the processor virtualizes APIC registers. */
#define HVMOD_CAP_CHILDREN	(1ULL << 2)
#define HVMOD_CAP_VP_INFO	(1ULL << 3)	/* HVMOD_GET_VP_INFO */
#define HVMOD_CAP_PRIVATE	(1ULL << 8)	/* HVMOD_SET_PRIVATE_MEMORY */
#define HVMOD_CAP_DISCARD	(1ULL << 9)	/* HVMOD_DISCARD_MEMORY */

struct hvmod_caps {
	__u64 caps;		/* out: HVMOD_CAP_* */
	__u64 reserved[3];
};

/* Against speculation; also bits of the module parameter "speculation". */
#define HVMOD_MEASURE_IBPB	(1U << 0)
#define HVMOD_MEASURE_RSB_FILL	(1U << 1)
#define HVMOD_MEASURE_VERW	(1U << 2)
#define HVMOD_MEASURE_L1D_FLUSH	(1U << 3)

struct hvmod_info {
	__u32 abi;		/* out: version of the interface between hvmod and hvcore */
	__u32 lps;		/* out: LPs in the root partition */
	__u32 partitions;	/* out: children that exist */
	__u32 dead;		/* out: 1 if hvcore died; see the log */
	__u64 core_bytes;	/* out: memory taken at load */
	__u64 core_text;	/* out: of it, hvcore's code */
	__u64 deposited_bytes;	/* out: memory deposited for children */
	__u64 shared_bytes;	/* out: root memory mapped into children */
	__u64 tsc_khz;		/* out: frequency of the TSC */
	__u64 core_spa;		/* out: physical address of hvcore's own memory, hidden from Linux */
	__u64 core_size;	/* out: and its size in bytes; deposits lie elsewhere */
	__u64 private_bytes;	/* out: memory that children have for themselves */
	__u32 measures;		/* out: HVMOD_MEASURE_* taken on a switch between partitions */
	__u32 measures_lacking;	/* out: those that the processor needs, and are not taken */
	__u64 reserved[3];
};

struct hvmod_lp_info {
	__u32 index;		/* in: from 0; ENOENT past the last */
	__u32 cpu;		/* out: Linux's number of it */
	__u32 apic_id;		/* out */
	__u32 active;		/* out: 1 while in VMX operation */
	__u64 root_exits[HVMOD_EXIT_REASONS];	/* out */
	__u64 child_exits[HVMOD_EXIT_REASONS];	/* out */
	__u64 child_runs;	/* out: switches from the root to a child */
	__u64 nmis;		/* out: NMIs handed to the root */
	__u64 hypercalls;	/* out */
	__u64 denied;		/* out: writes of the root to pages it may not touch, refused */
	__u64 denied_rip;	/* out: where the last of them was */
	__u64 hidden_reads;	/* out: reads of such pages, which gave zeros */
	__u64 reserved[2];
};

struct hvmod_partition_info {
	__u64 id;		/* in: least number wanted; out: number of this one; ENOENT past the last */
	__u32 vps;		/* out */
	__s32 owner;		/* out: process that created it, in the caller's pid namespace; 0: not visible */
	char comm[16];		/* out: its name, NUL-terminated */
	__u64 shared_bytes;	/* out: root memory mapped into it */
	__u64 deposited_bytes;	/* out: memory deposited for it */
	__u64 exits[HVMOD_EXIT_REASONS];	/* out: VM exits of all its VPs, but for those as below */
	__u64 private_bytes;	/* out: memory that it has for itself */
	__u64 reserved[3];
};

/* hvmod_vp_info.state */
#define HVMOD_VP_STOPPED	0	/* no thread is in MSHV_RUN_VP */
#define HVMOD_VP_RUNNING	1
#define HVMOD_VP_READY		2	/* its thread would run it, but has no CPU or other work */
#define HVMOD_VP_HALTED		3	/* its thread sleeps until an interrupt comes */
#define HVMOD_VP_WAITS_FOR_SIPI	4	/* its thread sleeps until another VP starts it */

struct hvmod_vp_info {
	__u64 partition;	/* in: number of a partition */
	__u32 index;		/* in: least index wanted; out: index of this one; ENOENT past the last */
	__u32 state;		/* out: HVMOD_VP_* */
	__u32 cpu;		/* out: Linux's number of the CPU that it runs on, if it runs */
	__s32 thread;		/* out: thread that ran it last, in the caller's pid namespace; 0: not visible */
	__u64 exits[HVMOD_EXIT_REASONS];	/* out: its VM exits; 0, as the next two, while RUN_VP
					   waits for memory of its program */
	__u64 handled;		/* out: of them, those that the root did not see */
	__u64 injected;		/* out: interrupts that it got */
	__u64 reserved[4];
};

struct hvmod_log_record {
	__u64 seq;		/* number of the record, from 1 */
	__u64 tsc;		/* TSC when it was written */
	__u16 lp;		/* LP that wrote it */
	__u8 level;		/* as in syslog: 2 critical to 7 debug */
	__u8 len;		/* bytes of text */
	__u32 reserved;
	char text[232];		/* UTF-8, no line end, not NUL-terminated */
};

struct hvmod_read_log {
	__u64 seq;		/* in: least number wanted; out: least number not read */
	__u64 records;		/* in: user address of an array of struct hvmod_log_record */
	__u32 count;		/* in: room in the array; out: records written */
	__u32 reserved;
	__u64 lost;		/* out: wanted records that were overwritten */
};

/*
 * On a partition's descriptor: private memory. hvmod allocates it, fills it from
 * the image, and hvcore takes it from the root: reading it there gives zeros,
 * writing faults. It stays the partition's until that is destroyed, and returns
 * cleared. No VP may be running (EBUSY). EEXIST where there is memory already.
 */
#define HVMOD_PRIVATE_WRITABLE		(1U << 0)
#define HVMOD_PRIVATE_EXECUTABLE	(1U << 1)

struct hvmod_private_memory {
	__u64 guest_pfn;	/* in: first guest page, of 4 KiB */
	__u64 size;		/* in: bytes, whole pages */
	__u64 image;		/* in: user address of that many bytes to copy, or 0: zeros */
	__u32 flags;		/* in: HVMOD_PRIVATE_* */
	__u32 reserved[3];
};

/*
 * On a partition's descriptor: the guest does without memory that
 * MSHV_SET_GUEST_MEMORY gave it, as with a balloon. It is unmapped and no longer
 * pinned, so that the program can give it back (madvise MADV_DONTNEED or
 * MADV_REMOVE). When the guest touches a unit of it, it is mapped and pinned again
 * with what the program has at its address by then. ENOENT where not all of it is
 * of one call of MSHV_SET_GUEST_MEMORY; EBUSY while accesses are tracked.
 */
#define HVMOD_DISCARD_UNIT	(2U << 20)

struct hvmod_discard_memory {
	__u64 guest_pfn;	/* in: first guest page, of 4 KiB: where a unit begins */
	__u64 size;		/* in: bytes, whole units */
	__u64 reserved[2];
};

#define HVMOD_GET_CAPS		_IOR(HVMOD_IOCTL, 0x00, struct hvmod_caps)
#define HVMOD_GET_INFO		_IOR(HVMOD_IOCTL, 0x01, struct hvmod_info)
#define HVMOD_GET_LP_INFO	_IOWR(HVMOD_IOCTL, 0x02, struct hvmod_lp_info)
#define HVMOD_GET_PARTITION_INFO	_IOWR(HVMOD_IOCTL, 0x03, struct hvmod_partition_info)
#define HVMOD_READ_LOG		_IOWR(HVMOD_IOCTL, 0x04, struct hvmod_read_log)
#define HVMOD_GET_VP_INFO	_IOWR(HVMOD_IOCTL, 0x05, struct hvmod_vp_info)
#define HVMOD_SET_PRIVATE_MEMORY	_IOW(HVMOD_IOCTL, 0x20, struct hvmod_private_memory)
#define HVMOD_DISCARD_MEMORY	_IOW(HVMOD_IOCTL, 0x21, struct hvmod_discard_memory)

/* CPUID leaf that answers in the root partition: EBX, ECX, EDX spell "hvmod root  ". */
#define HVMOD_CPUID_BASE	0x48564d00
/* EAX: index of this LP. */
#define HVMOD_CPUID_LP		0x48564d01

#endif /* _UAPI_LINUX_HVMOD_H */
