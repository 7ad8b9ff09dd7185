/* SPDX-License-Identifier: GPL-2.0 */
/* What a child may not, one by one, each with the exception that it must get. */
#include "payload.h"

#define NOTHING	0xff

	/* TRY vector, text, instruction: with EAX, ECX, EDX as they are. */
	.macro	TRY vector, text, instruction:vararg
	movl	$NOTHING, got
	movl	$9f, resume
	mov	%esp, stack_here
	\instruction
9:	mov	stack_here, %esp
	cmpl	$\vector, got
	CHECK	e, "\text"
	.endm

	.macro	RDMSR_GP msr
	mov	$\msr, %ecx
	TRY	13, "MSR: RDMSR of \msr is #GP", rdmsr
	.endm

	.macro	WRMSR_GP msr, high, low
	mov	$\msr, %ecx
	mov	$\high, %edx
	mov	$\low, %eax
	TRY	13, "MSR: WRMSR of \msr with \high:\low is #GP", wrmsr
	.endm

main:
	mov	$stubs, %edx
	call	set_exception_gates

	/* Of VMX, of ranges' ends, and outside of every range. */
	RDMSR_GP 0x480
	RDMSR_GP 0x48b
	RDMSR_GP 0x491
	RDMSR_GP 0x9e
	RDMSR_GP 0x1fff
	RDMSR_GP 0x2000
	RDMSR_GP 0x40000000
	RDMSR_GP 0xbfffffff
	RDMSR_GP 0xc0001fff
	RDMSR_GP 0xc0002000
	RDMSR_GP 0xffffffff
	RDMSR_GP 0x49
	WRMSR_GP 0x3a, 0, 5
	WRMSR_GP 0x480, 0, 0
	WRMSR_GP 0x40000000, 0, 1
	WRMSR_GP 0xffffffff, 0xffffffff, 0xffffffff
	WRMSR_GP 0xc0000080, 0xffffffff, 0xffffffff
	WRMSR_GP 0x1b, 0xffffffff, 0xfee00900
	WRMSR_GP 0x277, 0, 2
	WRMSR_GP 0x1d9, 0, 0x40
	WRMSR_GP 0xda0, 0, 0x100
	mov	$0x3a, %ecx
	TRY	NOTHING, "MSR: IA32_FEATURE_CONTROL can be read", rdmsr
	cmp	$1, %eax
	CHECK	e, "MSR: and says that VMX is locked off"

	TRY	6, "VMX: VMXON is #UD", vmxon scratch
	TRY	6, "VMX: VMXOFF is #UD", vmxoff
	TRY	6, "VMX: VMLAUNCH is #UD", vmlaunch
	TRY	6, "VMX: VMRESUME is #UD", vmresume
	TRY	6, "VMX: VMPTRLD is #UD", vmptrld scratch
	TRY	6, "VMX: VMPTRST is #UD", vmptrst scratch
	TRY	6, "VMX: VMCLEAR is #UD", vmclear scratch
	TRY	6, "VMX: VMREAD is #UD", vmread %eax, %ecx
	TRY	6, "VMX: VMWRITE is #UD", vmwrite %eax, %ecx
	TRY	6, "VMX: INVEPT is #UD", invept scratch, %eax
	TRY	6, "VMX: INVVPID is #UD", invvpid scratch, %eax
	xor	%eax, %eax
	xor	%ecx, %ecx
	TRY	6, "VMX: VMFUNC is #UD", .byte 0x0f, 0x01, 0xd4
	TRY	6, "SMX: GETSEC is #UD", .byte 0x0f, 0x37
	TRY	6, "SGX: ENCLS is #UD", .byte 0x0f, 0x01, 0xcf
	TRY	6, "SMM: RSM is #UD", rsm
	TRY	6, "MONITOR is #UD", monitor
	TRY	6, "MWAIT is #UD", mwait
	xor	%ecx, %ecx
	TRY	13, "RDPMC is #GP", rdpmc
	mov	$4, %eax
	TRY	NOTHING, "VMCALL is no way to the root's hypercalls", vmcall
	cmp	$2, %eax
	CHECK	e, "VMCALL: every number is unknown"
	TRY	NOTHING, "INVD throws nothing away", invd
	TRY	NOTHING, "WBINVD", wbinvd

	mov	%cr4, %eax
	or	$1 << 13, %eax
	TRY	13, "CR4: VMXE is #GP", mov %eax, %cr4
	mov	$0xffffffff, %eax
	TRY	13, "CR4: all bits are #GP", mov %eax, %cr4
	mov	$0x80000000, %eax
	TRY	13, "CR0: paging without protection is #GP", mov %eax, %cr0
	mov	$0x20000011, %eax
	TRY	13, "CR0: NW without CD is #GP", mov %eax, %cr0
	mov	%cr4, %eax
	or	$1 << 18, %eax
	mov	%eax, %cr4
	xor	%ecx, %ecx
	xor	%eax, %eax
	xor	%edx, %edx
	TRY	13, "XCR0: without x87 is #GP", xsetbv
	mov	$0xffffffff, %eax
	mov	$0xffffffff, %edx
	TRY	13, "XCR0: all bits are #GP", xsetbv
	mov	$5, %eax
	xor	%edx, %edx
	TRY	13, "XCR0: AVX without SSE is #GP", xsetbv
	mov	$1, %ecx
	mov	$1, %eax
	TRY	13, "XCR1 is #GP", xsetbv

	mov	$1, %eax
	cpuid
	test	$1 << 5, %ecx
	CHECK	z, "CPUID: no VMX"
	mov	$0x48564d00, %eax
	cpuid
	cmp	$0x6f6d7668, %ebx
	CHECK	ne, "CPUID: no root partition"

	/* The local APIC, in ways that it does not like. */
	mov	$0xffffffff, %eax
	TRY	NOTHING, "APIC: a write to a register that is not there", mov %eax, LAPIC + 0x40
	TRY	NOTHING, "APIC: a write to one that is read only", mov %eax, LAPIC + 0x30
	TRY	NOTHING, "APIC: a byte", mov %al, LAPIC + 0x81
	TRY	NOTHING, "APIC: over its end", mov %eax, LAPIC + 0xffe
	TRY	NOTHING, "APIC: an IPI to everybody else, of a mode that is not there", movl $0xc0300, LAPIC + 0x300

	/* Where nothing is. */
	TRY	NOTHING, "memory: a read of nothing", mov 0xd0000000, %eax
	cmp	$0xffffffff, %eax
	CHECK	e, "memory: nothing is ones"
	TRY	NOTHING, "memory: a write to nothing", mov %eax, 0xd0000000
	TRY	NOTHING, "memory: a read over the end of 4 GiB", mov 0xfffffffc, %eax

	/* An instruction over the end of a page, made just before. */
	movl	$0xc3a20f90, pages + 4094
	xor	%eax, %eax
	movl	$NOTHING, got
	mov	$pages + 4094, %edx
	call	*%edx
	cmp	$0x756e6547, %ebx
	CHECK	e, "code: CPUID over the end of a page, made just before"
	movl	$0xc3300f90, pages + 4094
	mov	$pages + 4094, %ebx
	mov	$0x480, %ecx
	TRY	13, "code: and WRMSR in its place is #GP", call *%ebx
	EXIT	0

	.balign	16
stubs:
	.set	vector, 0
	.rept	32
	.balign	16
	movl	$vector, got
	jmp	*resume
	.set	vector, vector + 1
	.endr

	.data
	.balign	4
got:	.long	NOTHING
resume:	.long	0
stack_here:
	.long	0
	.bss
	.balign	4096
pages:	.skip	8192
scratch:
	.skip	4096
