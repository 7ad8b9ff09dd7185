/* SPDX-License-Identifier: GPL-2.0 */
/* A loop without end, with interrupts off: the root's come all the same. */
#include "payload.h"

main:
	SAY	"looping masked"
1:	incl	%eax
	jmp	1b
