/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The one page that Linux and hvcore both have mapped, at the same address: how
 * a processor goes to hvcore at launch, and how it comes back for good. The
 * interface is specified in rust/hvabi/src/boot.rs.
 *
 * Interrupts are off throughout, and NMIs blocked: processors go there in one
 * (gather.c), and on the way back hvcore blocks them until the IRETQ. A machine
 * check while CR3 is not Linux's, and hvcore has not loaded its own IDT yet,
 * finds neither handler nor stack mapped and shuts the processor down.
 *
 * CR4 passes through values of different kinds:
 *  - Going, PGE, PCIDE and CET go off with the first write. Clearing PGE or
 *    PCIDE drops all translations, those of every PCID too, so that nothing of
 *    Linux is left under PCID 0, which is hvcore's; with CET off no ENDBR is
 *    needed over there.
 *  - Coming back, PCIDE may be set only while CR3[11:0] is 0, as it is in
 *    hvcore's CR3: so CR4 comes before CR3. See linux_tables.
 */
#include <linux/linkage.h>
#include <linux/objtool.h>
#include <asm/alternative.h>
#include <asm/cpufeatures.h>
#include <asm/msr-index.h>
#include <asm/nospec-branch.h>
#include <asm/processor-flags.h>
#include <asm/segment.h>
#include <asm/unwind_hints.h>

/* struct Enter in sys/trampoline.rs */
#define ENTER_INFO	0
#define ENTER_LP	8
#define ENTER_CR3	16
#define ENTER_CR4_KEEP	24
#define ENTER_STACK_TOP	32
#define ENTER_ENTRY	40

/* LeaveFrame in rust/hvabi/src/boot.rs */
#define LEAVE_RAX	0
#define LEAVE_RCX	8
#define LEAVE_RDX	16
#define LEAVE_RBX	24
#define LEAVE_RBP	40
#define LEAVE_RSI	48
#define LEAVE_RDI	56
#define LEAVE_R8	64
#define LEAVE_FS_BASE	128
#define LEAVE_GS_BASE	136
#define LEAVE_RIP	144
#define LEAVE_CS	152
#define LEAVE_RFLAGS	160
#define LEAVE_RSP	168
#define LEAVE_SS	176
#define LEAVE_DS	184
#define LEAVE_ES	186
#define LEAVE_FS	188
#define LEAVE_GS	190
#define LEAVE_LDTR	192
#define LEAVE_DEAD	194
#define LEAVE_GDTR	200
#define LEAVE_IDTR	216
/* Behind it, by loader.rs; the stack is at the end of the page. */
#define LEAVE_CPU	232

#define TSS_RSP0	4
#define PF_GATE		(16 * 14)
/* enum x86_pf_error_code, which assembly cannot see. */
#define X86_PF_USER	(1 << 2)
#define X86_PF_INSTR	(1 << 4)

/* From hvcore's address space to Linux's. */
.macro linux_tables cr4:req, cr3:req
	movq	\cr4, %cr4
	movq	\cr3, %cr3
.endm

	.text
	.balign 4096
SYM_INNER_LABEL(hvmod_trampoline, SYM_L_GLOBAL)
	ANNOTATE_NOENDBR

/*
 * struct Outcome hvmod_enter(const struct Enter *enter)
 *
 * Returns { 0, - } as the root partition, or { status, detail } outside VMX
 * operation.
 */
SYM_FUNC_START(hvmod_enter)
	pushq	%rbp
	pushq	%rbx
	pushq	%r12
	pushq	%r13
	pushq	%r14
	pushq	%r15
	pushfq

	movq	%rdi, %r11
	movq	%cr3, %rdx
	movq	%cr4, %rcx
	movq	ENTER_INFO(%r11), %rdi
	movq	ENTER_LP(%r11), %rsi
	movq	ENTER_ENTRY(%r11), %rax
	movq	ENTER_CR3(%r11), %r10
	movq	ENTER_STACK_TOP(%r11), %r13
	movq	ENTER_CR4_KEEP(%r11), %r12
	andq	%rcx, %r12
	leaq	.Lcontinue(%rip), %r9
	movq	%rsp, %r8

	/* What the failed call leaves alone, being a call. */
	movq	%rdx, %rbx
	movq	%rcx, %rbp
	movq	%r8, %r14

	movq	%r12, %cr4
	movq	%r10, %cr3
	movq	%r13, %rsp
	ANNOTATE_RETPOLINE_SAFE
	call	*%rax

	/* The launch failed. */
	linux_tables cr4=%rbp, cr3=%rbx
	movq	%r14, %rsp

	/* The launch worked: VM entry came here, with RSP = R8 and RAX = 0. */
SYM_INNER_LABEL(.Lcontinue, SYM_L_LOCAL)
	ANNOTATE_NOENDBR
	popfq
	popq	%r15
	popq	%r14
	popq	%r13
	popq	%r12
	popq	%rbx
	popq	%rbp
	RET
SYM_FUNC_END(hvmod_enter)
/* RSP leaves the stack and comes back to it: nothing for objtool to follow. */
STACK_FRAME_NON_STANDARD hvmod_enter

/*
 * hvcore jumps here after VMXOFF, its CR3 still loaded. RAX = CR3 and RCX = CR4
 * of Linux, RDI = address in Linux of this LP's LeaveFrame.
 */
