/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Task switches, which processors leave to the hypervisor: by far CALL and JMP, by IRET, by task
 * gates for interrupts and exceptions, to virtual-8086 mode and back.
 */
#include "payload.h"

#define MAIN	0x20
#define OTHER	0x28
#define GATE_SELECTOR 0x30

main:
	lgdt	tasks_register
	mov	$16, %eax
	mov	%eax, %fs
	mov	%eax, %gs
	mov	$main_tss, %eax
	mov	%ax, tasks_gdt + MAIN + 2
	shr	$16, %eax
	mov	%al, tasks_gdt + MAIN + 4
	mov	$other_tss, %eax
	mov	%ax, tasks_gdt + OTHER + 2
	shr	$16, %eax
	mov	%al, tasks_gdt + OTHER + 4
	mov	$MAIN, %eax
	ltr	%ax
	movl	$0x1ff, LAPIC + 0xf0

	call	ready
	movl	$called, other_tss + 0x20
	clts
	mov	$0x1234, %ecx
	lcall	$OTHER, $0xf4f4f4f4
	cmp	$0x1234, %ecx
	CHECK	e, "a far CALL comes back with its registers"
	cmpl	$1, runs
	CHECK	e, "the other task ran"
	cmpw	$MAIN, other_tss
	CHECK	e, "linked to this one"
	mov	%cr0, %eax
	test	$8, %eax
	CHECK	nz, "CR0.TS is set"
	str	%ax
	cmp	$MAIN, %ax
	CHECK	e, "TR is as before"
	pushf
	testl	$0x4000, (%esp)
	CHECK	z, "NT is not set"
	add	$4, %esp
	testb	$2, tasks_gdt + OTHER + 5
	CHECK	z, "the other task is free"
	testb	$2, tasks_gdt + MAIN + 5
	CHECK	nz, "this one is busy"
	lcall	$OTHER, $0xf4f4f4f4
	cmpl	$3, runs
	CHECK	e, "called again it goes on after its IRET"
	lcall	$GATE_SELECTOR, $0xf4f4f4f4
	cmpl	$5, runs
	CHECK	e, "and by a task gate"

	call	ready
	movl	$jumped, other_tss + 0x20
	ljmp	$OTHER, $0xf4f4f4f4
	cmpl	$1, runs
	CHECK	e, "a far JMP, and one back"
	testb	$2, tasks_gdt + OTHER + 5
	CHECK	z, "leaves the other task free"

	/* By the IDT. */
	call	ready
	movl	$interrupted, other_tss + 0x20
	mov	$0x44, %eax
	call	task_gate
	int	$0x44
	cmpl	$1, runs
	CHECK	e, "INT n"
	mov	$2, %eax
	call	task_gate
	int	$2
	cmpl	$2, runs
	CHECK	e, "INT 2"
	movl	$0, LAPIC + 0x310
	movl	$0x4400, LAPIC + 0x300
	nop
	cmpl	$3, runs
	CHECK	e, "an NMI"
	movl	$0x4400, LAPIC + 0x300
	nop
	cmpl	$4, runs
	CHECK	e, "and another: IRET lets it in"
	mov	$3, %eax
	call	task_gate
	int3
	cmpl	$5, runs
	CHECK	e, "INT3"
	mov	$4, %eax
	call	task_gate
	mov	$127, %al
	add	$127, %al
	into
	cmpl	$6, runs
	CHECK	e, "INTO"
	movl	$0x40045, LAPIC + 0x300
	mov	$0x45, %eax
	call	task_gate
	sti
	nop
	cli
	cmpl	$7, runs
	CHECK	e, "an interrupt"
	movl	$0, LAPIC + 0xb0
	movl	$divided, other_tss + 0x20
	xor	%eax, %eax
	call	task_gate
	mov	$1500, %eax
	xor	%edx, %edx
	divl	divider
	cmp	$150, %eax
	CHECK	e, "#DE, and the instruction again"
	testl	$0x10000, main_tss + 0x24
	CHECK	nz, "with RF in the flags that were saved"

	call	ready
	movl	$protection, other_tss + 0x20
	mov	$13, %eax
	call	task_gate
	mov	$0x1234, %eax
