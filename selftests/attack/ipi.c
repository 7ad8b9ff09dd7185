// SPDX-License-Identifier: GPL-2.0
/* What a hostile root does to hvcore by interrupts between processors: an LP in real mode, NMIs. */
#include <linux/cpu.h>
#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/smp.h>
#include <asm/apic.h>
#include <asm/nmi.h>

#include "attack.h"

/* Below 1 MiB, which Linux leaves alone. */
#define REAL_PAGE	0x8000
#define WAIT_MS		2000

/*
 * In real mode, CS at the start: instructions that exit and get an exception. The vectors follow
 * at 0x400; the handler counts, and skips two bytes. Then in protected mode, with a 16-bit TSS and
 * an IDT at 0x500: values of CR0 that exit, for they change NE, and lead where VM entry refuses to
 * go. Results at 0xf00: how many exceptions of 6 and of 13, that the end was reached, and how many
 * exceptions of 13 there were in protected mode.
 */
asm(".pushsection .rodata\n"
    ".code16\n"
    "real_start:\n"
    "	cli\n"
    "	mov	%cs, %ax\n"
    "	mov	%ax, %ds\n"
    "	mov	%ax, %ss\n"
    "	mov	$0xe00, %sp\n"
    "	lidtl	%cs:real_idtr - real_start\n"
    "	mov	$0x480, %ecx\n"
    "	rdmsr\n"
    "	mov	$0x3a, %ecx\n"
    "	wrmsr\n"
    "	xor	%eax, %eax\n"
    "	xor	%ebx, %ebx\n"
    "	.byte	0x0f, 0x37\n"		/* GETSEC */
    "	mov	$0x40000000, %eax\n"
    "	cpuid\n"
    "	lgdtl	%cs:real_gdtr - real_start\n"
    "	lidtl	%cs:protected_idtr - real_start\n"
    "	mov	%cr4, %eax\n"
    "	or	$0x20, %al\n"			/* PAE */
    "	mov	%eax, %cr4\n"
    "	mov	%cr0, %eax\n"
    "	or	$1, %al\n"
    "	mov	%eax, %cr0\n"
    "	ljmp	$0x10, $1f - real_start\n"
    "1:	mov	$8, %ax\n"
    "	ltr	%ax\n"
    "	mov	%cr0, %eax\n"
    "	xor	$0x80000020, %eax\n"		/* PG, and not the NE of before */
    "	mov	%eax, %cr0\n"
    "	mov	$0xc0000080, %ecx\n"
    "	rdmsr\n"
    "	or	$0x100, %eax\n"		/* LME */
    "	wrmsr\n"
    "	mov	%cr0, %eax\n"
    "	xor	$0x80000020, %eax\n"
    "	mov	%eax, %cr0\n"
    "	movb	$1, 0xf02\n"
    "1:	hlt\n"
    "	jmp	1b\n"
    "real_gp:\n"
    "	incb	0xf01\n"
    "	jmp	2f\n"
    "real_ud:\n"
    "	incb	0xf00\n"
    "2:	push	%bp\n"
    "	mov	%sp, %bp\n"
    "	addw	$2, 2(%bp)\n"
    "	pop	%bp\n"
    "	iret\n"
    "protected_gp:\n"
    "	incb	0xf03\n"
    "	add	$2, %sp\n"
    "	push	%bp\n"
    "	mov	%sp, %bp\n"
    "	addw	$3, 2(%bp)\n"
    "	pop	%bp\n"
    "	iret\n"
    "real_idtr:\n"
    "	.word	0x7f\n"
    "	.long	0x8400\n"
    "protected_idtr:\n"
    "	.word	0xff\n"
    "	.long	0x8500\n"
    "real_gdtr:\n"
    "	.word	0x17\n"
    "	.long	0x8000 + 1f - real_start\n"
    "	.balign	8\n"
    "1:	.quad	0, 0x000081008600002b, 0x00009b008000ffff\n"
    "real_end:\n"
    "	.word	real_ud - real_start\n"
    "	.word	real_gp - real_start\n"
    "	.word	protected_gp - real_start\n"
    ".code64\n"
    ".popsection\n");

extern const u8 real_start[], real_end[];

static void send(int cpu, u32 what)
{
	unsigned long flags;

	local_irq_save(flags);
	apic->icr_write(what, per_cpu(x86_cpu_to_apicid, cpu));
	local_irq_restore(flags);
}

