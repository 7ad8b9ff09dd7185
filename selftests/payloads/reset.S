/* SPDX-License-Identifier: GPL-2.0 */
/* A reset by the keyboard controller. */
#include "payload.h"

main:
	SAY	"resetting"
	mov	$0xfe, %al
	outb	%al, $0x64
	SAY	"not ok a reset ends the run"
1:	hlt
	jmp	1b
