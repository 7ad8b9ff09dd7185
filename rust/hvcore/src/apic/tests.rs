// SPDX-License-Identifier: GPL-2.0

use std::collections::BTreeSet;

use super::*;
use crate::mem::frame::host_frame;
use crate::mem::rng::Rng;

/// One TSC tick is one tick of the crystal.
const CLOCK: Clock = Clock::new(1_000_000);

pub(super) fn reset(id: u32) -> Apic {
    Apic::new(host_frame(1), id, id == 0, CLOCK)
}

/// Software-enabled, in xAPIC mode.
pub(super) fn apic() -> Apic {
    let mut a = reset(0);
    a.write(SVR, 0x1ff, 0);
    a
}

pub(super) fn x2apic(id: u32) -> Apic {
    let mut a = reset(id);
    a.write_base(a.base() | BASE_EXTD, 39).unwrap();
    a.msr_write(SVR, 0x1ff, 0).unwrap();
    a
}

#[test]
fn reset_values() {
    let mut a = reset(3);
    let values = [
        (ID, 3 << 24),
        (VERSION, 0x5_0014),
        (TPR, 0),
        (PPR, 0),
        (LDR, 0),
        (DFR, u32::MAX),
        (SVR, 0xff),
        (ISR, 0),
        (TMR + 0x70, 0),
        (IRR + 0x30, 0),
        (ESR, 0),
        (ICR, 0),
        (ICR_HIGH, 0),
        (LVT_TIMER, 0x10000),
        (LVT_THERMAL, 0x10000),
        (LVT_PERF, 0x10000),
        (LVT_LINT0, 0x10000),
        (LVT_LINT1, 0x10000),
        (LVT_ERROR, 0x10000),
        (INITIAL_COUNT, 0),
        (CURRENT_COUNT, 0),
        (DIVIDE, 0),
    ];
    for (offset, value) in values {
        assert_eq!(a.read(offset, 0), value, "{offset:#x}");
    }
    assert_eq!((a.base(), reset(0).base()), (0xfee0_0800, 0xfee0_0900));
    assert_eq!((a.deadline(), a.pending(), a.tsc_deadline()), (None, None, 0));
    // INIT brings them back, whatever happened.
    for offset in (0..0x400).step_by(4) {
        a.write(offset, 0x3d5, 1);
    }
    a.set_irr(200, true);
    a.init();
    for (offset, value) in values {
        assert_eq!(a.read(offset, 0), value, "{offset:#x} after INIT");
    }
}

#[test]
fn writes_keep_to_the_bits_that_exist() {
    let mut a = apic();
    for (offset, want) in [
        (TPR, 0xff),
        (LDR, 0xff00_0000),
        (DFR, u32::MAX),
        (LVT_TIMER, 0x700ff),
        (LVT_THERMAL, 0x107ff),
        (LVT_PERF, 0x107ff),
        (LVT_LINT0, 0x1a7ff),
        (LVT_LINT1, 0x1a7ff),
        (LVT_ERROR, 0x100ff),
        (DIVIDE, 0xb),
        (SVR, 0x3ff),
        (VERSION, 0x5_0014),
        (ID, 0),
        (ICR_HIGH, 0xff00_0000),
    ] {
        a.write(offset, u32::MAX, 0);
        assert_eq!(a.read(offset, 0), want, "{offset:#x}");
    }
    a.write(DFR, 0, 0);
    assert_eq!(a.read(DFR, 0), 0x0fff_ffff);
    // Disabled by software: everything is masked and stays so.
    a.write(LVT_ERROR, 0x33, 0);
    a.write(SVR, 0xff, 0);
    assert_eq!(a.read(LVT_ERROR, 0), 0x10033);
    a.write(LVT_ERROR, 0x33, 0);
    assert_eq!(a.read(LVT_ERROR, 0), 0x10033);
    assert!(!a.set_irr(0x40, false));
}

