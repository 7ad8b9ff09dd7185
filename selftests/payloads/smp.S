/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Several processors: INIT and SIPI, IPIs of every kind in both modes of the local
 * APIC, topology, clocks that agree. The command line ends in "cpus=N", 1 to 64.
 */
#include "payload.h"

#define TRAMPOLINE	0x8000
#define MAX		64
#define HIT		0x40
#define SWITCH		0x41

/* ICR: delivery modes and whom it goes to. */
#define LOWEST		0x00100
#define NMI		0x04400
#define INIT		0x04500
#define STARTUP		0x04600
#define LOGICAL		0x00800
#define SELF		0x40000
#define ALL		0x80000
#define OTHERS		0xc0000

/* Sends: ICR, destination (as in x2APIC mode). */
	.macro	SEND icr, destination=$0
	mov	\destination, %edx
	mov	$\icr, %eax
	call	send
	.endm

/* Whether so many hits come, in all, and no more. */
	.macro	HITS count, text
	mov	\count, %edx
	call	wait_hits
	call	settle
	call	sum
	cmp	%edx, %eax
	CHECK	e, "\text"
	.endm

/* Only with several processors, else to the next label 6. */
	.macro	NEED_OTHERS
	cmpl	$1, cpus
	je	6f
	.endm

main:
	mov	16(%ebx), %esi
1:	lodsb
	cmp	$'=', %al
	jne	1b
	xor	%ecx, %ecx
2:	lodsb
	sub	$'0', %al
	jb	3f
	imul	$10, %ecx
	movzbl	%al, %eax
	add	%eax, %ecx
	jmp	2b
3:	mov	%ecx, cpus
	dec	%ecx
	mov	%ecx, last

	GATE	2, on_nmi
	GATE	HIT, on_hit
	GATE	SWITCH, on_switch
	mov	$trampoline, %esi
	mov	$TRAMPOLINE, %edi
	mov	$trampoline_end - trampoline, %ecx
	rep	movsb

	mov	$1, %eax
	cpuid
	shr	$16, %ebx
	movzbl	%bl, %eax
	cmp	cpus, %eax
	CHECK	ae, "leaf 1 has room for each processor's APIC ID"
	mov	$0xb, %eax
	mov	$1, %ecx
	cpuid
	cmp	cpus, %ebx
	CHECK	e, "leaf 0xb tells how many there are"

	xor	%eax, %eax
	call	enable_apic
	sti
	SEND	OTHERS | INIT
	SEND	OTHERS | STARTUP | TRAMPOLINE >> 12
	mov	$online, %edi
	mov	last, %edx
	call	wait_word
	CHECK	e, "INIT and SIPI start each processor"
	SEND	OTHERS | STARTUP | TRAMPOLINE >> 12
	call	settle
	mov	last, %eax
	cmp	online, %eax
	CHECK	e, "SIPI alone does nothing to one that runs"
	cmpl	$0, strange
	CHECK	e, "each has its own APIC ID in leaf 1, leaf 0xb and its APIC"

	call	kinds
	SEND	OTHERS | SWITCH
	mov	$switched, %edi
	mov	last, %edx
	call	wait_word
	CHECK	e, "each switches to x2APIC mode, in which all is now repeated"
	call	to_x2apic
	incl	x2apic
	call	kinds
	mov	$0x83f, %ecx
	mov	$HIT, %eax
	xor	%edx, %edx
	call	clear
	wrmsr
	HITS	$1, "the SELF IPI register"
	EXIT	0

/* Everything that there is to send. */
kinds:
	call	clear
	xor	%ebx, %ebx
1:	SEND	HIT, %ebx
	inc	%ebx
	cmp	cpus, %ebx
	jb	1b
	HITS	cpus, "a fixed interrupt for each"
	call	each_one
	CHECK	e, "each took one"
	call	clear
	SEND	ALL | HIT
	HITS	cpus, "all including self"
	call	each_one
	CHECK	e, "each took one"
	call	clear
	SEND	HIT, $-1
	HITS	cpus, "a broadcast by destination"
	call	clear
	SEND	SELF | HIT
	HITS	$1, "self"
	cmpl	$1, hits
	CHECK	e, "it was self"
	call	clear
	SEND	OTHERS | HIT
	HITS	last, "all excluding self"
	cmpl	$0, hits
	CHECK	e, "self was not among them"

	/* Logical destinations of the first eight. */
	mov	last, %ecx
	and	$7, %ecx
	mov	$1, %eax
	shl	%cl, %eax
	mov	%eax, mask
	call	clear
	mov	mask, %ebx
	SEND	LOGICAL | HIT, %ebx
	HITS	$1, "a logical destination"
	mov	last, %eax
	and	$7, %eax
	cmpl	$1, hits(, %eax, 4)
	CHECK	e, "it is the right one"
	NEED_OTHERS
	call	clear
	mov	mask, %ebx
	or	$1, %ebx
	SEND	LOGICAL | HIT, %ebx
	HITS	$2, "two logical destinations"
