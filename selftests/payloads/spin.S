/* SPDX-License-Identifier: GPL-2.0 */
/* A loop without end. */
#include "payload.h"

main:
	SAY	"looping"
1:	incl	%eax
	jmp	1b
