// SPDX-License-Identifier: GPL-2.0
/*
 * Failures on purpose, for the tests: part of the module only with HVMOD_DEBUG=1.
 */
#include <linux/moduleparam.h>

#include "sys.h"

u64 hvmod_inject_core;
module_param_named(inject_core, hvmod_inject_core, ullong, 0400);
MODULE_PARM_DESC(inject_core, "Where and how hvcore fails at launch (hvcore's arch/inject.rs)");

u32 hvmod_inject_step;
module_param_named(inject_step, hvmod_inject_step, uint, 0400);
MODULE_PARM_DESC(inject_step, "Which step of loading fails (sys/inject.rs)");
