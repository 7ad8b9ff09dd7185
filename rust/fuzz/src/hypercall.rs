// SPDX-License-Identifier: GPL-2.0

//! Hypercalls of a hostile root, and the exits of guests that it runs, on a processor that is not
//! there.

use std::cell::RefCell;

use hvcore::stage::Stage;

use crate::bytes::Bytes;

pub fn run(data: &[u8]) {
    let bytes = RefCell::new(Bytes::new(data));
    let mut below = |n| bytes.borrow_mut().below(n);
    let mut stage = Stage::new(&mut below);
    let mut steps = 0;
    while !bytes.borrow().is_empty() && steps < 64 {
        stage.step();
        steps += 1;
    }
    stage.end();
}
