// SPDX-License-Identifier: GPL-2.0

//! Interrupts for a partition.

use super::partition::Partition;
use crate::{
    hvabi::call::{interrupt, Status},
    hypercall,
    tlfs::{
        hvcall::Interrupt,
        status::{HvResult, HvStatus},
    },
};

impl Partition {
    /// Asserts an interrupt, and sees to it that the VPs that get it notice. In any context.
    pub(super) fn assert_interrupt(&self, interrupt: Interrupt) -> HvResult {
        match hypercall::assert_interrupt(self.id(), interrupt.word, interrupt.destination) {
            (Status::Ok, vps) => {
                self.notify(vps);
                Ok(())
            }
            (Status::BadArgument, _) => Err(HvStatus::INVALID_PARAMETER),
            _ => Err(HvStatus::INVALID_PARTITION_STATE),
        }
    }

    /// Takes back what the 8259A asserted and no VP has taken. In any context.
    pub(super) fn clear_interrupt(&self) -> HvResult {
        match hypercall::assert_interrupt(self.id(), interrupt::CLEAR_EXTINT, 0) {
            (Status::Ok, _) => Ok(()),
            _ => Err(HvStatus::INVALID_PARTITION_STATE),
        }
    }

    /// Makes each VP of the set `vps` look at what is pending for it. In any context.
    pub(super) fn notify(&self, vps: u64) {
        let mut left = vps;
        while left != 0 {
            let index = left.trailing_zeros();
            left &= left - 1;
            if let Some(vp) = self.vp(index) {
                vp.notify();
            }
        }
    }
}
