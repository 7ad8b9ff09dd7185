/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What all payloads share: the Multiboot header, the start, the serial line, the end.
 * A payload defines `main`, which is entered in flat protected mode with EBX as the
 * loader left it, and ends by EXIT. Its lines are for payloads.sh: "ok TEXT" and
 * "not ok TEXT" are results.
 */

#include "start.h"

#define COM1		0x3f8
#define EXIT_PORT	0xf4
#define LAPIC		0xfee00000
#define IOAPIC		0xfec00000

	multiboot_start
	lgdt	gdt_register
	ljmp	$8, $1f
1:	mov	$16, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	lidt	idt_register
	jmp	main

/* Prints the string at ESI; keeps all but ESI. */
puts:
	push	%eax
	push	%edx
1:	lodsb
	test	%al, %al
	jz	3f
	mov	%eax, %edx
	push	%edx
	mov	$COM1 + 5, %edx
2:	inb	%dx, %al
	test	$0x20, %al
	jz	2b
	pop	%eax
	mov	$COM1, %edx
	outb	%al, %dx
	jmp	1b
3:	pop	%edx
	pop	%eax
	ret

/* Gate EAX of the IDT leads to EDX. */
set_gate:
	push	%ecx
	lea	idt(, %eax, 8), %ecx
	mov	%dx, (%ecx)
	movw	$8, 2(%ecx)
	movw	$0x8e00, 4(%ecx)
	shr	$16, %edx
	mov	%dx, 6(%ecx)
	pop	%ecx
	ret

/* Gates 0 to 31 of the IDT, of the exceptions, lead to the stubs at EDX, of 16 bytes each. */
set_exception_gates:
	xor	%eax, %eax
1:	push	%edx
	call	set_gate
	pop	%edx
	add	$16, %edx
	inc	%eax
	cmp	$32, %eax
	jb	1b
	ret

	.macro	SAY text
	.pushsection .rodata
9:	.asciz	"\text\n"
	.popsection
	push	%esi
	mov	$9b, %esi
	call	puts
	pop	%esi
	.endm

/* A result by the flags of the last comparison: CHECK e, "it is the same" */
	.macro	CHECK condition, text
	j\condition 7f
	SAY	"not ok \text"
	incl	failures
	jmp	8f
7:	SAY	"ok \text"
8:
	.endm

	.macro	GATE vector, handler
	mov	$\vector, %eax
	mov	$\handler, %edx
	call	set_gate
	.endm

/* Ends the run with `value`, or with 1 if a check failed. */
	.macro	EXIT value
	mov	$\value, %eax
	cmpl	$0, failures
	je	7f
	mov	$1, %eax
7:	mov	$EXIT_PORT, %edx
	outl	%eax, %dx
	SAY	"not ok the exit port ends the run"
8:	cli
	hlt
	jmp	8b
	.endm

	.data
	.balign	8
gdt:	.quad	0, 0x00cf9b000000ffff, 0x00cf93000000ffff, 0x00af9b000000ffff
gdt_end:
gdt_register:
	.word	gdt_end - gdt - 1
	.long	gdt
idt_register:
	.word	256 * 8 - 1
	.long	idt
loader_magic:
	.long	0
failures:
	.long	0

	.bss
	.balign	4096
idt:	.skip	256 * 8
	.balign	16
	.skip	8192
stack_top:

	.text
