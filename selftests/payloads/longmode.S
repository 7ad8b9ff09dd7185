/* SPDX-License-Identifier: GPL-2.0 */
/* From protected mode to long mode, by the book, and a computation there. */
#include "payload.h"

#define RESULT_LOW	0xa55fcac1
#define RESULT_HIGH	0x3404034e

main:
	mov	$pdpt + 7, %eax
	mov	%eax, pml4
	mov	$pd + 7, %eax
	mov	%eax, pdpt
	mov	$pd, %edi
	mov	$0x83, %eax
	mov	$512, %ecx
1:	mov	%eax, (%edi)
	movl	$0, 4(%edi)
	add	$0x200000, %eax
	add	$8, %edi
	loop	1b
	long_mode 0x100, 0x80000001
	ljmp	$24, $long_mode

	.code64
long_mode:
	/* 2^64 / golden ratio, a thousand times, as 64-bit arithmetic has it. */
	movabs	$0x9e3779b97f4a7c15, %rbx
	xor	%eax, %eax
	mov	$1000, %ecx
1:	add	%rbx, %rax
	rol	$7, %rax
	loop	1b
	mov	%rax, result(%rip)
	mov	$0xc0000080, %ecx
	rdmsr
	mov	%eax, efer(%rip)
	ljmp	*back(%rip)
	.code32
back_again:
	mov	%cr0, %eax
	and	$0x7fffffff, %eax
	mov	%eax, %cr0
	mov	$16, %eax
	mov	%eax, %ds
	mov	%eax, %ss
	testl	$0x400, efer
	CHECK	nz, "EFER.LMA is set in long mode"
	cmpl	$RESULT_LOW, result
	CHECK	e, "the lower half of the result"
	cmpl	$RESULT_HIGH, result + 4
	CHECK	e, "the upper half of the result"
	SAY	"ok back in protected mode"
	EXIT	0

	.data
result:	.quad	0
efer:	.long	0
back:	.long	back_again
	.word	8
	.bss
	.balign	4096
pml4:	.skip	4096
pdpt:	.skip	4096
pd:	.skip	4096
