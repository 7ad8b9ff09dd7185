// SPDX-License-Identifier: GPL-2.0

//! Property tests of all of memory, against [the model](super::world).

use std::collections::{HashSet, VecDeque};

use super::addr::{Gpa, Size, PAGE_SIZE};
use super::ept::Access;
use super::rng::Rng;
use super::space::Retry;
use super::world::{choose_op, Op, World, BLOCK, FIRST, PAGES, PLAYED, PUBLIC};

#[test]
fn random_sequences() {
    let seeds = if soak() { 20_000 } else { 150 };
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

fn soak() -> bool {
    std::env::var_os("SOAK").is_some_and(|soak| !soak.is_empty())
}

/// What can be done with two children and two pages, one step at a time.
fn small_ops(children: u64, pages: u64) -> Vec<Op> {
    let mut ops = vec![Op::Sync];
    for c in 0..children {
        for page in FIRST..FIRST + pages {
            ops.push(Op::Deposit(c, page, 1));
            for private in [false, true] {
                ops.push(Op::Map(c, page - FIRST, page, 1, Size::K4, private));
            }
        }
        // Once more, at another address.
        ops.push(Op::Map(c, pages, FIRST, 1, Size::K4, false));
        ops.extend((0..=pages).map(|gpa| Op::Unmap(c, gpa, 1)));
        ops.extend([Op::Destroy(c), Op::Withdraw(c, PAGES)]);
    }
    ops
}

/// Pages for the tables of a child, from elsewhere. It takes 6: one for each level, and two for the
/// local APIC's page.
fn tables(c: u64) -> Op {
    Op::Deposit(c, FIRST + 600 + c * 8, 6)
}

fn small_world(children: u64, way: &[Op]) -> World {
    let mut world = World::new(children, 24);
    (0..children).for_each(|c| world.apply(tables(c)));
    world.apply(Op::Sync);
    way.iter().for_each(|op| world.apply(*op));
    world
}

/// A small machine in every state that it can come to: each operation is tried in each state, until
/// no new state is found. The number of states.
fn all_states(children: u64, pages: u64, more: &[Op]) -> usize {
    let small = FIRST..FIRST + pages;
    let ops = [&small_ops(children, pages), more].concat();
    let start = small_world(children, &[]).state(small.clone());
    let mut seen = HashSet::from([start]);
    // A world cannot be copied: what leads to it is kept.
    let mut ways = VecDeque::from([Vec::new()]);
    while let Some(way) = ways.pop_front() {
        for op in &ops {
            let next = [&way[..], &[*op]].concat();
            let mut world = small_world(children, &next);
            world.check(small.clone(), &next);
            if seen.insert(world.state(small.clone())) {
                ways.push_back(next);
                world.end();
            }
        }
    }
    seen.len()
}

/// Two pages and a child, whose tables come and go too: so those are sometimes made of the two.
#[test]
fn all_states_of_a_small_machine() {
    let states = all_states(1, 2, &[tables(0), Op::Withdraw(0, 1)]);
    assert!(states > 1000, "only {states} states: what was not tried?");
}

/// A page and two children.
#[test]
fn all_states_of_two_children() {
    if soak() {
        let states = all_states(2, 1, &[]);
        std::println!("{states} states");
        assert!(states > 1000, "only {states} states: what was not tried?");
    }
}

/// Every sequence of that many operations on two pages and two children.
#[test]
fn all_sequences_on_a_small_machine() {
    let depth = if soak() { 4 } else { 3 };
    let ops = small_ops(2, 2);
    for number in 0..ops.len().pow(depth) {
        let digits = core::iter::successors(Some(number), |rest| Some(rest / ops.len()));
        let way: Vec<Op> = digits.take(depth as usize).map(|rest| ops[rest % ops.len()]).collect();
        let mut world = small_world(2, &[]);
        for op in &way {
            world.apply(*op);
            world.check(FIRST..FIRST + 2, &way);
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

/// With a bit of the address that names a key, the root would reach the same memory.
#[test]
fn nothing_lies_beyond_the_width_of_addresses() {
    let mut world = World::new(1, 24);
    let mut read = |at| world.memory.retry(Gpa::new(at).unwrap(), Access::READ);
    assert_eq!(read((1 << 46) - PAGE_SIZE), Retry::Again);
    for bit in 46..48 {
        assert_eq!(read(1 << bit | BLOCK.start * PAGE_SIZE), Retry::Denied, "bit {bit}");
    }
}
