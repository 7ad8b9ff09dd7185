/* SPDX-License-Identifier: GPL-2.0 */
/* How payloads start, those in C and those in assembly. */

/* The Multiboot 1 header, which asks for the memory's size, and the entry with a stack. */
.macro multiboot_start
	.section .multiboot, "ax"
	.balign	4
	.long	0x1badb002, 3, -(0x1badb002 + 3)

	.text
	.code32
	.globl	_start
_start:
	cld
	mov	$stack_top, %esp
	mov	%eax, loader_magic
.endm

/* Long mode by the tables at pml4, with these bits of EFER and CR0; a far jump is to follow. */
.macro long_mode efer, cr0
	mov	%cr4, %eax
	or	$0x20, %eax
	mov	%eax, %cr4
	mov	$pml4, %eax
	mov	%eax, %cr3
	mov	$0xc0000080, %ecx
	rdmsr
	or	$\efer, %eax
	wrmsr
	mov	%cr0, %eax
	or	$\cr0, %eax
	mov	%eax, %cr0
.endm
