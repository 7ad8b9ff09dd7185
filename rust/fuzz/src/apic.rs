// SPDX-License-Identifier: GPL-2.0

//! The local APIC, by every way in, against sets of vectors and the manual's rules (SDM vol. 3,
//! 12.8).

use hvcore::apic::posted::Posted;
use hvcore::apic::regs::offset::*;
use hvcore::apic::{Apic, Delivery, Effect, Ipi, Target};
use hvcore::mem::frame::host_frame;
use hvcore::policy::cpuid::Clock;

use crate::apic_rules::{self as rules, Vectors};
use crate::bytes::Bytes;

/// Vectors that are requested and in service, as hvcore reports them by registers.
struct Sets {
    requested: Vectors,
    service: Vectors,
    /// Triggered by level.
    level: Vectors,
    tpr: u8,
}

impl Sets {
    fn of(apic: &Apic, now: u64) -> Sets {
        let page = apic.export(now);
        let set = |offset: u16| {
            Vectors(core::array::from_fn(|i| {
                page[usize::from(offset) / 4 + 4 * i]
            }))
        };
        Sets {
            requested: set(IRR),
            service: set(ISR),
            level: set(TMR),
            tpr: page[usize::from(TPR) / 4] as u8,
        }
    }

    fn deliverable(&self) -> Option<u8> {
        let floor = self.service.last().map_or(0, |v| v >> 4).max(self.tpr >> 4);
        self.requested.last().filter(|v| v >> 4 > floor)
    }
}

fn register(apic: &Apic, offset: u16, now: u64) -> u32 {
    apic.export(now)[usize::from(offset) / 4]
}

/// WRMSR of a register: what it takes of it, and each bit that it does not.
fn wrmsr(apic: &mut Apic, offset: u16, value: u64, time: Time) {
    let now = time.now;
    let (taken, either) = rules::writable(offset)
        .filter(|_| apic.x2apic())
        .unwrap_or((0, 0));
    for bit in (0..64).map(|bit| 1 << bit) {
        let refused = (taken | either) & bit != 0 || apic.msr_write(offset, bit, now).is_err();
        assert!(refused, "{offset:#x} takes bit {bit:#x}");
    }
    let there = apic.x2apic() && rules::writable(offset).is_some();
    let high = (value >> 32) as u32;
    written(apic, (offset, value as u32), high, time, |apic| {
        let done = apic.msr_write(offset, value, now);
        if !there || value & !(taken | either) != 0 {
            assert!(done.is_err(), "{offset:#x} takes {value:#x}");
        } else if value & !taken == 0 {
            assert!(done.is_ok(), "{offset:#x} refuses {value:#x}");
        }
        done.unwrap_or(Effect::Eoi { level: Some(0) })
    });
}

/// The timer waits for a deadline, in the VP's time, if it is one that does: in the machine's, what
/// has passed is due now.
fn waits(apic: &Apic, value: u64, offset: u64, now: u64) {
    if register(apic, LVT_TIMER, now) >> 16 & 7 == 0b100 && apic.present() {
        let left = value.saturating_sub(now.wrapping_add(offset));
        let due = (value != 0).then_some(now.saturating_add(left));
        assert_eq!((apic.deadline(), apic.tsc_deadline()), (due, value));
    }
}