6:	call	clear
	mov	mask, %ebx
	or	$1, %ebx
	SEND	LOGICAL | LOWEST | HIT, %ebx
	HITS	$1, "lowest priority takes one of them"

	call	clear
	SEND	OTHERS | NMI
	mov	$nmis, %edi
	mov	last, %edx
	call	wait_word
	CHECK	e, "NMI for all others"
	call	clear
	SEND	NMI
	mov	$nmis, %edi
	mov	$1, %edx
	call	wait_word
	CHECK	e, "NMI for self"

	call	clear
	SEND	5
	call	error
	test	$0x20, %eax
	CHECK	nz, "a vector below 16 is an error"
	HITS	$0, "and goes nowhere"

	NEED_OTHERS
	/* There and back again; TSCs on the way. */
	call	clear
	mov	$500, %ebx
1:	rdtsc
	mov	%eax, before
	mov	%edx, before + 4
	mov	last, %edx
	mov	$HIT, %eax
	call	send
	mov	$501, %edx
	sub	%ebx, %edx
	call	wait_hits
	jne	2f
	mov	when, %eax
	mov	when + 4, %edx
	sub	before, %eax
	sbb	before + 4, %edx
	adcl	$0, backwards
	rdtsc
	sub	when, %eax
	sbb	when + 4, %edx
	adcl	$0, backwards
	dec	%ebx
	jnz	1b
2:	cmp	$0, %ebx
	CHECK	e, "500 times there and back"
	cmpl	$0, backwards
	CHECK	e, "the other's TSC is never before, and never ahead"

	/* One that runs starts anew. */
	mov	online, %ebx
	inc	%ebx
	mov	last, %edx
	mov	$INIT, %eax
	call	send
	mov	last, %edx
	mov	$STARTUP | TRAMPOLINE >> 12, %eax
	call	send
	mov	$online, %edi
	mov	%ebx, %edx
	call	wait_word
	CHECK	e, "INIT and SIPI start one anew"
	call	clear
	mov	last, %edx
	mov	$HIT, %eax
	call	send
	HITS	$1, "and it takes interrupts again"
6:	cmpl	$0, strange
	CHECK	e, "nothing strange was seen"
	ret

/* EAX: the APIC ID; keeps all else. */
my_id:
	push	%ebx
	push	%ecx
	push	%edx
	mov	$1, %eax
	cpuid
	shr	$24, %ebx
	mov	%ebx, %eax
	pop	%edx
	pop	%ecx
	pop	%ebx
	ret

/* ZF clear in xAPIC mode. Changes EAX, ECX, EDX. */
in_xapic:
	mov	$0x1b, %ecx
	rdmsr
	not	%eax
	test	$0x400, %eax
	ret

to_x2apic:
	mov	$0x1b, %ecx
	rdmsr
	or	$0x400, %eax
	wrmsr
	ret

/* Switches on the APIC of processor EAX. */
enable_apic:
	mov	%eax, %ebx
	call	in_xapic
	jnz	1f
	mov	$0x80f, %ecx
	mov	$0x1ff, %eax
	xor	%edx, %edx
	wrmsr
	mov	$0x802, %ecx
	rdmsr
	jmp	2f
1:	movl	$0x1ff, LAPIC + 0xf0
	movl	$-1, LAPIC + 0xe0
	mov	%ebx, %ecx
	mov	$1 << 24, %eax
	/* Those behind the eighth have no logical ID. */
	shl	%cl, %eax
	cmp	$8, %ecx
	jb	3f
	xor	%eax, %eax
3:	mov	%eax, LAPIC + 0xd0
	mov	LAPIC + 0x20, %eax
	shr	$24, %eax
2:	cmp	%eax, %ebx
	je	4f
	lock	incl strange
