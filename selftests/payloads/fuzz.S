/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A guest that tries to get out: random privileged instructions with random operands,
 * as many as count= says, from seed= on. What each does to itself is its own affair;
 * it goes on after every exception. The last word is how many there were.
 */
#include "payload.h"

main:
	mov	16(%ebx), %ebx
	mov	$seed_is, %edi
	call	option
	imul	$0x9e3779b1, %eax
	or	$1, %eax
	mov	%eax, random
	mov	$count_is, %edi
	call	option
	test	%eax, %eax
	jnz	1f
	mov	$1000, %eax
1:	mov	%eax, left
	xor	%eax, %eax
2:	mov	$caught, %edx
	call	set_gate
	inc	%eax
	cmp	$256, %eax
	jb	2b
	SAY	"fuzzing"
	mov	%esp, stack_here
	/* The next one. Whatever the last one left is put right first. */
again:	mov	stack_here, %esp
	cld
	lgdt	gdt_register
	lidt	idt_register
	mov	$16, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	xor	%eax, %eax
	mov	%eax, %dr7
	mov	$0x11, %eax
	mov	%eax, %cr0
	decl	left
	js	over
	call	next
	mov	%eax, %ebx
	call	next
	mov	%eax, %esi
	call	next
	mov	%eax, %edi
	call	next
	mov	%eax, %ebp
	call	next
	xor	%edx, %edx
	mov	$(table_end - table) / 4, %ecx
	div	%ecx
	call	*table(, %edx, 4)
	jmp	again
caught:	incl	exceptions
	jmp	again

over:	cmpl	$0, exceptions
	CHECK	ne, "some were refused"
	SAY	"ok all were tried"
	EXIT	0

/* A random number in EAX; keeps all others. */
next:	push	%edx
	mov	random, %eax
	mov	%eax, %edx
	shl	$13, %edx
	xor	%edx, %eax
	mov	%eax, %edx
	shr	$17, %edx
	xor	%edx, %eax
	mov	%eax, %edx
	shl	$5, %edx
	xor	%edx, %eax
	mov	%eax, random
	pop	%edx
	ret

/* EAX = the number behind the text at EDI in the command line at EBX, 0 if none. */
option:	mov	%ebx, %esi
1:	push	%esi
	push	%edi
2:	mov	(%edi), %al
	test	%al, %al
	jz	3f
	cmp	%al, (%esi)
	jne	4f
	inc	%esi
	inc	%edi
	jmp	2b
3:	add	$4, %esp
	pop	%edi
	xor	%eax, %eax
5:	movzbl	(%esi), %ecx
	inc	%esi
	sub	$'0', %ecx
	cmp	$9, %ecx
	ja	6f
	imul	$10, %eax
	add	%ecx, %eax
	jmp	5b
4:	pop	%edi
	pop	%esi
	inc	%esi
	cmpb	$0, -1(%esi)
	jne	1b
	xor	%eax, %eax
6:	ret

/* ECX = an MSR: of one of the ranges, near one of their ends, or anything. */
an_msr:	mov	%ebx, %ecx
	mov	%esi, %edx
	and	$7, %edx
	cmp	$2, %edx
	ja	1f
	and	$0x1fff, %ecx
	ret
1:	cmp	$4, %edx
	ja	2f
	and	$0x1fff, %ecx
	or	$0xc0000000, %ecx
	ret
2:	cmp	$5, %edx
	jne	3f
	and	$0xff, %ecx
	or	$0x800, %ecx
	ret
3:	cmp	$6, %edx
	jne	4f
	and	$0x1ff, %ecx
	or	$0x40000000, %ecx
4:	ret

t_rdmsr:
	call	an_msr
	rdmsr
	ret
t_wrmsr:
	call	an_msr
	/* INIT to itself would end the test, and so would a moved stack. */
	cmp	$0x830, %ecx
	je	1f
	mov	%edi, %eax
	mov	%ebp, %edx
	test	$8, %esi
	jz	2f
	xor	%edx, %edx
2:	wrmsr
	/* Long mode is another test's. */
	mov	$0xc0000080, %ecx
	xor	%eax, %eax
	xor	%edx, %edx
	wrmsr
	/* The clock's interrupts stay off, and the APIC where it is. */
	mov	$0x1b, %ecx
	mov	$0xfee00900, %eax
	wrmsr
1:	ret
/* EDX = a port that ends nothing. */
a_port:	movzwl	%bx, %edx
	test	$3, %esi
	jz	1f
	and	$0x3ff, %edx
