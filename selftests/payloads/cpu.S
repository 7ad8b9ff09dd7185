/* SPDX-License-Identifier: GPL-2.0 */
/* CPUID, MSRs and the exceptions that wrong ones raise. */
#include "payload.h"

main:
	GATE	13, protection
	GATE	6, undefined
	xor	%eax, %eax
	cpuid
	mov	%ebx, vendor
	mov	%edx, vendor + 4
	mov	%ecx, vendor + 8
	cmp	$7, %eax
	CHECK	ae, "CPUID has leaf 7"
	SAY	"the vendor is:"
	mov	$vendor, %esi
	call	puts
	mov	$1, %eax
	cpuid
	test	$0x20, %ecx
	CHECK	z, "CPUID offers no VMX"
	test	$0x200, %edx
	CHECK	nz, "CPUID offers an APIC"
	mov	$0x1b, %ecx
	rdmsr
	and	$0xfffff900, %eax
	cmp	$0xfee00900, %eax
	CHECK	e, "IA32_APIC_BASE: on, bootstrap processor, usual place"
	mov	$0x277, %ecx
	mov	$0x07040600, %eax
	mov	$0x00070406, %edx
	wrmsr
	rdmsr
	cmp	$0x07040600, %eax
	CHECK	e, "IA32_PAT holds what was written"
	movl	$1f, resume
	mov	$0x12345678, %ecx
	rdmsr
1:	cmpl	$1, faults
	CHECK	e, "RDMSR of an unknown number: #GP"
	movl	$1f, resume
	wrmsr
1:	cmpl	$2, faults
	CHECK	e, "WRMSR of an unknown number: #GP"
	movl	$1f, resume
	mov	%cr4, %eax
	or	$0x80000000, %eax
	mov	%eax, %cr4
1:	cmpl	$3, faults
	CHECK	e, "a reserved bit of CR4: #GP"
	movl	$1f, resume
	ud2
1:	cmpl	$1, undefineds
	CHECK	e, "UD2: #UD"
	movl	$1f, resume
	vmxoff
1:	cmpl	$2, undefineds
	CHECK	e, "VMXOFF: #UD"
	EXIT	0

protection:
	incl	faults
	add	$4, %esp
	push	%eax
	mov	resume, %eax
	mov	%eax, 4(%esp)
	pop	%eax
	iret
undefined:
	incl	undefineds
	push	%eax
	mov	resume, %eax
	mov	%eax, 4(%esp)
	pop	%eax
	iret

	.data
faults:	.long	0
undefineds:	.long	0
resume:	.long	0
vendor:	.skip	12
	.asciz	"\n"