4:	ret

/* EAX to ICR with destination EDX. Changes ECX. */
send:
	cmpl	$0, x2apic
	jne	1f
	shl	$24, %edx
	mov	%edx, LAPIC + 0x310
	mov	%eax, LAPIC + 0x300
	ret
1:	mov	$0x830, %ecx
	wrmsr
	ret

/* EAX: ESR. */
error:
	cmpl	$0, x2apic
	jne	1f
	movl	$0, LAPIC + 0x280
	mov	LAPIC + 0x280, %eax
	ret
1:	mov	$0x828, %ecx
	xor	%eax, %eax
	xor	%edx, %edx
	wrmsr
	rdmsr
	ret

eoi:
	call	in_xapic
	jz	1f
	movl	$0, LAPIC + 0xb0
	ret
1:	mov	$0x80b, %ecx
	xor	%eax, %eax
	xor	%edx, %edx
	wrmsr
	ret

/* Forgets hits and NMIs. */
clear:
	pusha
	mov	$hits, %edi
	mov	$MAX + 1, %ecx
	xor	%eax, %eax
	rep	stosl
	popa
	ret

/* Sees whether the word at EDI becomes EDX: ZF. Changes ECX. */
wait_word:
	mov	$20000000, %ecx
1:	cmp	%edx, (%edi)
	je	2f
	pause
	loop	1b
2:	cmp	%edx, (%edi)
	ret

/* Sees whether all hits become EDX: ZF. Changes EAX, ECX. */
wait_hits:
	mov	$20000000, %ecx
1:	call	sum
	cmp	%edx, %eax
	je	2f
	pause
	loop	1b
2:	cmp	%edx, %eax
	ret

/* EAX: all hits. */
sum:
	push	%ecx
	xor	%eax, %eax
	mov	cpus, %ecx
1:	add	hits - 4(, %ecx, 4), %eax
	loop	1b
	pop	%ecx
	ret

/* Whether each processor has one hit: ZF. */
each_one:
	mov	cpus, %ecx
1:	cmpl	$1, hits - 4(, %ecx, 4)
	jne	2f
	loop	1b
	cmp	%eax, %eax
2:	ret

/* Time for what must not come. Changes ECX. */
settle:
	mov	$10000, %ecx
1:	pause
	loop	1b
	ret

on_hit:
	pusha
	rdtsc
	mov	%eax, when
	mov	%edx, when + 4
	call	my_id
	lock	incl hits(, %eax, 4)
	call	eoi
	popa
	iret

on_nmi:
	lock	incl nmis
	iret

on_switch:
	pusha
	call	to_x2apic
	call	my_id
	mov	%eax, %ebx
	mov	$0x802, %ecx
	rdmsr
	cmp	%eax, %ebx
	je	1f
	lock	incl strange
1:	lock	incl switched
	call	eoi
	popa
	iret

/* Copied to TRAMPOLINE. */
	.code16
trampoline:
	mov	%cs, %ax
	mov	%ax, %ds
	lgdtl	trampoline_gdt - trampoline
	mov	%cr0, %eax
	and	$0x9fffffff, %eax
	or	$1, %eax
	mov	%eax, %cr0
	ljmpl	$8, $processor
trampoline_gdt:
	.word	gdt_end - gdt - 1
	.long	gdt
trampoline_end:
	.code32

processor:
	mov	$16, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	mov	$1, %eax
	cpuid
	shr	$24, %ebx
	mov	%ebx, %esi
	mov	%ebx, %esp
	inc	%esp
	shl	$9, %esp
	add	$stacks, %esp
	lidt	idt_register
	mov	$0xb, %eax
	xor	%ecx, %ecx
	cpuid
	cmp	%edx, %esi
	je	1f
	lock	incl strange
1:	mov	%esi, %eax
	call	enable_apic
	lock	incl online
	sti
2:	hlt
	jmp	2b

	.data
	.balign	4
cpus:	.long	0
/* Number of the last one, and of the others. */
last:	.long	0
online:	.long	0
strange:	.long	0
switched:	.long	0
backwards:	.long	0
x2apic:	.long	0
mask:	.long	0
before:	.quad	0
when:	.quad	0

	.bss
	.balign	4
hits:	.skip	4 * MAX
nmis:	.skip	4
	.balign	512
stacks:	.skip	512 * (MAX + 1)
