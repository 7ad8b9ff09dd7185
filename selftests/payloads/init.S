/* SPDX-License-Identifier: GPL-2.0 */
/* The bootstrap processor sends itself an INIT, and begins where a PC has its firmware. */
#include "payload.h"

main:
	SAY	"INIT to itself"
	movl	$0, LAPIC + 0x310
	movl	$0x4500, LAPIC + 0x300
	mov	$1000000, %ecx
1:	loop	1b
	SAY	"not ok INIT to itself is a reset"
2:	hlt
	jmp	2b