1:	mov	%edx, %eax
	and	$~0xf, %eax
	cmp	$0xf0, %eax
	je	2f
	cmp	$0x3f0, %eax
	je	2f
	cmp	$0x60, %eax
	je	2f
	cmp	$0x600, %edx
	jae	2f
	ret
2:	mov	$0x80, %edx
	ret
t_in:	call	a_port
	mov	%edi, %eax
	test	$1, %ebp
	jz	1f
	inl	%dx, %eax
	ret
1:	inb	%dx, %al
	ret
t_out:	call	a_port
	mov	%edi, %eax
	test	$1, %ebp
	jz	1f
	outw	%ax, %dx
	ret
1:	outb	%al, %dx
	ret
t_cpuid:
	mov	%ebx, %eax
	mov	%esi, %ecx
	test	$1, %edi
	jz	1f
	and	$0x8000001f, %eax
	and	$15, %ecx
1:	cpuid
	ret
/* Protection stays on and paging off: with that another GDT would be wanted. */
t_cr0:	mov	%ebx, %eax
	and	$0x7fffffff, %eax
	or	$1, %eax
	mov	%eax, %cr0
	ret
t_cr3:	mov	%ebx, %cr3
	ret
t_cr4:	mov	%ebx, %eax
	test	$1, %esi
	jz	1f
	mov	%esi, %ecx
	shr	$1, %ecx
	mov	$1, %eax
	shl	%cl, %eax
1:	mov	%eax, %cr4
	xor	%eax, %eax
	mov	%eax, %cr4
	ret
t_cr_more:
	mov	%cr2, %eax
	mov	%ebx, %cr2
	mov	%cr0, %eax
	mov	%cr4, %ecx
	mov	%cr3, %edx
	ret
t_dr:	mov	%ebx, %dr0
	mov	%esi, %dr3
	mov	%edi, %dr6
	mov	%ebp, %dr7
	nop
	mov	%dr0, %eax
	ret
t_xsetbv:
	mov	%cr4, %eax
	or	$1 << 18, %eax
	mov	%eax, %cr4
	mov	%esi, %ecx
	and	$1, %ecx
	mov	%ebx, %eax
	mov	%edi, %edx
	test	$2, %esi
	jz	1f
	and	$0xff, %eax
	xor	%edx, %edx
1:	xsetbv
	ret
t_invd:	invd
	ret
t_wbinvd:
	wbinvd
	ret
t_clts:	clts
	mov	%ebx, %eax
	or	$1, %eax
	lmsw	%ax
	smsw	%ax
	ret
t_tables:
	sgdt	scratch
	sidt	scratch
	lidt	scratch
	sldt	%ax
	str	%cx
	lldt	%bx
	ret
t_ltr:	ltr	%bx
	ret
t_segment:
	mov	%ebx, %fs
	mov	%esi, %gs
	ret
t_int:	andl	$0xff, %ebx
	/* INT with that number, made here. */
	movb	$0xcd, scratch
	mov	%bl, scratch + 1
	movb	$0xc3, scratch + 2
	call	scratch
	ret
t_int3:	int3
	ret
t_ud2:	ud2
t_far:	ljmp	*far_place
	ret
	/* To any segment; once in a few thousand times it is one that can be run. */
t_iret:	and	$~0x20000, %ebx
	pushl	%ebx
	pushl	%esi
	pushl	$caught
	iretl
	/* Where SYSENTER goes is put right, after what WRMSR may have left; its segment is not. */
t_sysenter:
	xor	%edx, %edx
	mov	$0x175, %ecx
	mov	stack_here, %eax
	wrmsr
	inc	%ecx
	mov	$caught, %eax
	wrmsr
	sysenter
	ret
	/* There is no way back from ring 3, so it is to be refused. */
t_sysexit:
	mov	$0x174, %ecx
	xor	%eax, %eax
	xor	%edx, %edx
	wrmsr
	sysexit
	ret
t_rsm:	rsm
	ret
t_rdpmc:
	mov	%ebx, %ecx
	rdpmc
	ret
t_rdtsc:
	rdtsc
	ret
t_monitor:
	mov	$scratch, %eax
	xor	%ecx, %ecx
	xor	%edx, %edx
	monitor
	mwait
	ret
t_invlpg:
	invlpg	(%ebx)
	ret
t_getsec:
	mov	%ebx, %eax
	and	$15, %eax
	.byte	0x0f, 0x37
	ret
t_vmcall:
	mov	%ebx, %eax
	vmcall
	ret
