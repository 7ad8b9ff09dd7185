/* SPDX-License-Identifier: GPL-2.0 */
/* The local APIC's timer: one shot, periodic, masked. */
#include "payload.h"

main:
	GATE	0x41, tick
	mov	$LAPIC, %ebp
	movl	$0x1ff, 0xf0(%ebp)
	mov	0x30(%ebp), %eax
	and	$0xf0, %eax
	cmp	$0x10, %eax
	CHECK	e, "the APIC has a version of an integrated one"
	movl	$0xb, 0x3e0(%ebp)
	movl	$0x41, 0x320(%ebp)
	rdtsc
	mov	%eax, %ebx
	movl	$200000, 0x380(%ebp)
	sti
	hlt
	cli
	cmpl	$1, ticks
	CHECK	e, "one shot comes once"
	rdtsc
	sub	%ebx, %eax
	cmp	$10000, %eax
	CHECK	a, "and not at once"
	cmpl	$0, 0x390(%ebp)
	CHECK	e, "the count has run down"
	movl	$0x20041, 0x320(%ebp)
	movl	$100000, 0x380(%ebp)
1:	sti
	hlt
	cli
	cmpl	$10, ticks
	jb	1b
	SAY	"ok the periodic timer comes again and again"
	movl	$0x10041, 0x320(%ebp)
	mov	ticks, %ebx
	sti
	mov	$1000000, %ecx
2:	loop	2b
	cli
	mov	ticks, %eax
	sub	%ebx, %eax
	cmp	$2, %eax
	CHECK	b, "a masked timer is silent"
	EXIT	0

tick:
	incl	ticks
	movl	$0, LAPIC + 0xb0
	iret

	.data
ticks:	.long	0