#[test]
fn no_access_breaks_it() {
    let mut rng = Rng::new(3);
    for mut a in [apic(), x2apic(1)] {
        for now in 0..100_000 {
            let (offset, value) = (rng.next() as u16, rng.next());
            match rng.below(7) {
                0 => drop(a.read(offset, now)),
                1 => drop(a.write(offset & 0xff0, value as u32, now)),
                2 => drop(a.msr_read(offset & 0xff0, now)),
                3 => drop(a.msr_write(offset & 0xff0, value & 0xffff, now)),
                4 => a.expire(now),
                5 => a.write_tsc_deadline(value, value << 7, now),
                _ => drop(a.written(offset, now)),
            }
            if let Some(vector) = a.pending() {
                assert!(vector >= 16);
                a.accept(vector);
            }
        }
        let page = core::array::from_fn(|_| rng.next() as u32);
        a.import(&page, u64::MAX);
        a.export(u64::MAX);
        assert!(a.pending() >= Some(16) || a.pending().is_none());
    }
}

/// The rules of 12.8, by sets.
#[derive(Default)]
struct Model {
    requested: BTreeSet<u8>,
    service: BTreeSet<u8>,
    level: BTreeSet<u8>,
    tpr: u8,
}

impl Model {
    fn deliverable(&self) -> Option<u8> {
        let floor = self.service.last().map_or(0, |v| v >> 4).max(self.tpr >> 4);
        self.requested.last().copied().filter(|v| v >> 4 > floor)
    }
}

#[test]
fn priorities() {
    for seed in 0..200 {
        let mut rng = Rng::new(seed);
        let mut a = apic();
        let mut m = Model::default();
        for _ in 0..300 {
            let vector = 16 + rng.below(240) as u8;
            match rng.below(6) {
                0..=2 => {
                    let level = rng.below(2) == 0;
                    assert!(a.set_irr(vector, level));
                    m.requested.insert(vector);
                    if level {
                        m.level.insert(vector);
                    } else {
                        m.level.remove(&vector);
                    }
                }
                3 => {
                    let Some(vector) = a.pending() else { continue };
                    a.accept(vector);
                    assert!(m.requested.remove(&vector) && m.service.insert(vector));
                }
                4 => {
                    let level = m.service.pop_last().filter(|v| m.level.contains(v));
                    assert_eq!(a.write(EOI, 0, 0), Effect::Eoi { level });
                }
                _ => {
                    m.tpr = rng.next() as u8;
                    a.write(TPR, m.tpr.into(), 0);
                }
            }
            assert_eq!(a.pending(), m.deliverable(), "seed {seed}");
            let top = |set: &BTreeSet<u8>| u16::from(set.last().copied().unwrap_or(0));
            assert_eq!(a.status(), top(&m.service) << 8 | top(&m.requested));
            let in_service = m.service.last().map_or(0, |v| v & 0xf0);
            let ppr = if m.tpr >> 4 >= in_service >> 4 { m.tpr } else { in_service };
            assert_eq!(a.read(PPR, 0), ppr.into());
        }
    }
}

#[test]
fn illegal_vectors_are_errors() {
    let mut a = apic();
    a.write(LVT_ERROR, 0x70, 0);
    assert_eq!(a.write(ICR, 15, 0), Effect::None);
    assert_eq!(a.pending(), Some(0x70));
    assert_eq!(a.read(ESR, 0), 0);
    a.write(ESR, 0, 0);
    assert_eq!(a.read(ESR, 0), 1 << 5);
    assert!(!a.set_irr(3, false));
    a.read(0x40, 0);
    a.write(ESR, 0, 0);
    assert_eq!(a.read(ESR, 0), 1 << 6 | 1 << 7);
    a.write(ESR, 0, 0);
    assert_eq!(a.read(ESR, 0), 0);
}

