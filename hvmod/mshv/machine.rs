// SPDX-License-Identifier: GPL-2.0

//! What all partitions on this machine have in common.

use crate::{
    hypercall,
    sys::processor,
    tlfs::{processor as describe, property::Machine},
};
use kernel::sync::SetOnce;

static MACHINE: SetOnce<Machine> = SetOnce::new();

/// The processor, as a partition's properties tell it.
pub(super) fn get() -> Machine {
    if let Some(machine) = MACHINE.copy() {
        return machine;
    }
    let machine = describe::describe(
        |leaf, subleaf| {
            let found = processor::cpuid(leaf, subleaf);
            [found.eax, found.ebx, found.ecx, found.edx]
        },
        hypercall::tsc_khz(),
    );
    MACHINE.populate(machine);
    machine
}
