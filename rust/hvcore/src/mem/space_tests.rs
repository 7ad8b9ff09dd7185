// SPDX-License-Identifier: GPL-2.0

//! Property tests of all of memory, against [the model](super::world).

use super::addr::{Gpa, Size, PAGE_SIZE};
use super::ept::Access;
use super::rng::Rng;
use super::space::Retry;
use super::world::{choose_op, Op, World, BLOCK, FIRST, PLAYED, PUBLIC};

#[test]
fn random_sequences() {
    let seeds =
        if std::env::var_os("SOAK").is_some_and(|soak| !soak.is_empty()) { 20_000 } else { 150 };
    for seed in 0..seeds {
        let mut rng = Rng::new(seed);
        // Sometimes hvcore's own pool is nearly empty.
        let mut world = World::new(3, 20 + rng.below(40));
        for step in 0..120 {
            let op = choose_op(&mut |n| rng.below(n));
            world.apply(op);
            if step % 8 == 7 {
                world.check(FIRST..FIRST + PLAYED, &(seed, step, op));
            }
        }
        world.end();
    }
}

/// Every sequence of that many operations on a machine of two pages and two children.
#[test]
fn all_sequences_on_a_small_machine() {
    let depth = if std::env::var_os("SOAK").is_some_and(|soak| !soak.is_empty()) { 5 } else { 3 };
    let mut ops = vec![Op::Sync];
    for c in 0..2 {
        for page in [FIRST, FIRST + 1] {
            ops.push(Op::Deposit(c, page, 1));
            ops.push(Op::Map(c, page - FIRST, page, 1, Size::K4, false));
            ops.push(Op::Map(c, page - FIRST, page, 1, Size::K4, true));
            ops.push(Op::Unmap(c, page - FIRST, 1));
        }
        ops.push(Op::Map(c, 1, FIRST, 1, Size::K4, false));
        ops.push(Op::Destroy(c));
        ops.push(Op::Withdraw(c, 1));
    }
    let sequences = ops.len().pow(depth);
    for number in 0..sequences {
        let mut world = World::new(2, 24);
        // Pages for the children's tables, from elsewhere.
        for c in 0..2 {
            world.apply(Op::Deposit(c, FIRST + 600 + c * 8, 8));
        }
        world.apply(Op::Sync);
        let mut rest = number;
        for _ in 0..depth {
            let op = ops[rest % ops.len()];
            rest /= ops.len();
            world.apply(op);
            world.check(FIRST..FIRST + 2, &(number, op));
        }
        world.end();
    }
}

/// Looks at hidden pages are zeros, and told; writes are refused; devices are mapped when used, and
/// when there is no memory left for their tables that is the root's trouble alone.
#[test]
fn looks_at_hidden_pages() {
    let mut world = World::new(0, 60);
    let gpa = |n: u64| Gpa::new(n * PAGE_SIZE).unwrap();
    let write = Access { read: false, write: true, execute: false };
    let execute = Access { read: false, write: false, execute: true };
    for n in BLOCK.start..PUBLIC {
        let page = world.page(n);
        assert_eq!(world.memory.root_sees(page).1, Access::NONE);
        for refused in [write, execute] {
            assert_eq!(world.memory.retry(gpa(n), refused), Retry::Denied);
        }
        assert_eq!(world.memory.retry(gpa(n), Access::READ), Retry::Hidden);
        let (_, access) = world.memory.root_sees(page);
        assert_eq!(access, Access::READ);

        // Another LP was faster.
        assert_eq!(world.memory.retry(gpa(n), Access::READ), Retry::Again);
        assert_eq!(world.memory.retry(gpa(n), write), Retry::Denied);
    }
    assert!(world.memory.look_away());
    assert!(!world.memory.look_away());
    for n in BLOCK.start..PUBLIC {
        assert_eq!(world.memory.root_sees(world.page(n)).1, Access::NONE);
    }
    assert_eq!(world.memory.retry(gpa(PUBLIC), write), Retry::Denied);
    assert_eq!(world.memory.retry(gpa(PUBLIC), Access::READ), Retry::Again);
    assert_eq!(world.memory.retry(gpa(600), write), Retry::Again);

    // A page that was looked at, and is given back, stays the root's.
    let claim = world.memory.claim(600 * PAGE_SIZE).unwrap();
    assert_eq!(world.memory.retry(gpa(600), Access::READ), Retry::Hidden);
    world.memory.cancel(claim);
    world.memory.look_away();
    assert_eq!(world.memory.root_sees(world.page(600)), (600 * PAGE_SIZE, Access::ALL));

    let mut devices = (1..1 << 20).map(|n| Gpa::new(n << 39));
    let first = devices.find_map(|at| Some(world.memory.retry(at?, Access::READ)));
    assert_eq!(first, Some(Retry::Again));
    assert!(devices.flatten().any(|at| world.memory.retry(at, Access::READ) == Retry::Denied));
}