#[test]
fn ipis() {
    let mut a = apic();
    let to = |id, logical| Target::Destination { id, logical };
    let ipi = |vector, delivery, target| Effect::Ipi(Ipi { vector, delivery, target });
    a.write(ICR_HIGH, 0x0512_3456, 0);
    assert_eq!(a.write(ICR, 0x4041, 0), ipi(0x41, Delivery::Fixed, to(5, false)));
    assert_eq!(a.write(ICR, 0x4941, 0), ipi(0x41, Delivery::LowestPriority, to(5, true)));
    assert_eq!(a.write(ICR, 0xc4400, 0), ipi(0, Delivery::Nmi, Target::Others));
    assert_eq!(a.write(ICR, 0x4500, 0), ipi(0, Delivery::Init, to(5, false)));
    assert_eq!(a.write(ICR, 0x8500, 0), Effect::None, "INIT level de-assert");
    assert_eq!(a.write(ICR, 0x4699, 0), ipi(0x99, Delivery::Startup, to(5, false)));
    assert_eq!(a.write(ICR, 0x80041, 0), ipi(0x41, Delivery::Fixed, Target::All));
    assert_eq!(a.write(ICR, 0x0341, 0), Effect::None, "reserved mode");
    assert_eq!(a.write(ICR, 0x0741, 0), Effect::None, "ExtINT");
    assert_eq!(a.pending(), None);
    assert_eq!(a.write(ICR, 0x40041, 0), Effect::None);
    assert_eq!(a.pending(), Some(0x41));
    assert_eq!(a.read(ICR, 0), 0x40041);
    // By the processor's own write to the page.
    a.put(ICR, 0x4042);
    assert_eq!(a.written(ICR + 2, 0), ipi(0x42, Delivery::Fixed, to(5, false)));
    let mut x = x2apic(1);
    let sent = x.msr_write(ICR, 0x1_0002 << 32 | 0x4841, 0);
    assert_eq!(sent, Ok(ipi(0x41, Delivery::Fixed, to(0x1_0002, true))));
    assert_eq!(x.msr_read(ICR, 0), Ok(0x1_0002 << 32 | 0x4841));
    assert_eq!(x.msr_write(SELF_IPI, 0x55, 0), Ok(Effect::None));
    assert_eq!(x.pending(), Some(0x55));
}

#[test]
fn apic_base() {
    let en = 0xfee0_0000 | BASE_ENABLE;
    let mut a = reset(1);
    for bad in [en | 1, en | 1 << 9, en | 1 << 39, 0xfee0_0000 | BASE_EXTD, u64::MAX] {
        assert_eq!(a.write_base(bad, 39), Err(Gp), "{bad:#x}");
    }
    a.write(SVR, 0x1ff, 0);
    a.write(TPR, 0x20, 0);
    assert_eq!(a.msr_read(ID, 0), Err(Gp));
    assert_eq!(a.write_base(en | BASE_EXTD | BASE_BSP, 39), Ok(()));
    assert_eq!(a.base(), en | BASE_EXTD, "BSP is not for writing");
    assert_eq!((a.msr_read(ID, 0), a.msr_read(TPR, 0)), (Ok(1), Ok(0x20)));
    assert_eq!(a.msr_read(LDR, 0), Ok(2));
    assert_eq!(a.write_base(en, 39), Err(Gp), "x2APIC to xAPIC");
    assert_eq!(a.write_base(0xfee0_0000, 39), Ok(()));
    assert!(!a.present() && !a.set_irr(0x40, false));
    assert_eq!(
        (a.lint(LVT_LINT0), a.lint(LVT_LINT1)),
        (Some((Delivery::ExtInt, 0)), Some((Delivery::Nmi, 0)))
    );
    assert_eq!(a.write_base(en | BASE_EXTD, 39), Err(Gp), "disabled to x2APIC");
    assert_eq!(a.write_base(en, 39), Ok(()));
    assert_eq!((a.read(TPR, 0), a.read(SVR, 0), a.read(ID, 0)), (0, 0xff, 1 << 24));
    assert_eq!(a.write_base(0x1234_5000 | BASE_ENABLE, 39), Ok(()));
    // INIT keeps the mode.
    let mut x = x2apic(0x25);
    x.init();
    assert!(x.x2apic());
    assert_eq!((x.msr_read(LDR, 0), x.msr_read(ID, 0)), (Ok(2 << 16 | 1 << 5), Ok(0x25)));
}