after:	mov	%eax, %es
	cmpl	$0x1234, error
	CHECK	e, "#GP, with its error code on the other task's stack"
	cmpl	$after, fault_ip
	CHECK	e, "and the instruction in the TSS"
	mov	%es, %eax
	cmp	$16, %ax
	CHECK	e, "ES is as it was"

	call	ready
	GATE	13, general
	/* What cannot be switched to faults here. */
	movl	$3f, resume
	lcall	$MAIN, $0
3:	cmpl	$MAIN, error
	CHECK	e, "a task that is busy: #GP"
	GATE	11, general
	andb	$0x7f, tasks_gdt + OTHER + 5
	movl	$4f, resume
	lcall	$OTHER, $0
4:	cmpl	$OTHER, error
	CHECK	e, "one that is absent: #NP"
	orb	$0x80, tasks_gdt + OTHER + 5

	/* Virtual-8086 mode, by the IRET of a nested task; #UD comes back by a task gate. */
	movw	$0x0b0f, 0x42000
	movl	$0x20002, other_tss + 0x24
	movl	$0, other_tss + 0x20
	movl	$0x4200, other_tss + 0x4c
	movl	$0x1234, other_tss + 0x48
	movl	$0x2345, other_tss + 0x54
	movl	$0x3000, other_tss + 0x50
	orb	$2, tasks_gdt + OTHER + 5
	movw	$OTHER, main_tss
	mov	$6, %eax
	mov	$MAIN, %edx
	call	task_gate_to
	pushf
	orw	$0x4000, (%esp)
	popf
	iret
	cmpl	$0, other_tss + 0x20
	CHECK	e, "#UD in virtual-8086 mode"
	cmpw	$0x4200, other_tss + 0x4c
	CHECK	e, "its segments are saved"
	testl	$0x20000, other_tss + 0x24
	CHECK	nz, "and VM in its flags"
	EXIT	0

/* The other task as at its beginning. */
ready:
	cld
	mov	$other_tss, %edi
	xor	%eax, %eax
	mov	$26, %ecx
	rep	stosl
	movl	$other_stack, other_tss + 0x38
	movl	$2, other_tss + 0x24
	movl	$8, other_tss + 0x4c
	movl	$16, other_tss + 0x48
	movl	$16, other_tss + 0x50
	movl	$16, other_tss + 0x54
	movw	$0x68, other_tss + 0x66
	andb	$0xfd, tasks_gdt + OTHER + 5
	movl	$0, runs
	ret

/* Gate EAX of the IDT is a task gate to the other task, or to that of EDX. */
task_gate:
	mov	$OTHER, %edx
task_gate_to:
	movl	$0, idt(, %eax, 8)
	mov	%dx, idt + 2(, %eax, 8)
	movl	$0x8500, idt + 4(, %eax, 8)
	ret

called:
	incl	runs
	iret
	incl	runs
	jmp	called

jumped:
	incl	runs
	ljmp	$MAIN, $0xf4f4f4f4
	jmp	jumped

interrupted:
	incl	runs
	iret
	jmp	interrupted

divided:
	movl	$10, divider
	iret
	jmp	divided

protection:
	pop	error
	mov	main_tss + 0x20, %eax
	mov	%eax, fault_ip
	addl	$2, main_tss + 0x20
	iret
	jmp	protection

general:
	pop	error
	mov	resume, %eax
	mov	%eax, (%esp)
	iret

	.data
	.balign	8
tasks_gdt:
	.quad	0, 0x00cf9b000000ffff, 0x00cf93000000ffff, 0
	.quad	0x0000890000000067, 0x0000890000000067
	.quad	0x0000850000280000
tasks_end:
tasks_register:
	.word	tasks_end - tasks_gdt - 1
	.long	tasks_gdt
runs:	.long	0
error:	.long	0
resume:	.long	0
fault_ip: .long	0
divider: .long	0

	.bss
	.balign	128
main_tss: .skip	128
other_tss: .skip 128
	.skip	4096
other_stack:
