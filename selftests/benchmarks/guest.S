/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The guest: goes from reset to long mode by itself, so that no hypervisor has
 * to prepare its registers, then does each operation SAMPLES times and writes
 * how far the TSC went over it. A fault ends the operation, not the guest.
 */
#include "guest.h"

	.section .text, "ax"
	.code16
	.globl start
start:
	cli
	xorw	%ax, %ax
	movw	%ax, %ds
	lgdtl	gdt_pointer
	movl	%cr0, %eax
	orb	$1, %al
	movl	%eax, %cr0
	ljmpl	$0x08, $start32

	.code32
start32:
	movw	$0x10, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss
	/* The first 4 GiB, in pages of 2 MiB. */
	movl	$GUEST_TABLES, %edi
	xorl	%eax, %eax
	movl	$(6 * 1024), %ecx
	rep stosl
	movl	$(GUEST_TABLES + 0x1003), GUEST_TABLES
	movl	$(GUEST_TABLES + 0x2003), GUEST_TABLES + 0x1000
	movl	$(GUEST_TABLES + 0x3003), GUEST_TABLES + 0x1008
	movl	$(GUEST_TABLES + 0x4003), GUEST_TABLES + 0x1010
	movl	$(GUEST_TABLES + 0x5003), GUEST_TABLES + 0x1018
	movl	$(GUEST_TABLES + 0x2000), %edi
	movl	$0x83, %eax
	movl	$2048, %ecx
1:	movl	%eax, (%edi)
	addl	$8, %edi
	addl	$0x200000, %eax
	loop	1b
	movl	%cr4, %eax
	orl	$0x20, %eax		/* PAE */
	movl	%eax, %cr4
	movl	$GUEST_TABLES, %eax
	movl	%eax, %cr3
	movl	$0xc0000080, %ecx	/* EFER.LME */
	rdmsr
	orl	$0x100, %eax
	wrmsr
	movl	%cr0, %eax
	orl	$0x80000000, %eax
	movl	%eax, %cr0
	ljmpl	$0x18, $start64

	.code64
start64:
	movl	$GUEST_STACK, %esp
	/* 32 gates to stubs of 16 bytes. */
	movl	$GUEST_IDT, %edi
	movl	$stubs, %eax
	movl	$32, %ecx
1:	movw	%ax, (%rdi)
	movl	$0x8e000018, 2(%rdi)
	movw	$0, 6(%rdi)
	movq	$0, 8(%rdi)
	addl	$16, %edi
	addl	$16, %eax
	loop	1b
	lidt	idt_pointer
	/* The local APIC's timer in TSC-deadline mode, as Linux uses it. */
	movl	$0xfee00000, %edi
	movl	$0x1ff, 0xf0(%rdi)
	movl	$0x40020, 0x320(%rdi)

	xorl	%ebp, %ebp
next:
	movl	$GUEST_STACK, %esp
	movl	$PORT_BEGIN, %edx
	movl	%ebp, %eax
	outl	%eax, %dx
	cmpl	$OP_COUNT, %ebp
	je	stop
	movl	%ebp, %r13d
	imull	$GUEST_STRIDE, %r13d
	addl	$GUEST_SAMPLES, %r13d
	movl	$SAMPLES, %r12d
	movl	operations(, %rbp, 8), %eax
	call	*%rax
	incl	%ebp
	jmp	next
stop:
	hlt
	jmp	stop

stubs:
	.set	vector, 0
	.rept	32
	.balign	16
	movl	$vector, %eax
	jmp	fault
	.set	vector, vector + 1
	.endr
fault:
	movl	$PORT_FAULT, %edx
	outl	%eax, %dx
	incl	%ebp
	jmp	next

	.macro	begin
	.balign	64
1:
	.endm

	.macro	measured
	lfence
	rdtsc
	movl	%eax, %r8d
	.endm

	.macro	end
	lfence
	rdtsc
	subl	%r8d, %eax
	movl	%eax, (%r13)
	addq	$4, %r13
	decl	%r12d
	jnz	1b
	ret
	.endm

op_empty:
	begin
	measured
	end

op_cpuid:
	begin
	xorl	%r9d, %r9d
	measured
	xorl	%eax, %eax
	cpuid
	end

op_vmcall:
	begin
	measured
	movl	$UNKNOWN_CALL, %eax
	vmcall
	end

	/* Far away, so that it never fires. */
op_wrmsr:
	begin
	rdtsc
	leal	0x1000000(%rdx), %r9d
	movl	$0x6e0, %ecx
	measured
	movl	%r9d, %edx
	wrmsr
	end

op_out:
	begin
	movl	$PORT_MEASURED, %edx
	movl	%edx, %r9d
	measured
	movl	%r9d, %edx
	outl	%eax, %dx
	end

op_in:
	begin
	movl	$PORT_MEASURED, %r9d
	measured
	movl	%r9d, %edx
	inl	%dx, %eax
	end

op_mmio:
	begin
	movl	$GUEST_MMIO, %edi
	measured
	movl	(%rdi), %eax
	end

	.balign	8
operations:
	.quad	op_empty, op_cpuid, op_vmcall, op_wrmsr, op_out, op_in, op_mmio

gdt:
	.quad	0
	.quad	0x00cf9b000000ffff	/* 0x08: code, 32 bits */
	.quad	0x00cf93000000ffff	/* 0x10: data */
	.quad	0x00af9b000000ffff	/* 0x18: code, 64 bits */
gdt_pointer:
	.word	. - gdt - 1
	.long	gdt
idt_pointer:
	.word	32 * 16 - 1
	.quad	GUEST_IDT