SYM_CODE_START_NOALIGN(hvmod_leave)
	UNWIND_HINT_UNDEFINED
	ANNOTATE_NOENDBR
	/*
	 * If hvcore died at an exit from user space, CR3 may be a user CR3 of page
	 * table isolation, in which nothing here is mapped: take the kernel's, as
	 * SWITCH_TO_KERNEL_CR3 does. More on that below.
	 */
	ALTERNATIVE "", "andq $~0x1800, %rax", X86_FEATURE_PTI
	linux_tables cr4=%rcx, cr3=%rax

	lgdt	LEAVE_GDTR(%rdi)
	lidt	LEAVE_IDTR(%rdi)
	lldt	LEAVE_LDTR(%rdi)
	movw	LEAVE_DS(%rdi), %ds
	movw	LEAVE_ES(%rdi), %es
	movw	LEAVE_FS(%rdi), %fs
	movw	LEAVE_GS(%rdi), %gs

	movl	$MSR_FS_BASE, %ecx
	movl	LEAVE_FS_BASE(%rdi), %eax
	movl	LEAVE_FS_BASE+4(%rdi), %edx
	wrmsr
	movl	$MSR_GS_BASE, %ecx
	movl	LEAVE_GS_BASE(%rdi), %eax
	movl	LEAVE_GS_BASE+4(%rdi), %edx
	wrmsr

	/* hvcore's memory is not needed from here on. */
	leaq	4096(%rdi), %rsp
	pushq	%rdi
	subq	$8, %rsp
	movzwl	LEAVE_DEAD(%rdi), %esi
	movl	LEAVE_CPU(%rdi), %edi
	call	hvmod_gather_leave
	addq	$8, %rsp
	popq	%rdi

	/*
	 * With the kernel's CR3 user space cannot run: it is NX there. So go to
	 * where Linux knows how to return to user space: to its #PF handler, on
	 * the stack of the TSS and with a frame as if user space had found its
	 * next instruction not present. Linux finds that it is, and returns.
	 */
	ALTERNATIVE "jmp .Lreturn", "", X86_FEATURE_PTI
	testb	$3, LEAVE_CS(%rdi)
	jz	.Lreturn

	/* RAX = base of the TSS (SDM vol. 3, figure 8-4), RDX = its RSP0. */
	str	%ax
	movzwl	%ax, %ebx
	addq	LEAVE_GDTR+2(%rdi), %rbx
	movl	2(%rbx), %eax
	andl	$0xffffff, %eax
	movzbl	7(%rbx), %ecx
	shll	$24, %ecx
	orl	%ecx, %eax
	movl	8(%rbx), %ecx
	shlq	$32, %rcx
	orq	%rcx, %rax
	movq	TSS_RSP0(%rax), %rdx

	/* RAX = offset in the gate (figure 6-8). */
	movq	LEAVE_IDTR+2(%rdi), %rbx
	movzwl	PF_GATE(%rbx), %eax
	movl	PF_GATE+4(%rbx), %ecx
	andl	$0xffff0000, %ecx
	orl	%ecx, %eax
	movl	PF_GATE+8(%rbx), %ecx
	shlq	$32, %rcx
	orq	%rcx, %rax

	/* The frame that the processor would push. */
	movq	LEAVE_RIP(%rdi), %rcx
	movq	%rcx, %cr2
	movq	%rcx, -40(%rdx)
	movq	LEAVE_CS(%rdi), %rcx
	movq	%rcx, -32(%rdx)
	movq	LEAVE_RFLAGS(%rdi), %rcx
	movq	%rcx, -24(%rdx)
	movq	LEAVE_RSP(%rdi), %rcx
	movq	%rcx, -16(%rdx)
	movq	LEAVE_SS(%rdi), %rcx
	movq	%rcx, -8(%rdx)
	movq	$(X86_PF_USER | X86_PF_INSTR), -48(%rdx)
	subq	$48, %rdx

	movq	%rax, LEAVE_RIP(%rdi)
	movq	$__KERNEL_CS, LEAVE_CS(%rdi)
	movq	$X86_EFLAGS_FIXED, LEAVE_RFLAGS(%rdi)
	movq	%rdx, LEAVE_RSP(%rdi)
	movq	$__KERNEL_DS, LEAVE_SS(%rdi)

.Lreturn:
	leaq	LEAVE_RIP(%rdi), %rsp
	movq	LEAVE_RAX(%rdi), %rax
	movq	LEAVE_RCX(%rdi), %rcx
	movq	LEAVE_RDX(%rdi), %rdx
	movq	LEAVE_RBX(%rdi), %rbx
	movq	LEAVE_RBP(%rdi), %rbp
	movq	LEAVE_RSI(%rdi), %rsi
	movq	LEAVE_R8(%rdi), %r8
	movq	LEAVE_R8+8(%rdi), %r9
	movq	LEAVE_R8+16(%rdi), %r10
	movq	LEAVE_R8+24(%rdi), %r11
	movq	LEAVE_R8+32(%rdi), %r12
	movq	LEAVE_R8+40(%rdi), %r13
	movq	LEAVE_R8+48(%rdi), %r14
	movq	LEAVE_R8+56(%rdi), %r15
	movq	LEAVE_RDI(%rdi), %rdi
	iretq
SYM_CODE_END(hvmod_leave)

/* Fails to assemble if it is larger than a page; nobody else lives in it. */
	.org	hvmod_trampoline + 4096, 0xcc