/// A write, and what comes of it: the timer, and what is sent. A refused one is an EOI of vector 0,
/// which there is not.
fn written(
    apic: &mut Apic,
    (offset, value): (u16, u32),
    destination: u32,
    time: Time,
    write: impl FnOnce(&mut Apic) -> Effect,
) {
    let now = time.now;
    let (before, page) = (Sets::of(apic, now), apic.export(now));
    let due = apic.deadline().is_some_and(|at| at <= now);
    let at = |page: &[u32; 1024], offset: u16| page[usize::from(offset) / 4];
    let enabled = apic.address().enabled;
    let effect = write(apic);
    let after = Sets::of(apic, now);
    if effect == (Effect::Eoi { level: Some(0) }) {
        assert!(page == apic.export(now), "a refused write of {offset:#x}");
        return;
    }
    let now_in = apic.export(now);
    let unit = time.unit(apic);
    let (lvt, count) = (at(&now_in, LVT_TIMER), at(&now_in, INITIAL_COUNT));
    let (masked, counts) = (lvt >> 16 & 1 != 0, lvt >> 18 & 1 == 0);
    match offset {
        INITIAL_COUNT => {
            assert_eq!(count, [0, value][usize::from(counts)]);
            let end = now.saturating_add(unit * u64::from(count));
            let armed = counts && count != 0 && !masked;
            assert!(!counts || apic.deadline() == armed.then_some(end));
            if time.is_early() && counts {
                assert_eq!(at(&now_in, CURRENT_COUNT), count);
                let later = register(apic, CURRENT_COUNT, now + unit);
                assert_eq!(later, count.saturating_sub(1), "a count after {unit}");
            }
        }
        DIVIDE if time.is_early() => {
            let fired = after.requested.contains(lvt as u8) || (lvt as u8) < 16;
            assert!(!due || masked || fired, "what was due is lost");
            let left = at(&page, CURRENT_COUNT);
            let current = at(&now_in, CURRENT_COUNT);
            // One that ended just now begins anew, if it is periodic; a masked one is not due.
            let again = left == 0 && current == count && lvt >> 17 & 1 != 0;
            assert!(
                due || current == left || again,
                "{current} of {count}, not {left}"
            );
        }
        LVT_TIMER => {
            let kept = value & 0x7_00ff | [1 << 16, 0][usize::from(enabled)];
            assert_eq!(lvt, kept, "{value:#x}");
            let other = (at(&page, LVT_TIMER) ^ lvt) >> 18 & 1 != 0;
            assert!(!other || apic.deadline().is_none() && apic.tsc_deadline() == 0);
        }
        _ => {}
    }
    match (offset, effect) {
        (ICR, effect) => {
            let icr = value & 0xf_ffff;
            let sent = rules::sent(icr, destination);
            let seen = match effect {
                Effect::Ipi(ipi) => Some(ipi),
                _ => None,
            };
            assert_eq!(seen, sent, "{value:#x} to {destination:#x}");
            // To itself: vectors only.
            if icr >> 18 & 3 == 1 && icr >> 8 & 7 == 0 && icr as u8 >= 16 && enabled {
                assert!(after.requested.contains(icr as u8));
                assert!(!after.level.contains(icr as u8), "an edge");
            }
            if let Some(ipi) = sent {
                check_ipi(apic, &ipi);
            }
        }
        (SELF_IPI, _) if apic.x2apic() && value as u8 >= 16 && enabled => {
            assert!(after.requested.contains(value as u8));
        }
        (EOI, Effect::Eoi { level }) => {
            let mut left = before.service;
            let highest = left.pop_last();
            assert_eq!(after.service, left);
            assert_eq!(
                level,
                highest.filter(|vector| before.level.contains(*vector))
            );
        }
        _ => {}
    }
}

/// A count takes as long as the divider says.
fn check_pace(code: u32, clock: Clock) {
    let mut apic = Apic::new(host_frame(2), 0, true, clock);
    apic.write(SVR, 0x1ff, 0);
    apic.write(LVT_TIMER, 0x20, 0);
    apic.write(DIVIDE, code, 0);
    apic.write(INITIAL_COUNT, 3, 0);
    let end = 3 * u64::from(clock.ratio()) * rules::divisor(code);
    assert_eq!(apic.deadline(), Some(end), "divider {code:#x}");
}

/// Who takes what is sent to any destination.
fn check_destinations(apic: &Apic) {
    let (address, page) = (apic.address(), apic.export(0));
    let (ldr, dfr) = (page[usize::from(LDR) / 4], page[usize::from(DFR) / 4]);
    let own = ldr >> 24;
    let bits = (0..8).map(|bit| 1 << bit);
    let clusters = bits
        .clone()
        .flat_map(|bit| [0xf0 | bit, own & 0xf0 | bit, (own ^ 0x10) & 0xf0 | bit]);
    let wide = [
        0,
        address.id,
        address.id ^ 1,
        ldr,
        ldr ^ 1 << 16,
        0xff,
        u32::MAX,
        own,
    ];
    for id in wide.into_iter().chain(bits).chain(clusters) {
        for logical in [false, true] {
            let is = apic.present() && rules::named(&address, ldr, dfr, id, logical);
            assert_eq!(
                address.accepts(id, logical),
                is,
                "{id:#x} {logical} {ldr:#x} {dfr:#x}"
            );
        }
    }
}

/// Who an IPI is for.
fn check_ipi(apic: &Apic, ipi: &Ipi) {
    let address = apic.address();
    let page = apic.export(0);
    let (ldr, dfr) = (page[usize::from(LDR) / 4], page[usize::from(DFR) / 4]);
    let vectors = matches!(ipi.delivery, Delivery::Fixed | Delivery::LowestPriority);
    for mine in [false, true] {
        let meant = match ipi.target {
            Target::Destination { id, logical } => rules::named(&address, ldr, dfr, id, logical),
            Target::Myself => mine,
            Target::All => true,
            Target::Others => !mine,
        };
        let takes = apic.present() && (address.enabled || !vectors);
        assert_eq!(
            address.wants(ipi, mine),
            meant && takes,
            "{ipi:x?} {address:x?} {ldr:#x}"
        );
    }
}

/// When it is, and the ticks of the machine's TSC for each of the crystal's.
#[derive(Clone, Copy)]
struct Time {
    now: u64,
    ratio: u64,
}

