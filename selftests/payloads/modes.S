/* SPDX-License-Identifier: GPL-2.0 */
/* Real mode, 16-bit protected mode and segments with limits, with instructions that exit there. */
#include "payload.h"

#define TEST_PORT	0xe0

	/* Leaves a result for 32-bit code to tell. */
	.macro	NOTE condition, index
	set\condition results + \index - low
	.endm

main:
	mov	$low, %esi
	mov	$0x10000, %edi
	mov	$low_end - low, %ecx
	rep	movsb
	lgdt	modes_register
	/* Real mode's IDT, at 0. */
	mov	$0x1000, %eax
	movw	$real_protection - low, 13 * 4
	movw	%ax, 13 * 4 + 2
	movw	$real_undefined - low, 6 * 4
	movw	%ax, 6 * 4 + 2
	movw	$real_interrupt - low, 0x44 * 4
	movw	%ax, 0x44 * 4 + 2
	movw	$real_interrupt - low, 0x45 * 4
	movw	%ax, 0x45 * 4 + 2
	movl	$0x1ff, LAPIC + 0xf0
	ljmp	$0x18, $sixteen - low
back:
	mov	$16, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	mov	$stack_top, %esp
	lidt	idt_register
	mov	$0x10000 + results - low, %ebx
	.macro	TOLD index, text
	cmpb	$1, \index(%ebx)
	CHECK	e, "\text"
	.endm
	TOLD	0, "real mode: CPUID"
	TOLD	1, "OUT and IN"
	TOLD	2, "REP INSW to ES:DI"
	TOLD	3, "REP OUTSB with a segment prefix"
	TOLD	4, "RDMSR of an unknown number: #GP, without an error code"
	TOLD	5, "UD2"
	TOLD	6, "INT n"
	TOLD	7, "an interrupt of the local APIC"
	TOLD	8, "a device in memory, by 32-bit addresses"
	TOLD	9, "HLT until an interrupt"
	TOLD	10, "INSW over the end of a segment: #GP"
	TOLD	11, "16-bit protected mode: CPUID, IN and OUT"
	TOLD	12, "a CALL from 16-bit code to 32-bit code and back"

	/* A segment of 4 KiB at the device. */
	GATE	13, general
	GATE	12, general
	mov	$0x30, %eax
	mov	%eax, %es
	movl	$0x10, %es:0
	mov	%es:0, %eax
	cmp	$0x10, %al
	CHECK	e, "a device by a segment with a base"
	movl	$1f, resume
	movl	$0, faults
	mov	$0xffe, %edi
	mov	$TEST_PORT, %edx
	insl
1:	cmpl	$1, faults
	CHECK	e, "INSL over the end of a segment: #GP"
	movl	$1f, resume
	mov	$0x38, %eax
	mov	%eax, %es
	xor	%edi, %edi
	insb
1:	cmpl	$2, faults
	CHECK	e, "INSB to a segment that cannot be written: #GP"
	movl	$1f, resume
	xor	%eax, %eax
	mov	%eax, %es
	insb
1:	cmpl	$3, faults
	CHECK	e, "INSB to no segment: #GP"
	mov	$16, %eax
	mov	%eax, %es

	/* Paging with large pages and without PAE. */
	mov	$tables, %edi
	mov	$0x83, %eax
	mov	$1024, %ecx
1:	stosl
	add	$0x400000, %eax
	loop	1b
	/* The last of them leads to the first memory: CPUID at its end, and a jump back at 0. */
	movl	$0x83, tables + 4092
	movw	$0xa20f, 0x3ffffe
	movb	$0xea, 0
	movl	$over, 1
	movw	$8, 5
	mov	%cr4, %eax
	or	$0x10, %eax
	mov	%eax, %cr4
	mov	$tables, %eax
	mov	%eax, %cr3
	mov	%cr0, %eax
	or	$0x80000000, %eax
	mov	%eax, %cr0
	movl	$0x31, IOAPIC
	cmpl	$0x31, IOAPIC
	CHECK	e, "two levels of page tables: a device"
	movl	$1f, over_to
	ljmp	$8, $0xfffffffe
