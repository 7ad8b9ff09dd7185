/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What a child may not, from real mode and from virtual-8086 mode: there the exceptions have other
 * frames, and CPL is not where it is else. The same 16-bit code runs in both; each of its
 * instructions leaves the vector of its exception.
 */
#include "payload.h"

#define NOTHING		0xff
/* Where the 16-bit code lies, its segment, and its interrupt vectors in real mode. */
#define PLACE		0x8000
#define SEGMENT		0x800
#define VECTORS		0x9000

	.set	number, 0
	.macro	TRY16 instruction:vararg
	movw	$number, slot - blob
	movb	$NOTHING, results - blob + number
	movw	$9f - blob, resume - blob
	\instruction
9:
	.set	number, number + 1
	.endm

	/* Behind MOV SS. */
	.macro	SHADOWED instruction
	mov	%dx, %ss
	\instruction
	.endm

	/* In the order of the code below: what each gets in one mode and in the other. */
	.macro	EXPECT mode, which, vector, text
	cmpb	$\vector, PLACE + results - blob + \which
	CHECK	e, "\mode: \text"
	.endm

	.macro	RESULTS mode, vmcall, invd
	EXPECT	"\mode", 0, NOTHING, "CPUID works"
	EXPECT	"\mode", 1, 13, "RDMSR of VMX is #GP"
	EXPECT	"\mode", 2, 13, "WRMSR outside of all ranges is #GP"
	EXPECT	"\mode", 3, \vmcall, "VMCALL"
	EXPECT	"\mode", 4, 6, "VMXOFF is #UD"
	EXPECT	"\mode", 5, 6, "GETSEC is #UD"
	EXPECT	"\mode", 6, \invd, "INVD"
	EXPECT	"\mode", 7, \invd, "WBINVD"
	EXPECT	"\mode", 8, 6, "XSETBV without OSXSAVE is #UD"
	EXPECT	"\mode", 9, 13, "CR0 with NW and without CD is #GP"
	EXPECT	"\mode", 10, 6, "MONITOR is #UD"
	EXPECT	"\mode", 11, 13, "RDPMC is #GP"
	EXPECT	"\mode", 12, 6, "RSM is #UD"
	EXPECT	"\mode", 13, NOTHING, "CPUID behind MOV SS works"
	EXPECT	"\mode", 14, 13, "RDMSR behind MOV SS is #GP"
	.endm

main:
	mov	$blob, %esi
	mov	$PLACE, %edi
	mov	$blob_end - blob, %ecx
	rep movsb
	/* In real mode, every exception to its stub, and the end to its place. */
	xor	%eax, %eax
	mov	$SEGMENT << 16 | (stubs16 - blob), %edx
1:	mov	%edx, VECTORS(, %eax, 4)
	add	$8, %edx
	inc	%eax
	cmp	$32, %eax
	jb	1b
	movl	$SEGMENT << 16 | (leave16 - blob), VECTORS + 4 * 0x40
	mov	%esp, stack_here
	lgdt	segments_register
	ljmp	$0x18, $enter16 - blob

real_over:
	mov	$16, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	mov	stack_here, %esp
	lidt	idt_register
	RESULTS	"real mode", NOTHING, NOTHING
	cmpb	$2, PLACE + status - blob
	CHECK	e, "real mode: VMCALL is no way to the root's hypercalls"

	/* Virtual-8086 mode, whose exceptions come here, by the stack in the TSS. */
	mov	$stubs32, %edx
	call	set_exception_gates
	movl	$tss_stack, tss + 4
	movl	$16, tss + 8
	mov	$tss, %eax
	mov	%ax, tss_segment + 2
	shr	$16, %eax
	mov	%al, tss_segment + 4
	mov	%ah, tss_segment + 7
	mov	$0x28, %eax
	ltr	%ax
	mov	%esp, stack_here
	push	$SEGMENT
	push	$SEGMENT
	push	$SEGMENT
	push	$SEGMENT
	push	$SEGMENT
	push	$0xf000
	push	$0x20002
	push	$SEGMENT
	push	$tests - blob
	iret

