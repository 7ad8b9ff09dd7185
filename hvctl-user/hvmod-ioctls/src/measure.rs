// SPDX-License-Identifier: GPL-2.0
//! What is done against speculation on a switch between partitions, in words.

use hvabi::boot::measures::{IBPB, L1D_FLUSH, RSB_FILL, VERW};

/// The names of the bits of [`measures`](crate::measures) that are set.
pub fn names(measures: u32) -> Vec<&'static str> {
    let all = [
        (IBPB, "IBPB"),
        (RSB_FILL, "RSB filling"),
        (VERW, "VERW"),
        (L1D_FLUSH, "L1D flush"),
    ];
    all.into_iter()
        .filter(|(bit, _)| u64::from(measures) & bit != 0)
        .map(|(_, name)| name)
        .collect()
}
