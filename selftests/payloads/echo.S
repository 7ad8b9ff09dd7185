/* SPDX-License-Identifier: GPL-2.0 */
/* Polled input: each byte comes back as its upper case, until a full stop. */
#include "payload.h"

main:
	SAY	"type:"
1:	mov	$COM1 + 5, %edx
	inb	%dx, %al
	test	$1, %al
	jz	1b
	mov	$COM1, %edx
	inb	%dx, %al
	cmp	$'.', %al
	je	2f
	cmp	$'a', %al
	jb	3f
	sub	$32, %al
3:	outb	%al, %dx
	jmp	1b
2:	SAY	""
	SAY	"ok a full stop came"
	EXIT	0