virtual_over:
	mov	stack_here, %esp
	RESULTS	"VM86", 6, 13
	EXIT	0

	/* An exception of VM86: the vector is on the stack, and an error code or 0. */
from_virtual:
	mov	$16, %eax
	mov	%eax, %ds
	cmpl	$ends - blob, 8(%esp)
	je	virtual_over
	mov	(%esp), %al
	movzwl	PLACE + slot - blob, %ebx
	mov	%al, PLACE + results - blob(%ebx)
	movzwl	PLACE + resume - blob, %eax
	mov	%eax, 8(%esp)
	add	$8, %esp
	iret

	.balign	16
stubs32:
	.set	vector, 0
	.rept	32
	.balign	16
	.if vector == 8 || (vector >= 10 && vector <= 14) || vector == 17
	.else
	push	$0
	.endif
	push	$vector
	jmp	from_virtual
	.set	vector, vector + 1
	.endr

	/* 16-bit code, for its place at a segment's beginning. */
	.balign	16
blob:
	.code16
enter16:
	mov	$0x20, %ax
	mov	%ax, %ds
	mov	%ax, %es
	mov	%ax, %ss
	mov	%cr0, %eax
	and	$~1, %eax
	mov	%eax, %cr0
	ljmp	$SEGMENT, $1f - blob
1:	mov	$SEGMENT, %ax
	mov	%ax, %ds
	mov	%ax, %ss
	mov	$0xf000, %sp
	lidtl	vectors_register - blob
tests:
	xor	%eax, %eax
	TRY16	cpuid
	mov	$0x480, %ecx
	TRY16	rdmsr
	mov	$0x40000000, %ecx
	TRY16	wrmsr
	mov	$4, %eax
	TRY16	vmcall
	mov	%al, status - blob
	TRY16	vmxoff
	xor	%eax, %eax
	TRY16	.byte 0x0f, 0x37
	TRY16	invd
	TRY16	wbinvd
	xor	%ecx, %ecx
	TRY16	xsetbv
	mov	$0x20000011, %eax
	TRY16	mov %eax, %cr0
	TRY16	monitor
	TRY16	rdpmc
	TRY16	rsm
	mov	%ss, %dx
	xor	%eax, %eax
	TRY16	SHADOWED cpuid
	mov	%ss, %dx
	mov	$0x480, %ecx
	TRY16	SHADOWED rdmsr
	/* Not taken in VM86, where it is #GP. */
ends:	int	$0x40

leave16:
	mov	%cr0, %eax
	or	$1, %eax
	mov	%eax, %cr0
	ljmpl	$8, $real_over

came16:
	push	%ax
	push	%bx
	push	%bp
	mov	%sp, %bp
	mov	slot - blob, %bx
	mov	vector_now - blob, %al
	mov	%al, results - blob(%bx)
	mov	resume - blob, %ax
	mov	%ax, 6(%bp)
	pop	%bp
	pop	%bx
	pop	%ax
	iret

	.balign	8
stubs16:
	.set	vector, 0
	.rept	32
	.balign	8
	movb	$vector, vector_now - blob
	jmp	came16
	.set	vector, vector + 1
	.endr

	.balign	8
vectors_register:
	.word	0x40 * 4 + 3
	.long	VECTORS
slot:	.word	0
resume:	.word	0
vector_now:
	.byte	0
status:	.byte	0
results:
	.skip	32
blob_end:
	.code32

	.data
	.balign	8
	/* As payload.h's, with the segment of the 16-bit code, data of 64 KiB, and a TSS. */
segments:
	.quad	0, 0x00cf9b000000ffff, 0x00cf93000000ffff
	.quad	0x00009b008000ffff, 0x000093000000ffff
tss_segment:
	.quad	0x0000890000000067
segments_end:
segments_register:
	.word	segments_end - segments - 1
	.long	segments
stack_here:
	.long	0
	.bss
	.balign	16
tss:	.skip	104
	.balign	16
	.skip	4096
tss_stack:
