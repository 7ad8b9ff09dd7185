/* SPDX-License-Identifier: GPL-2.0 */
/* The serial line's interrupt: IRQ 4, through the IOAPIC. */
#include "payload.h"

main:
	GATE	0x24, interrupt
	movl	$0x1ff, LAPIC + 0xf0
	movl	$1, IOAPIC
	mov	IOAPIC + 0x10, %eax
	shr	$16, %eax
	cmp	$23, %al
	CHECK	e, "the IOAPIC has 24 pins"
	movl	$0x10 + 9, IOAPIC	/* pin 4: to APIC 0 */
	movl	$0, IOAPIC + 0x10
	movl	$0x10 + 8, IOAPIC
	movl	$0x24, IOAPIC + 0x10
	mov	IOAPIC + 0x10, %eax
	and	$0x1efff, %eax
	cmp	$0x24, %eax
	CHECK	e, "a redirection entry holds what was written"
	sti
	/* OUT2 on, and an interrupt when there is room. */
	mov	$COM1 + 4, %edx
	mov	$0xb, %al
	outb	%al, %dx
	mov	$COM1 + 1, %edx
	mov	$2, %al
	outb	%al, %dx
	mov	$10000000, %ecx
1:	cmpl	$0, count
	jne	2f
	loop	1b
2:	cli
	mov	$COM1 + 1, %edx
	xor	%al, %al
	outb	%al, %dx
	cmpl	$0, count
	CHECK	ne, "an interrupt came when the line had room"
	cmpb	$2, cause
	CHECK	e, "and the line says why"
	/* Masked at the IOAPIC, it does not come. */
	movl	$0x10 + 8, IOAPIC
	movl	$0x10024, IOAPIC + 0x10
	movl	$0, count
	mov	$COM1 + 1, %edx
	mov	$2, %al
	outb	%al, %dx
	sti
	mov	$300000, %ecx
3:	loop	3b
	cli
	mov	$COM1 + 1, %edx
	xor	%al, %al
	outb	%al, %dx
	cmpl	$0, count
	CHECK	e, "masked it does not come"
	EXIT	0

interrupt:
	push	%eax
	push	%edx
	mov	$COM1 + 2, %edx
	inb	%dx, %al
	and	$0xf, %al
	cmpl	$0, count
	jne	1f
	mov	%al, cause
1:	incl	count
	/* Enough: off at the source. */
	mov	$COM1 + 1, %edx
	xor	%al, %al
	outb	%al, %dx
	movl	$0, LAPIC + 0xb0
	pop	%edx
	pop	%eax
	iret

	.data
count:	.long	0
cause:	.byte	0
