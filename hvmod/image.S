/* SPDX-License-Identifier: GPL-2.0 */
/*
 * hvcore's image, as the loader finds it in the module.
 */
#include <linux/linkage.h>

	.section .rodata
	.balign 4096
SYM_DATA_START(hvmod_image)
	.incbin HVCORE_BIN
SYM_DATA_END_LABEL(hvmod_image, SYM_L_GLOBAL, hvmod_image_end)
