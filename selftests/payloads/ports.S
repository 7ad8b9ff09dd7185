/* SPDX-License-Identifier: GPL-2.0 */
/* A write to every port, and a read from many; those that end the run are left out. */
#include "payload.h"

main:
	xor	%edx, %edx
1:	mov	$enders, %edi
	mov	%dx, %ax
	mov	$(enders_end - enders) / 2, %ecx
	repne	scasw
	je	2f
	xor	%eax, %eax
	outb	%al, %dx
2:	inc	%dx
	jnz	1b
	SAY	"ok a write to every port"
	xor	%edx, %edx
3:	inb	%dx, %al
	inw	%dx, %ax
	inl	%dx, %eax
	inc	%dx
	cmp	$0x1000, %dx
	jb	3b
	SAY	"ok reads of many ports"
	mov	$0x7000, %edx
	inl	%dx, %eax
	cmp	$0xffffffff, %eax
	CHECK	e, "nothing reads as ones"
	EXIT	0

	.data
	/* The serial line would lose its settings. */
enders:	.word	EXIT_PORT, 0x3f8, 0x3f9, 0x3fa, 0x3fb, 0x3fc, 0x3fd, 0x3fe, 0x3ff
enders_end:
