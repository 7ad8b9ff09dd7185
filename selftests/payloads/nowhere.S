/* SPDX-License-Identifier: GPL-2.0 */
/* A jump to where no memory is. */
#include "payload.h"

main:
	SAY	"jumping"
	mov	$0xd0000000, %eax
	jmp	*%eax