impl Time {
    /// Ticks for each count of the timer.
    fn unit(self, apic: &Apic) -> u64 {
        self.ratio * rules::divisor(register(apic, DIVIDE, self.now))
    }

    /// No count from here on ends after the end of time.
    fn is_early(self) -> bool {
        self.now < 1 << 62
    }
}

/// The timer is looked at: it fires if it is due, and not if it is masked.
fn expire(apic: &mut Apic, time: Time) {
    let now = time.now;
    let lvt = register(apic, LVT_TIMER, now);
    let old = apic.deadline().filter(|at| *at <= now);
    let due = old.is_some();
    let before = Sets::of(apic, now).requested;
    apic.expire(now);
    let mut wanted = before;
    if due && lvt as u8 >= 16 && apic.address().enabled {
        wanted.insert(lvt as u8);
    }
    let error = register(apic, LVT_ERROR, now) as u8;
    let mut after = Sets::of(apic, now).requested;
    if due && (lvt as u8) < 16 && !wanted.contains(error) {
        after.remove(error);
    }
    assert_eq!(after, wanted, "the timer fires");
    match lvt >> 17 & 3 {
        // At the end of time there is no later.
        1 => {
            let next = apic.deadline();
            assert!(
                next.is_none_or(|at| at > now.min(u64::MAX - 1)),
                "a period ends later"
            );
            let initial = register(apic, INITIAL_COUNT, now);
            let period = time.unit(apic) * u64::from(initial);
            if let (Some(old), true, true) = (old, time.is_early(), period > 0) {
                let periods = (now - old) / period + 1;
                assert_eq!(next, Some(old + periods * period), "missed ones are one");
            }
        }
        _ => assert!(!due || apic.deadline().is_none(), "it fires once"),
    }
    let (count, initial) = (
        register(apic, CURRENT_COUNT, now),
        register(apic, INITIAL_COUNT, now),
    );
    assert!(count <= initial, "{count} of {initial}");
}

/// A value for a register: any, or for those with fields one whose fields can be.
fn word(bytes: &mut Bytes, offset: u16) -> u32 {
    let (any, vector, mode) = (
        bytes.value() as u32,
        u32::from(bytes.u8()),
        u32::from(bytes.u8()),
    );
    if mode >> 6 == 0 {
        return any;
    }
    let odd = [0, 1 << (any & 31)][usize::from(mode >> 6 == 1)];
    odd ^ match offset {
        SVR => 0x100 | vector,
        LVT_TIMER => vector | (mode & 7) << 16,
        // Delivery, destination mode, level; shorthand.
        ICR => vector | (mode & 31) << 8 | 1 << 14 | (mode >> 4 & 3) << 18,
        LVT_LINT0 | LVT_ERROR => vector | (mode & 7) << 8,
        _ => any,
    }
}

