/* SPDX-License-Identifier: GPL-2.0 */
/* The exit port, with the digit that ends the command line. */
#include "payload.h"

main:
	mov	16(%ebx), %esi
	xor	%eax, %eax
1:	mov	%al, %cl
	lodsb
	test	%al, %al
	jnz	1b
	movzbl	%cl, %eax
	sub	$'0', %eax
	mov	$EXIT_PORT, %edx
	outl	%eax, %dx
	SAY	"not ok the exit port ends the run"
1:	hlt
	jmp	1b