#[test]
fn x2apic_registers() {
    let mut a = x2apic(1);
    for offset in (0..0x1000).step_by(16) {
        let read = a.msr_read(offset, 0).is_ok();
        let known = matches!(
            offset,
            ID | VERSION | TPR | PPR | LDR | SVR | 0x100..=0x280 | ICR | 0x320..=0x390 | DIVIDE
        );
        assert_eq!(read, known, "read {offset:#x}");
        let write = a.msr_write(offset, 0, 0).is_ok();
        let known =
            matches!(offset, TPR | EOI | SVR | ESR | 0x320..=0x380 | DIVIDE | SELF_IPI | ICR);
        assert_eq!(write, known, "write {offset:#x}");
    }
    for (offset, bad) in [
        (TPR, 0x100),
        (EOI, 1),
        (ESR, 1),
        (SVR, 0x400),
        (SVR, 1 << 32),
        (ICR, 1 << 20),
        (ICR, 1 << 13),
        (LVT_TIMER, 1 << 19),
        (LVT_TIMER, 1 << 8),
        (LVT_ERROR, 1 << 17),
        (INITIAL_COUNT, 1 << 32),
        (DIVIDE, 4),
        (SELF_IPI, 0x100),
    ] {
        assert_eq!(a.msr_write(offset, bad, 0), Err(Gp), "{offset:#x} {bad:#x}");
    }
}

#[test]
fn one_shot_and_periodic() {
    let mut a = apic();
    a.write(DIVIDE, 0xb, 0);
    a.write(LVT_TIMER, 0x40, 0);
    assert_eq!(a.write(INITIAL_COUNT, 1000, 500), Effect::Timer);
    assert_eq!(a.deadline(), Some(1500));
    assert_eq!((a.read(CURRENT_COUNT, 500), a.read(CURRENT_COUNT, 1499)), (1000, 1));
    a.expire(1499);
    assert_eq!(a.pending(), None);
    a.expire(1500);
    assert_eq!((a.pending(), a.deadline(), a.read(CURRENT_COUNT, 1600)), (Some(0x40), None, 0));
    a.accept(0x40);
    a.write(EOI, 0, 0);

    a.write(LVT_TIMER, 0x2_0041, 2000);
    a.write(INITIAL_COUNT, 100, 2000);
    a.expire(2100);
    assert_eq!((a.pending(), a.deadline()), (Some(0x41), Some(2200)));
    // Missed periods are one interrupt, and the phase stays.
    a.expire(2555);
    assert_eq!((a.deadline(), a.read(CURRENT_COUNT, 2555)), (Some(2600), 45));
    assert_eq!(a.read(CURRENT_COUNT, 2750), 50);
    a.write(INITIAL_COUNT, 0, 2800);
    assert_eq!(a.deadline(), None);

    for (code, divide) in [(0, 2), (1, 4), (2, 8), (3, 16), (8, 32), (9, 64), (10, 128), (11, 1)] {
        a.write(DIVIDE, code, 0);
        a.write(INITIAL_COUNT, 10, 0);
        assert_eq!(a.deadline(), Some(10 * divide));
    }
    // A new pace counts for what remains.
    a.write(DIVIDE, 0, 5);
    assert_eq!((a.deadline(), a.read(CURRENT_COUNT, 5)), (Some(15), 5));
    a.write(INITIAL_COUNT, u32::MAX, u64::MAX - 5);
    assert_eq!(a.deadline(), Some(u64::MAX));
}

/// A guest may change the pace just when the count ends, and nobody has looked yet.
#[test]
fn a_new_pace_does_not_take_back_what_was_due() {
    for mode in [0, 0x2_0000] {
        let mut a = apic();
        a.write(DIVIDE, 0xb, 0);
        a.write(LVT_TIMER, mode | 0x40, 0);
        a.write(INITIAL_COUNT, 100, 0);
        a.write(DIVIDE, 0, 100);
        assert_eq!(a.pending(), Some(0x40));
        assert_eq!(a.deadline(), (mode != 0).then_some(300));
    }
}