/// One access or event. What it did is checked by who calls.
fn step(apic: &mut Apic, posted: &Posted, bytes: &mut Bytes, time: Time) {
    let now = time.now;
    let kind = bytes.u8();
    // One of all that could be, or mostly of those that are.
    const KNOWN: [u16; 24] = [
        ID,
        VERSION,
        TPR,
        PPR,
        EOI,
        LDR,
        DFR,
        SVR,
        ESR,
        ICR,
        ICR_HIGH,
        LVT_TIMER,
        LVT_LINT0,
        LVT_ERROR,
        INITIAL_COUNT,
        CURRENT_COUNT,
        DIVIDE,
        SELF_IPI,
        SVR,
        LVT_TIMER,
        INITIAL_COUNT,
        LVT_TIMER,
        ICR,
        INITIAL_COUNT,
    ];
    let offset = match bytes.u8() {
        all @ 0..64 => u16::from(all) << 4,
        known => KNOWN[usize::from(known) % 24],
    };
    let effect = match kind & 15 {
        // The registers are in memory in this mode only.
        0..=3 if !apic.in_memory() => Effect::None,
        0 => {
            apic.read(offset | u16::from(kind >> 4), now);
            Effect::None
        }
        1..=3 => {
            let value = word(bytes, offset);
            let high = register(apic, ICR_HIGH, now) >> 24;
            return written(apic, (offset, value), high, time, |apic| {
                apic.write(offset, value, now)
            });
        }
        4 => {
            let read = apic.msr_read(offset, now);
            let is = apic.x2apic() && rules::readable(offset);
            assert_eq!(read.is_ok(), is, "{offset:#x}");
            if let Ok(value) = read {
                assert!(offset == ICR || value >> 32 == 0);
            }
            Effect::None
        }
        5 | 6 => {
            let value = [u64::from(word(bytes, offset)), bytes.value()][usize::from(kind >> 7)];
            return wrmsr(apic, offset, value, time);
        }
        7 => return expire(apic, time),
        8 => {
            let (value, offset) = (bytes.value(), bytes.value());
            let value =
                [value, now.wrapping_add(offset).wrapping_add(value)][usize::from(kind >> 7)];
            apic.write_tsc_deadline(value, offset, now);
            return waits(apic, value, offset, now);
        }
        9 => {
            let (old, any) = (apic.base(), bytes.value());
            let bits = [any, any << 10 & 0xc00][usize::from(kind >> 7)];
            let value = old ^ bits & 0xd00 ^ bits & 0xff_0000_0000;
            let done = apic.write_base(value, 39);
            // EN and EXTD (SDM vol. 3, figure 12-26).
            let illegal = match (old >> 10 & 3, value >> 10 & 3) {
                (_, 1) | (0, 3) | (3, 2) => true,
                _ => value >> 39 != 0 || value & 0x2ff != 0,
            };
            assert_eq!(done.is_err(), illegal, "{old:#x} to {value:#x}");
            assert!(
                done.is_ok() || apic.base() == old,
                "a refused write of APIC_BASE"
            );
            assert_eq!((apic.base() ^ old) & 0x100, 0, "BSP is not for writing");
            assert!(apic.present() || !apic.x2apic());
            Effect::None
        }
        10 | 11 => {
            let vector = bytes.u8();
            posted.post(vector, kind >> 4 & 1 != 0);
            let events = posted.drain(apic);
            assert_eq!(events, Default::default(), "vectors are no events");
            assert!(!posted.any());
            if apic.present() && vector >= 16 && apic.address().enabled {
                let sets = Sets::of(apic, now);
                assert!(sets.requested.contains(vector));
                assert_eq!(sets.level.contains(vector), kind >> 4 & 1 != 0, "level");
            }
            Effect::None
        }
        12 => {
            apic.init();
            assert_eq!(apic.pending(), None);
            Effect::None
        }
        13 => {
            let mut page = [0; 1024];
            (0..24).for_each(|_| page[usize::from(bytes.u8()) * 4] = bytes.u32());
            apic.import(&page, now);
            Effect::None
        }
        14 => {
            return written(apic, (EOI, 0), 0, time, |apic| apic.write(EOI, 0, now));
        }
        _ => {
            let (offset, value) = (bytes.u64(), apic.tsc_deadline());
            apic.set_tsc_offset(offset, now);
            return waits(apic, value, offset, now);
        }
    };
    assert_eq!(effect, Effect::None);
}

pub fn run(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let clock = Clock::new(bytes.value());
    let id = bytes.u8() & 63;
    let mut apic = Apic::new(host_frame(1), id.into(), id == 0, clock);
    let posted = Posted::new();
    // As a system has it soon after its start.
    if bytes.u8() & 3 != 0 {
        apic.write(SVR, 0x1ff, 0);
    }
    check_pace(u32::from(data.len() as u8), clock);
    let mut now = 0u64;
    let mut steps = 0;
    while !bytes.is_empty() && steps < 100 {
        now = now.saturating_add([1, bytes.value()][usize::from(steps % 4 == 3)]);
        let ratio = clock.ratio().into();
        step(&mut apic, &posted, &mut bytes, Time { now, ratio });
        steps += 1;
        check_destinations(&apic);
        let sets = Sets::of(&apic, now);
        assert!(
            sets.requested.first().is_none_or(|v| v >= 16),
            "{:?}",
            sets.requested
        );
        assert!(
            sets.service.first().is_none_or(|v| v >= 16),
            "{:?}",
            sets.service
        );
        let enabled = apic.address().enabled && apic.present();
        let page = apic.export(now);
        for lvt in (LVT_TIMER..=LVT_ERROR).step_by(16) {
            let masked = page[usize::from(lvt) / 4] >> 16 & 1 != 0;
            assert!(masked || apic.address().enabled, "{lvt:#x} is not masked");
        }
        if apic.x2apic() {
            let id = u32::from(id);
            assert_eq!(page[usize::from(LDR) / 4], id / 16 << 16 | 1 << (id % 16));
        }
        assert_eq!(apic.pending(), sets.deliverable().filter(|_| enabled));
        let ppr = apic.ppr();
        let top = sets.service.last().map_or(0, |v| v & 0xf0);
        assert_eq!(
            ppr,
            if sets.tpr >> 4 >= top >> 4 {
                sets.tpr
            } else {
                top
            }
        );
        if let Some(vector) = apic.pending().filter(|_| steps % 2 == 0) {
            apic.accept(vector);
            let after = Sets::of(&apic, now);
            assert!(after.service.contains(vector) && !after.requested.contains(vector));
        }
        assert_eq!(page[usize::from(VERSION) / 4], 0x5_0014);
        let shown = if apic.x2apic() {
            u32::from(id)
        } else {
            u32::from(id) << 24
        };
        assert_eq!(page[usize::from(ID) / 4], shown);
    }
}
