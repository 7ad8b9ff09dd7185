// SPDX-License-Identifier: GPL-2.0

use std::collections::BTreeSet;

use super::posted::{arbitrate, Address, Events, Posted};
use super::regs::offset::EOI;
use super::tests::{apic, reset, x2apic};
use super::{Delivery, Effect, Ipi, Target};

#[test]
fn destinations() {
    let x = Address { id: 5, ldr: 0x20, flat: true, present: true, x2apic: false, enabled: true };
    for (dest, logical, want) in [
        (5, false, true),
        (4, false, false),
        (0xff, false, true),
        (u32::MAX, false, true),
        (0x20, true, true),
        (0x60, true, true),
        (0x40, true, false),
        (0xff, true, true),
        (0x120, true, false),
        (0x105, false, false),
    ] {
        assert_eq!(x.accepts(dest, logical), want, "{dest:#x} {logical}");
        assert!(!Address { present: false, ..x }.accepts(dest, logical));
    }
    let cluster = Address { flat: false, ldr: 0x24, ..x };
    for (dest, want) in [(0x24, true), (0x26, true), (0x22, false), (0x34, false), (0xf4, true)] {
        assert_eq!(cluster.accepts(dest, true), want, "{dest:#x}");
    }
    let x2 = Address { id: 0x25, x2apic: true, ..x };
    for (dest, want) in [
        (0x2_0020, true),
        (0x2_ffff, true),
        (0x2_0010, false),
        (0x1_0020, false),
        (0xff, false),
        (u32::MAX, true),
    ] {
        assert_eq!(x2.accepts(dest, true), want, "{dest:#x}");
    }
    let posted = Posted::new();
    assert!(!posted.address().accepts(u32::MAX, false));
    for address in [x, cluster, x2, reset(7).address(), x2apic(9).address()] {
        posted.publish(address);
        assert_eq!(posted.address(), address);
    }
    assert_eq!(arbitrate(0, 3), None);
    let turns = [0, 1, 2, 3, 64].map(|turn| arbitrate(0b1010, turn));
    assert_eq!(turns, [1, 1, 3, 3, 1].map(Some));
}

#[test]
fn recipients() {
    let on = Address { id: 3, ldr: 8, flat: true, present: true, x2apic: false, enabled: true };
    let wants = |address: &Address, delivery, target, mine| {
        address.wants(&Ipi { vector: 0x30, delivery, target }, mine)
    };
    let to = |id, logical| Target::Destination { id, logical };
    for (target, other, mine) in [
        (Target::Myself, false, true),
        (Target::All, true, true),
        (Target::Others, true, false),
        (to(3, false), true, true),
        (to(4, false), false, false),
        (to(0xff, false), true, true),
        (to(0xc, true), true, true),
        (to(7, true), false, false),
    ] {
        assert_eq!(wants(&on, Delivery::Fixed, target, false), other, "{target:?}");
        assert_eq!(wants(&on, Delivery::Fixed, target, true), mine, "{target:?} mine");
    }
    let (soft, off) = (Address { enabled: false, ..on }, Address { present: false, ..on });
    for delivery in [
        Delivery::Fixed,
        Delivery::LowestPriority,
        Delivery::Nmi,
        Delivery::Init,
        Delivery::Startup,
    ] {
        let vector = matches!(delivery, Delivery::Fixed | Delivery::LowestPriority);
        assert_eq!(wants(&soft, delivery, Target::All, false), !vector, "{delivery:?}");
        assert!(!wants(&off, delivery, Target::All, false), "{delivery:?}");
    }
}

#[test]
fn posting() {
    let (posted, mut a) = (Posted::new(), apic());
    assert!(!posted.any());
    assert!(posted.post(0x41, false));
    assert!(!posted.post(0xff, true));
    assert!(!posted.post_nmi());
    let nmi = Events { nmi: true, ..Events::default() };
    assert_eq!(posted.drain(&mut a), nmi);
    assert_eq!(posted.drain(&mut a), Events::default());
    assert_eq!(a.pending(), Some(0xff));
    a.accept(0xff);
    assert_eq!(a.write(EOI, 0, 0), Effect::Eoi { level: Some(0xff) });
    assert_eq!(a.pending(), Some(0x41));
    // The same vector, now by an edge.
    posted.post(0xff, false);
    posted.drain(&mut a);
    a.accept(0xff);
    assert_eq!(a.write(EOI, 0, 0), Effect::Eoi { level: None });
    assert!(posted.post_startup(0x12));
    assert!(!posted.post_init() && !posted.post_startup(0x98) && !posted.post_startup(0x99));
    let start = Events { init: true, startup: Some(0x99), ..Events::default() };
    assert_eq!(posted.drain(&mut a), start);
    // The 8259A's does not pass the APIC.
    posted.post_external(8);
    posted.post_startup(0x12);
    let both = Events { external: Some(8), startup: Some(0x12), ..Events::default() };
    assert_eq!(posted.drain(&mut a), both);
    assert_eq!(a.pending(), Some(0x41));
    // It is taken back, and comes again.
    posted.post_external(8);
    posted.clear_external();
    let clear = Events { clear: true, ..Events::default() };
    assert_eq!(posted.drain(&mut a), clear);
    posted.clear_external();
    posted.post_external(9);
    assert_eq!(posted.drain(&mut a), Events { external: Some(9), ..clear });
    assert_eq!(posted.drain(&mut a), Events::default());
}

/// Each vector that is posted arrives, also while the VP drains.
#[test]
fn nothing_is_lost_between_lps() {
    let posted = Posted::new();
    let mut a = apic();
    let mut seen = BTreeSet::new();
    std::thread::scope(|scope| {
        let senders: Vec<_> = (0..2u8)
            .map(|half| {
                let posted = &posted;
                scope.spawn(move || {
                    for vector in (16 + half..=255).step_by(2) {
                        posted.post(vector, false);
                    }
                })
            })
            .collect();
        loop {
            let done = senders.iter().all(|sender| sender.is_finished());
            posted.drain(&mut a);
            while let Some(vector) = a.pending() {
                a.accept(vector);
                a.write(EOI, 0, 0);
                assert!(seen.insert(vector));
            }
            if done {
                break;
            }
        }
    });
    assert_eq!(seen.len(), 240);
}