#[test]
fn masked_timers_stay_silent() {
    let mut a = apic();
    a.write(DIVIDE, 0xb, 0);
    a.write(LVT_TIMER, 0x1_0040, 0);
    a.write(INITIAL_COUNT, 10, 0);
    assert_eq!(a.deadline(), None);
    assert_eq!(a.read(CURRENT_COUNT, 4), 6);
    // Unmasked after it expired: too late.
    a.put(LVT_TIMER, 0x40);
    a.written(LVT_TIMER, 20);
    a.expire(21);
    assert_eq!((a.pending(), a.deadline()), (None, None));
    // Due under the old vector when the vector changes.
    a.write(INITIAL_COUNT, 10, 30);
    a.write(LVT_TIMER, 0x50, 45);
    assert_eq!(a.pending(), Some(0x40));
    // Disabled by software.
    let mut a = apic();
    a.write(LVT_TIMER, 0x40, 0);
    a.write(INITIAL_COUNT, 10, 0);
    a.write(SVR, 0xff, 0);
    assert_eq!(a.deadline(), None);
    a.expire(1000);
    a.write(SVR, 0x1ff, 0);
    assert_eq!(a.pending(), None);
}

#[test]
fn tsc_deadline() {
    let mut a = apic();
    a.write_tsc_deadline(5, 0, 0);
    assert_eq!((a.tsc_deadline(), a.deadline()), (0, None), "not in that mode");
    a.write(LVT_TIMER, 0x4_0040, 0);
    // The VP's time is 1000 less than the machine's.
    let offset = 1000u64.wrapping_neg();
    a.write_tsc_deadline(4500, offset, 5000);
    assert_eq!((a.tsc_deadline(), a.deadline()), (4500, Some(5500)));
    a.write(INITIAL_COUNT, 7, 5000);
    assert_eq!((a.read(INITIAL_COUNT, 5000), a.deadline()), (0, Some(5500)));
    a.set_tsc_offset(0, 5000);
    assert_eq!((a.tsc_deadline(), a.deadline()), (4500, Some(5000)));
    a.expire(5000);
    assert_eq!((a.pending(), a.tsc_deadline(), a.deadline()), (Some(0x40), 0, None));
    a.write_tsc_deadline(u64::MAX, 0, 5000);
    assert_eq!(a.deadline(), Some(u64::MAX));
    a.write_tsc_deadline(0, 0, 5000);
    assert_eq!(a.deadline(), None);
    a.write_tsc_deadline(9000, 0, 5000);
    a.write(LVT_TIMER, 0x40, 5000);
    assert_eq!((a.tsc_deadline(), a.deadline()), (0, None), "disarmed by the change of mode");
}

#[test]
fn state_goes_out_and_in() {
    let mut a = apic();
    a.write(DIVIDE, 0xb, 0);
    a.write(LVT_TIMER, 0x2_0040, 0);
    a.write(INITIAL_COUNT, 100, 0);
    a.write(LVT_LINT0, 0x700, 0);
    a.write(LDR, 2 << 24, 0);
    a.write(TPR, 0x10, 0);
    a.set_irr(0x50, true);
    a.set_irr(0x60, false);
    a.accept(0x60);
    let page = a.export(30);
    let mut b = Apic::new(host_frame(2), 0, true, CLOCK);
    b.import(&page, 1030);
    assert_eq!(b.export(1030), page);
    assert_eq!(b.deadline(), Some(1100));
    assert_eq!(b.lint(LVT_LINT0), Some((Delivery::ExtInt, 0)));
    assert_eq!((b.pending(), b.status()), (None, 0x6050));
    b.write(EOI, 0, 0);
    assert_eq!(b.pending(), Some(0x50));
}

/// The registers do not hold the deadline: who sets them has to arm it again.
#[test]
fn a_deadline_after_an_import() {
    let mut a = apic();
    a.write(LVT_TIMER, 0x4_0041, 0);
    a.write_tsc_deadline(900, 100, 0);
    assert_eq!((a.deadline(), a.tsc_deadline()), (Some(800), 900));
    let page = a.export(10);
    a.import(&page, 10);
    assert_eq!((a.deadline(), a.tsc_deadline()), (None, 0));
    a.write_tsc_deadline(900, 100, 10);
    assert_eq!(a.deadline(), Some(800));
    a.expire(800);
    assert_eq!((a.pending(), a.deadline()), (Some(0x41), None));
}