/* Starts @cpu, which is offline, at code of ours. */
void real_mode(int cpu, struct seq_buf *out)
{
	const u16 *handlers = (const u16 *)real_end;
	u8 *page = __va(REAL_PAGE), *kept;
	volatile u8 *results = page + 0xf00;
	int i;

	if (cpu >= nr_cpu_ids || cpu_online(cpu)) {
		seq_buf_puts(out, "is online\n");
		return;
	}
	kept = kmemdup(page, PAGE_SIZE, GFP_KERNEL);
	if (!kept)
		return;
	memset(page, 0, PAGE_SIZE);
	memcpy(page, real_start, real_end - real_start);
	for (i = 0; i < 32; i++)
		((u32 *)(page + 0x400))[i] = (REAL_PAGE >> 4) << 16 | handlers[i != 6];
	/* A 16-bit gate. */
	((u64 *)(page + 0x500))[13] = 0x86ull << 40 | 0x10 << 16 | handlers[2];
	/* hvmod sent it an INIT when it went offline. */
	send(cpu, APIC_DM_STARTUP | REAL_PAGE >> 12);
	for (i = 0; i < WAIT_MS / 10 && !results[2]; i++)
		msleep(10);
	seq_buf_printf(out, "%s: #UD %u, #GP %u, CR0 %u\n", results[2] ? "end" : "no end",
		       results[0], results[1], results[3]);
	/* As Linux left it. */
	send(cpu, APIC_INT_LEVELTRIG | APIC_INT_ASSERT | APIC_DM_INIT);
	msleep(20);
	memcpy(page, kept, PAGE_SIZE);
	kfree(kept);
}

static int target;
static unsigned long sent, taken, pause_loops;

static int take(unsigned int type, struct pt_regs *regs)
{
	/* hvmod calls the other CPUs by NMIs of its own. */
	if (smp_processor_id() != target)
		return NMI_DONE;
	taken++;
	return NMI_HANDLED;
}

static int send_nmis(void *unused)
{
	while (!kthread_should_stop()) {
		unsigned long before = READ_ONCE(taken), loops = 0;

		/* Not always at the same place. */
		if (pause_loops)
			loops = sent * 7919 % pause_loops;
		while (loops--)
			cpu_relax();
		send(target, APIC_DM_NMI);
		sent++;
		while (READ_ONCE(taken) == before && !kthread_should_stop())
			cpu_relax();
		if (!(sent % 64))
			cond_resched();
	}
	return 0;
}

static struct task_struct *sender;

/*
 * From here on @cpu has one NMI after the other. It gets on with what it does if there are pauses
 * of up to so many turns of a loop.
 */
void storm(int cpu, unsigned long pause, struct seq_buf *out)
{
	if (sender || !cpu_online(cpu)) {
		seq_buf_puts(out, "no storm\n");
		return;
	}
	target = cpu;
	sent = taken = 0;
	pause_loops = pause;
	sender = kthread_create(send_nmis, NULL, "hvattack-nmi");
	if (IS_ERR(sender) || register_nmi_handler(NMI_LOCAL, take, 0, "hvattack")) {
		sender = NULL;
		seq_buf_puts(out, "no storm\n");
		return;
	}
	kthread_bind(sender, cpumask_any_but(cpu_online_mask, cpu));
	wake_up_process(sender);
}

/* Until here. */
void calm(struct seq_buf *out)
{
	if (!sender)
		return;
	kthread_stop(sender);
	sender = NULL;
	msleep(20);
	unregister_nmi_handler(NMI_LOCAL, "hvattack");
	seq_buf_printf(out, "%lu NMIs, %ld lost\n", taken, (long)(sent - taken));
}

/* NMIs while this CPU is in hvcore because of an instruction that MOV SS shields. */
void shadowed_nmis(u64 hidden, u64 count, struct seq_buf *out)
{
	const u64 *at = __va(hidden);
	unsigned long i;

	migrate_disable();
	storm(smp_processor_id(), 0, out);
	for (i = 0; i < count; i++) {
		u64 value;

		/* So that the next look exits. */
		vmcall(CALL_SYNC, 0, 0, 0, 0, 0);
		asm volatile("mov %%ss, %%eax\n"
			     "mov %%eax, %%ss\n"
			     "mov %1, %0" : "=r" (value) : "m" (*at) : "eax");
	}
	migrate_enable();
	calm(out);
}
