/* SPDX-License-Identifier: GPL-2.0 */
/* A triple fault. */
#include "payload.h"

main:
	SAY	"faulting"
	lidt	nothing
	int3
	.data
nothing:
	.word	0
	.long	0
