// SPDX-License-Identifier: GPL-2.0
/*
 * What surrounds the run of a VP.
 */

#include <linux/irqflags.h>
#include <linux/preempt.h>
#include <linux/rseq.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/smp.h>
#include <asm/fpu/api.h>
#include <asm/smp.h>
#include <asm/tsc.h>

#ifdef CONFIG_VIRT_XFER_TO_GUEST_WORK
#include <linux/entry-virt.h>
#endif

#include "mshv.h"

/* True if Linux wants this thread for something before it runs a VP (again). */
bool hvmod_work_pending(void)
{
#ifdef CONFIG_VIRT_XFER_TO_GUEST_WORK
	return __xfer_to_guest_mode_work_pending();
#else
	return need_resched() || signal_pending(current) ||
	       test_thread_flag(TIF_NOTIFY_RESUME);
#endif
}

/* Does that. -EINTR if it can only be done on the way to user space. */
int hvmod_handle_work(void)
{
#ifdef CONFIG_VIRT_XFER_TO_GUEST_WORK
	return xfer_to_guest_mode_handle_work();
#else
	if (signal_pending(current) || test_thread_flag(TIF_NOTIFY_RESUME))
		return -EINTR;
	cond_resched();
	return 0;
#endif
}

void hvmod_userspace_exit(void)
{
#ifdef CONFIG_VIRT_XFER_TO_GUEST_WORK
	rseq_virt_userspace_exit();
#endif
}

/*
 * The FPU becomes the VP's to use, and interrupts go off, in this order:
 * saving the thread's registers need not delay an interrupt.
 */
void hvmod_run_begin(void)
{
	kernel_fpu_begin_mask(0);
	local_irq_disable();
}

void hvmod_run_end(void)
{
	local_irq_enable();
	kernel_fpu_end();
}

/* Makes @cpu take an interrupt. */
void hvmod_kick_cpu(u32 cpu)
{
	/* While this one is not preempted the other does not go offline. */
	preempt_disable();
	if (cpu < nr_cpu_ids && cpu_online(cpu))
		arch_smp_send_reschedule(cpu);
	preempt_enable();
}

u64 hvmod_tsc(void)
{
	return rdtsc();
}
