/* SPDX-License-Identifier: GPL-2.0 */
/* A jump to another task, which exits whatever a hypervisor wants: it ends the partition. */
#include "payload.h"

main:
	SAY	"jumping to a task"
	mov	$tss, %eax
	mov	%ax, descriptor + 2
	shr	$16, %eax
	mov	%al, descriptor + 4
	mov	%ah, descriptor + 7
	lgdt	table
	mov	$40, %ax
	ltr	%ax
	ljmp	$32, $0
	SAY	"not ok the jump ends the partition"
	EXIT	0

	.data
	.balign	8
own:	.quad	0, 0x00cf9b000000ffff, 0x00cf93000000ffff, 0
descriptor:
	.quad	0x0000890000000067
	.quad	0x0000890000000067
table:	.word	table - own - 1
	.long	own
	.bss
	.balign	128
tss:	.skip	128
