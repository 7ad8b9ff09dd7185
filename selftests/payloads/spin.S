/* SPDX-License-Identifier: GPL-2.0 */
/* A loop without end, with interrupts on, of which none comes. */
#include "payload.h"

main:
	SAY	"looping"
	sti
1:	incl	%eax
	jmp	1b
