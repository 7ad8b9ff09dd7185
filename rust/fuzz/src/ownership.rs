// SPDX-License-Identifier: GPL-2.0

//! Who owns and sees which page, against the model of hvcore's property tests.

use hvcore::mem::world::{choose_op, World, FIRST, PLAYED};

use crate::bytes::Bytes;

pub fn run(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    // Often hvcore's own pool is nearly empty.
    let mut world = World::new(3, 60);
    let left = bytes.below(40) as usize;
    world.starve(if left < 20 { left / 4 } else { left });
    let mut steps = 0;
    while !bytes.is_empty() && steps < 64 {
        let op = choose_op(&mut |n| bytes.below(n));
        world.apply(op);
        steps += 1;
        if steps % 16 == 0 {
            world.check(FIRST..FIRST + PLAYED, &(steps, op));
        }
    }
    world.end();
}