1:	SAY	"ok CPUID at the end of 4 GiB"
	/* Bit L of its segment, which means something in long mode only. */
	movl	$1f, over_to
	ljmp	$0x40, $0xfffffffe
1:	SAY	"ok the same in a segment with L set"
	mov	%cr0, %eax
	and	$0x7fffffff, %eax
	mov	%eax, %cr0
	/* And with PAE. */
	mov	$directories, %edi
	mov	$0x83, %eax
	mov	$2048, %ecx
1:	stosl
	movl	$0, (%edi)
	add	$4, %edi
	add	$0x200000, %eax
	loop	1b
	mov	$directories + 1, %eax
	mov	%eax, pointers
	add	$4096, %eax
	mov	%eax, pointers + 8
	add	$4096, %eax
	mov	%eax, pointers + 16
	add	$4096, %eax
	mov	%eax, pointers + 24
	mov	%cr4, %eax
	or	$0x20, %eax
	mov	%eax, %cr4
	mov	$pointers, %eax
	mov	%eax, %cr3
	mov	%cr0, %eax
	or	$0x80000000, %eax
	mov	%eax, %cr0
	movl	$0x32, IOAPIC
	cmpl	$0x32, IOAPIC
	CHECK	e, "three levels: a device"
	mov	$TEST_PORT, %edx
	mov	$buffer, %edi
	mov	$3, %ecx
	rep	insb
	cmp	$buffer + 3, %edi
	CHECK	e, "and REP INSB"

	/* Long mode has no 16-bit TSS. */
	mov	%cr0, %eax
	and	$0x7fffffff, %eax
	mov	%eax, %cr0
	mov	$0xc0000080, %ecx
	rdmsr
	or	$0x100, %eax
	wrmsr
	mov	$0x48, %eax
	ltr	%ax
	.irp	bits, 0x80000000, 0xc0000000
	movl	$1f, resume
	movl	$0, faults
	mov	%cr0, %eax
	or	$\bits, %eax
	mov	%eax, %cr0
1:	cmpl	$1, faults
	CHECK	e, "CR0 with \bits and a 16-bit TSS: #GP"
	.endr
	EXIT	0

over:	jmp	*over_to

general:
	incl	faults
	add	$4, %esp
	push	%eax
	mov	resume, %eax
	mov	%eax, 4(%esp)
	pop	%eax
	iret

	/* Runs at 0x10000, in segments that begin there. */
	.data
	.balign	16
low:
	.code16
sixteen:
	mov	$0x20, %ax
	mov	%ax, %ds
	mov	%ax, %es
	mov	%ax, %ss
	mov	$0xf000, %sp
	xor	%eax, %eax
	cpuid
	cmp	$0x756e6547, %ebx	/* "Genu" */
	jne	1f
	mov	$TEST_PORT, %dx
	mov	$0xa5, %al
	out	%al, %dx
	xor	%al, %al
	in	%dx, %al
	cmp	$0xa5, %al
	NOTE	e, 11
1:	movb	$0, results + 12 - low
	lcalll	$8, $far
	lidtl	real_idt - low
	mov	%cr0, %eax
	and	$0xfffffffe, %eax
	mov	%eax, %cr0
	ljmp	$0x1000, $real - low
real:	mov	$0x1000, %ax
	mov	%ax, %ds
	mov	%ax, %es
	mov	%ax, %ss
	mov	$0xf000, %sp
	xor	%eax, %eax
	cpuid
	cmp	$0x756e6547, %ebx
	NOTE	e, 0
	mov	$TEST_PORT, %dx
	mov	$0x12345678, %eax
	out	%eax, %dx
	xor	%eax, %eax
	in	%dx, %eax
	cmp	$0x12345678, %eax
	NOTE	e, 1
	mov	$space - low, %di
	mov	$3, %cx
	rep	insw
	cmpl	$0x56785678, space - low
	jne	1f
	cmpw	$0x5678, space - low + 4
	jne	1f
	cmp	$space - low + 6, %di
	NOTE	e, 2
