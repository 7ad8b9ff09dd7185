// SPDX-License-Identifier: GPL-2.0

//! What Linux found out about the machine.

use kernel::bindings;

extern "C" {
    fn hvmod_ram_end() -> u64;
}

/// First physical address above all memory.
pub(crate) fn ram_end() -> u64 {
    // SAFETY: No precondition.
    unsafe { hvmod_ram_end() }
}

/// Frequency of the TSC, in kHz.
pub(crate) fn tsc_khz() -> u64 {
    // SAFETY: Written when Linux calibrates it, which is long before modules are loaded.
    u64::from(unsafe { bindings::tsc_khz })
}
