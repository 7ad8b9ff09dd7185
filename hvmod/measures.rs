// SPDX-License-Identifier: GPL-2.0

//! What hvcore does against speculation when an LP goes from one partition to another: chosen here,
//! while this kernel is still trusted, and not to be changed after the launch.

use crate::{
    hvabi::boot::measures::{ALL, IBPB, L1D_FLUSH, RSB_FILL, VERW},
    module_parameters,
    speculation::{Choice, Cpu},
    sys::processor::{arch_capabilities, cpuid},
};
use core::borrow::Borrow;
use kernel::prelude::*;

/// The parameter's value for "what this processor needs".
const AUTOMATIC: i32 = -1;

/// This processor, which stands for all.
fn this_cpu() -> Cpu {
    let leaf7 = cpuid(7, 0);
    Cpu {
        signature: cpuid(1, 0).eax,
        leaf7_ebx: leaf7.ebx,
        leaf7_edx: leaf7.edx,
        capabilities: if Cpu::has_capabilities(leaf7.edx) {
            arch_capabilities()
        } else {
            0
        },
    }
}

/// What to do: as the processor needs it, or as the parameter `speculation` says. EINVAL, with the
/// reason in the kernel log, if that cannot be.
pub(crate) fn choose() -> Result<Choice> {
    let cpu = this_cpu();
    // Linux 7.2 gives a reference here, 7.3 the value.
    let wanted: i32 = *Borrow::<i32>::borrow(&module_parameters::speculation.value());
    if wanted == AUTOMATIC {
        return Ok(cpu.choose());
    }
    let choice = u64::try_from(wanted)
        .ok()
        .and_then(|wanted| cpu.choose_as(wanted));
    choice.ok_or_else(|| {
        pr_err!(
            "speculation={wanted}: this processor can take {} of {ALL} (IBPB {IBPB}, RSB filling \
             {RSB_FILL}, VERW {VERW}, L1D flush {L1D_FLUSH}); a sum of these, or {AUTOMATIC} for \
             what it needs\n",
            cpu.can()
        );
        EINVAL
    })
}