1:	mov	$0x1010, %ax
	mov	%ax, %fs
	mov	$text - low - 0x100, %si
	mov	$3, %cx
	rep	outsb	%fs:(%si), %dx
	in	%dx, %al
	cmp	$'c', %al
	NOTE	e, 3
	movw	$1f - low, real_resume - low
	mov	%sp, %bp
	mov	$0x12345678, %ecx
	rdmsr
1:	cmpw	$6, depth - low
	jne	2f
	cmp	%sp, %bp
	NOTE	e, 4
2:	movw	$1f - low, real_resume - low
	ud2
1:	cmpb	$1, undefineds - low
	NOTE	e, 5
	int	$0x44
	cmpb	$1, interrupts - low
	NOTE	e, 6
	mov	$0xfee00300, %ebx
	/* Real mode's limits are those of before. */
	mov	$unreal, %eax
	mov	%cr0, %eax
	or	$1, %al
	mov	%eax, %cr0
	mov	$16, %cx
	mov	%cx, %gs
	and	$0xfe, %al
	mov	%eax, %cr0
	movl	$0x40045, %gs:(%ebx)
	sti
	nop
	cli
	cmpb	$2, interrupts - low
	NOTE	e, 7
	mov	$0xfec00000, %ebx
	movl	$0x21, %gs:(%ebx)
	cmpl	$0x21, %gs:(%ebx)
	NOTE	e, 8
	mov	$0xfee00000, %ebx
	movl	$0xb, %gs:0x3e0(%ebx)
	movl	$0x45, %gs:0x320(%ebx)
	movl	$100000, %gs:0x380(%ebx)
	sti
	hlt
	cli
	cmpb	$3, interrupts - low
	NOTE	e, 9
	movw	$1f - low, real_resume - low
	movb	$0, protections - low
	mov	$0xffff, %di
	mov	$TEST_PORT, %dx
	insw
1:	cmpb	$1, protections - low
	NOTE	e, 10
	mov	%cr0, %eax
	or	$1, %al
	mov	%eax, %cr0
	ljmpl	$8, $back

real_protection:
	incb	protections - low
	mov	%sp, %ax
	sub	%bp, %ax
	neg	%ax
	mov	%ax, depth - low
	jmp	1f
real_undefined:
	incb	undefineds - low
1:	add	$2, %sp
	push	real_resume - low
	iret
real_interrupt:
	incb	interrupts - low
	push	%ebx
	mov	$0xfee000b0, %ebx
	cmpb	$1, interrupts - low
	je	1f
	movl	$0, %gs:(%ebx)
1:	pop	%ebx
	iret

	.code32
far:	movb	$1, results + 12 - low
	lret
	.equ	unreal, 0
	.balign	4
real_idt:
	.word	0x3ff
	.long	0
real_resume: .word 0
depth:	.word	0
protections: .byte 0
undefineds: .byte 0
interrupts: .byte 0
text:	.ascii	"abc"
	.balign	16
space:	.skip	16
results: .skip	16
low_end:
	.balign	8
modes_gdt:
	.quad	0, 0x00cf9b000000ffff, 0x00cf93000000ffff
	/* 0x18 and 0x20: 16 bits, from 0x10000 on; 0x30 the device; 0x38 cannot be written. */
	.quad	0x00009b010000ffff, 0x000093010000ffff, 0
	.quad	0xfe4093c000000fff, 0x00cf91000000ffff
	/* 0x40 has L set; 0x48 is a 16-bit TSS. */
	.quad	0x00ef9b000000ffff, 0x000081000000002b
modes_end:
modes_register:
	.word	modes_end - modes_gdt - 1
	.long	modes_gdt
resume:	.long	0
faults:	.long	0
over_to: .long	0

	.bss
	.balign	4096
tables:	.skip	4096
directories: .skip 4 * 4096
pointers: .skip	32
buffer:	.skip	16
