/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Exceptions while the timer has the partition left at any instruction, also at the first one of
 * a handler: what was delivered is delivered once.
 */
#include "payload.h"

#define COUNT	100000

main:
	GATE	6, undefined
	GATE	0x41, tick
	mov	$LAPIC, %ebp
	movl	$0x1ff, 0xf0(%ebp)
	movl	$0xb, 0x3e0(%ebp)
	movl	$0x20041, 0x320(%ebp)
	movl	$5003, 0x380(%ebp)
	mov	%esp, %ebx
	mov	$COUNT, %ecx
	sti
1:	ud2
	loop	1b
	cli
	movl	$0x10041, 0x320(%ebp)
	cmp	%ebx, %esp
	CHECK	e, "the stack is where it was"
	cmpl	$COUNT, undefineds
	CHECK	e, "each UD2 raised #UD once"
	cmpl	$50, ticks
	CHECK	a, "and the timer came meanwhile"
	EXIT	0

undefined:
	incl	undefineds
	addl	$2, (%esp)
	iret
tick:
	incl	ticks
	movl	$0, LAPIC + 0xb0
	iret

	.data
undefineds:	.long	0
ticks:	.long	0
