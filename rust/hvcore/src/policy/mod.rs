// SPDX-License-Identifier: GPL-2.0

//! Which processor the root and the children see: pure functions from what was asked to what is
//! answered. What a child sees is always an allow-list: a feature that nobody thought of is absent.

pub mod cpuid;
pub mod cr;
pub mod exits;
pub mod msr;
pub mod xsave;

/// The instruction must raise #GP(0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gp;

/// `Ok` if the condition that makes an instruction fault does not hold.
pub fn unless(fault: bool) -> Result<(), Gp> {
    if fault {
        Err(Gp)
    } else {
        Ok(())
    }
}
