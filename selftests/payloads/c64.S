/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The start of payloads in C: from Multiboot's protected mode to 64-bit mode, with the first
 * 4 GiB mapped to themselves, a TSS, and every vector of the IDT leading to trap() in c64.h.
 */
#include "start.h"

	multiboot_start
	mov	%ebx, loader_info
	mov	$pdpt + 7, %eax
	mov	%eax, pml4
	mov	$pd + 7, %eax
	mov	$pdpt, %edi
	mov	$4, %ecx
1:	mov	%eax, (%edi)
	add	$4096, %eax
	add	$8, %edi
	loop	1b
	mov	$0x87, %eax
	mov	$pd, %edi
	mov	$2048, %ecx
1:	mov	%eax, (%edi)
	add	$0x200000, %eax
	add	$8, %edi
	loop	1b
	long_mode 0x900, 0x80010000
	lgdt	gdt_register
	ljmp	$8, $1f

	.code64
1:	mov	$16, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	xor	%eax, %eax
	mov	%eax, %fs
	mov	%eax, %gs
	/* The IDT: a stub of 16 bytes for each vector. */
	mov	$stubs, %eax
	mov	$idt, %edi
	mov	$256, %ecx
2:	mov	%ax, (%rdi)
	movw	$8, 2(%rdi)
	movw	$0x8e00, 4(%rdi)
	mov	%eax, %edx
	shr	$16, %edx
	mov	%edx, 6(%rdi)
	add	$16, %eax
	add	$16, %edi
	loop	2b
	lidt	idt_register
	mov	$tss, %eax
	mov	%ax, gdt_tss + 2
	shr	$16, %eax
	mov	%al, gdt_tss + 4
	mov	%ah, gdt_tss + 7
	mov	$0x30, %eax
	ltr	%ax
	call	main
	mov	%eax, %edi
	call	finish

	.balign	16
stubs:
	vector = 0
	.rept	256
	.balign	16
	.if	vector != 8 && (vector < 10 || vector > 14) && vector != 17 && vector != 21
	push	$0
	.endif
	push	$vector
	jmp	common
	vector = vector + 1
	.endr

common:
	push	%r15
	push	%r14
	push	%r13
	push	%r12
	push	%r11
	push	%r10
	push	%r9
	push	%r8
	push	%rdi
	push	%rsi
	push	%rbp
	push	%rbx
	push	%rdx
	push	%rcx
	push	%rax
	mov	%rsp, %rdi
	cld
	mov	%rsp, %rbp
	and	$-16, %rsp
	call	trap
	mov	%rbp, %rsp
	.globl	resume_frame
resume_frame:
	pop	%rax
	pop	%rcx
	pop	%rdx
	pop	%rbx
	pop	%rbp
	pop	%rsi
	pop	%rdi
	pop	%r8
	pop	%r9
	pop	%r10
	pop	%r11
	pop	%r12
	pop	%r13
	pop	%r14
	pop	%r15
	add	$16, %rsp
	.globl	trap_iret
trap_iret:
	iretq

	.data
	.balign	8
	.globl	gdt
gdt:	.quad	0, 0x00af9b000000ffff, 0x00cf93000000ffff
	/* 0x18 32-bit code; 0x20 data and 0x28 code of users; 0x30 the TSS; 0x40 16-bit code. */
	.quad	0x00cf9b000000ffff, 0x00cff3000000ffff, 0x00affb000000ffff
gdt_tss:
	.quad	0x0000890000000067, 0
	.quad	0x00009b000000ffff, 0x000093000000ffff
gdt_end:
	.globl	gdt_register
gdt_register:
	.word	gdt_end - gdt - 1
	.quad	gdt
idt_register:
	.word	256 * 16 - 1
	.quad	idt
	.globl	tss
tss:	.long	0
	.quad	interrupt_stack_top, 0, 0, 0
	.quad	fault_stack_top, 0, 0, 0, 0, 0, 0, 0
	.word	0, 0x68
	.globl	loader_magic, loader_info
loader_magic:
	.long	0
loader_info:
	.long	0

	.bss
	.balign	4096
	.globl	idt, pml4, pdpt, pd
idt:	.skip	4096
pml4:	.skip	4096
pdpt:	.skip	4096
pd:	.skip	4 * 4096
	.skip	16384
interrupt_stack_top:
	.skip	16384
fault_stack_top:
	.skip	16384
stack_top:
