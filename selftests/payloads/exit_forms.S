/* SPDX-License-Identifier: GPL-2.0 */
/* Ends the run as the command line says: its last two words are a width (b, w, l; s is OUTS) and a
 * value. */
#include "payload.h"

main:
	mov	16(%ebx), %esi
1:	lodsb
	test	%al, %al
	jz	2f
	cmp	$' ', %al
	jne	1b
	mov	%edi, %ebp
	mov	%esi, %edi
	jmp	1b
2:	/* EBP is at the width, EDI at the value. */
	xor	%eax, %eax
3:	movzbl	(%edi), %ecx
	sub	$'0', %ecx
	jb	4f
	lea	(%eax, %eax, 4), %eax
	lea	(%ecx, %eax, 2), %eax
	inc	%edi
	jmp	3b
4:	mov	$EXIT_PORT, %edx
	cmpb	$'b', (%ebp)
	je	5f
	cmpb	$'w', (%ebp)
	je	6f
	cmpb	$'s', (%ebp)
	je	7f
	outl	%eax, %dx
	jmp	9f
5:	outb	%al, %dx
	jmp	9f
6:	outw	%ax, %dx
	jmp	9f
7:	mov	%eax, value
	mov	$value, %esi
	outsl
9:	SAY	"not ok the exit port ends the run"
	cli
	hlt
	jmp	9b

	.data
value:	.long	0
