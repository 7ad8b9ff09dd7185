/* SPDX-License-Identifier: GPL-2.0 */
/* A wait without interrupts: nothing but a signal ends the run. */
#include "payload.h"

main:
	SAY	"waiting"
1:	cli
	hlt
	jmp	1b
