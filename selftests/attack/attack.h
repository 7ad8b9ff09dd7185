/* SPDX-License-Identifier: GPL-2.0 */
#ifndef HVATTACK_H
#define HVATTACK_H

#include <linux/seq_buf.h>
#include <linux/types.h>
#include <linux/uaccess.h>

/* What a hypercall answered; trap: the exception that it got instead, or 0. */
struct answer {
	u64 status, value, extra;
	u32 trap;
};

/* rust/hvabi/src/call.rs */
enum {
	CALL_SYNC, CALL_UNLOAD, CALL_DEPOSIT, CALL_WITHDRAW, CALL_PARTITION_CREATE,
	CALL_PARTITION_DESTROY, CALL_GPA_MAP, CALL_GPA_UNMAP, CALL_VP_CREATE, CALL_VP_RUN,
	CALL_VP_GET, CALL_VP_SET, CALL_ASSERT_INTERRUPT, CALL_POOL_INFO = 14,
	CALLS,
};

enum { STATUS_OK = 0, STATUS_NEED_SYNC = 6, STATUS_CORE_DEAD = 14, STATUSES = 16 };

#define MAX_PARTITIONS	64
#define PAGE_ITEMS	(PAGE_SIZE / 8)

/* Interrupts are off meanwhile and the FPU may be used, as VpRun wants it. */
struct answer vmcall(u64 number, u64 a, u64 b, u64 c, u64 d, u64 e);
struct answer vmcall_no_fpu(u64 number, u64 a, u64 b, u64 c, u64 d, u64 e);

/* copy_to_kernel_nofault() is not for modules. */
static inline int put_nofault(void *to, u64 value)
{
	__put_kernel_nofault(to, &value, u64, fault);
	return 0;
fault:
	return -EFAULT;
}

/* instruction.c: the exception that @name gets here, -1 if it is not known. */
int run_instruction(const char *name, u64 a, u64 b, u64 *result);

/* access.c: whether that way faults, -1 if it could not be tried; what was found by it. */
int use(const char *name, u64 spa, u64 *found);

/* hotplug.c: do nothing but with the module's parameters. */
int hotplug_drivers(void);
void hotplug_drivers_exit(void);

/* ipi.c */
void real_mode(int cpu, struct seq_buf *out);
void storm(int cpu, unsigned long pause, struct seq_buf *out);
void calm(struct seq_buf *out);
void shadowed_nmis(u64 hidden, u64 count, struct seq_buf *out);

/* fuzz.c */
int fuzz(u64 seed, u64 count, struct seq_buf *out);
void fuzz_exit(void);

#endif /* HVATTACK_H */
