/* SPDX-License-Identifier: GPL-2.0 */
/* What the Multiboot loader promises: registers, command line, memory, a module. */
#include "payload.h"

main:
	cmpl	$0x2badb002, loader_magic
	CHECK	e, "EAX holds the loader's magic number"
	mov	(%ebx), %eax
	and	$0xd, %eax
	cmp	$0xd, %eax
	CHECK	e, "memory, command line and modules are told"
	cmpl	$639, 4(%ebx)
	CHECK	e, "639 KiB of lower memory"
	cmpl	$15 * 1024, 8(%ebx)
	CHECK	e, "15 MiB of upper memory"
	cmpl	$1, 20(%ebx)
	CHECK	e, "one module"
	mov	24(%ebx), %ecx
	mov	(%ecx), %esi
	mov	4(%ecx), %eax
	sub	%esi, %eax
	cmp	$6, %eax
	CHECK	e, "of 6 bytes"
	cmpl	$0x75646f6d, (%esi)	/* "modu" */
	CHECK	e, "with its contents"
	SAY	"the command line is:"
	mov	16(%ebx), %esi
	call	puts
	SAY	""
	EXIT	42