t_vmx:	mov	%ebx, %eax
	and	$7, %eax
	jmp	*vmx_table(, %eax, 4)
v0:	vmxoff
	ret
v1:	vmlaunch
	ret
v2:	vmresume
	ret
v3:	vmptrld	scratch
	ret
v4:	vmclear	scratch
	ret
v5:	vmxon	scratch
	ret
v6:	vmread	%eax, %ecx
	ret
v7:	vmwrite	%eax, %ecx
	ret
t_invept:
	mov	%ebx, %eax
	and	$3, %eax
	invept	scratch, %eax
	ret
t_invvpid:
	mov	%ebx, %eax
	and	$3, %eax
	invvpid	scratch, %eax
	ret
t_vmfunc:
	mov	%ebx, %eax
	and	$1, %eax
	.byte	0x0f, 0x01, 0xd4
	ret
t_encls:
	mov	%ebx, %eax
	.byte	0x0f, 0x01, 0xcf
	ret
t_pconfig:
	mov	%ebx, %eax
	.byte	0x0f, 0x01, 0xc5
	ret
t_xsaves:
	.byte	0x0f, 0xc7, 0x2d
	.long	scratch
	ret
/* A register of the local APIC: no INIT or SIPI to itself. */
t_apic:	mov	%ebx, %eax
	and	$0xffc, %eax
	mov	%esi, %ecx
	cmp	$0x300, %eax
	jne	1f
	and	$~0x700, %ecx
1:	mov	%ecx, LAPIC(%eax)
	mov	LAPIC(%eax), %edx
	movl	$0, LAPIC + 0x380
	ret
t_apic_odd:
	mov	%ebx, %eax
	and	$0xfff, %eax
	mov	LAPIC(%eax), %dl
	mov	%dl, LAPIC + 0x80
	movw	$0, LAPIC + 0xffe
	ret
/* Addresses where nothing is, and those that wrap. */
t_memory:
	mov	%ebx, %eax
	or	$0xd0000000, %eax
	and	$0xdfffffff, %eax
	mov	(%eax), %ecx
	mov	%esi, (%eax)
	ret
t_wrap:	mov	0xfffffffe, %eax
	mov	%ebx, %ecx
	or	$0xffff0000, %ecx
	mov	(%ecx), %eax
	ret
t_cross:
	/* A privileged instruction over the end of a page, and made just before. */
	mov	$pages + 4096 - 1, %edi
	mov	%ebx, %ecx
	and	$3, %ecx
	mov	crossers(, %ecx, 4), %eax
	mov	%eax, (%edi)
	mov	%edi, %eax
	mov	%esi, %ecx
	jmp	*%eax
t_rep:	mov	%ebx, %ecx
	and	$15, %ecx
	mov	$0x80, %edx
	mov	$pages + 4090, %esi
	test	$1, %ebp
	jz	1f
	rep outsb
	ret
1:	mov	%esi, %edi
	rep insb
	ret

	.data
	.balign	4
table:	.long	t_rdmsr, t_rdmsr, t_rdmsr, t_wrmsr, t_wrmsr, t_wrmsr, t_in, t_out, t_cpuid, t_cpuid
	.long	t_cr0, t_cr3, t_cr4, t_cr4, t_cr_more, t_dr, t_xsetbv, t_xsetbv, t_invd, t_wbinvd
	.long	t_clts, t_tables, t_ltr, t_segment, t_int, t_int3, t_ud2, t_far, t_iret, t_sysenter
	.long	t_sysexit, t_rsm, t_rdpmc, t_rdtsc, t_monitor, t_invlpg, t_getsec, t_vmcall, t_vmx
	.long	t_vmx, t_invept, t_invvpid, t_vmfunc, t_encls, t_pconfig, t_xsaves, t_apic, t_apic
	.long	t_apic_odd, t_memory, t_wrap, t_cross, t_rep
table_end:
vmx_table:
	.long	v0, v1, v2, v3, v4, v5, v6, v7
	/* CPUID; RDMSR; WBINVD; VMCALL, as far as four bytes go; RET where there is room. */
crossers:
	.long	0xc3c3a20f, 0xc3c3320f, 0xc3c3090f, 0xc3c1010f
far_place:
	.long	0x1000
	.word	0x1238
seed_is:
	.asciz	"seed="
count_is:
	.asciz	"count="
	.balign	4
random:	.long	0
left:	.long	0
exceptions:
	.long	0
stack_here:
	.long	0

	.bss
	.balign	4096
pages:	.skip	8192
	.balign	64
scratch:
	.skip	4096
