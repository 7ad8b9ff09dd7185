// SPDX-License-Identifier: GPL-2.0

//! Extended page tables, against a map of pages.

use hvcore::mem::ept_model::Both;

use crate::bytes::Bytes;

pub fn run(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let mut both = Both::new(&mut |n| bytes.below(n));
    let mut steps = 0;
    while !bytes.is_empty() && steps < 48 {
        both.step(&mut |n| bytes.below(n));
        steps += 1;
    }
    both.end();
}
