/* SPDX-License-Identifier: GPL-2.0 */
/* A loop without end. (With interrupts on, of which none comes: entered with them off,
 * a guest in Bochs 3.0 is not left for the root's.) */
#include "payload.h"

main:
	SAY	"looping"
	sti
1:	incl	%eax
	jmp	1b
