// SPDX-License-Identifier: GPL-2.0

//! The local APIC, by every way in, against sets of vectors and the manual's rules (SDM vol. 3,
//! 12.8).

use std::collections::BTreeSet;

use hvcore::apic::posted::Posted;
use hvcore::apic::regs::offset::*;
use hvcore::apic::{Apic, Delivery, Effect, Target};
use hvcore::mem::frame::host_frame;
use hvcore::policy::cpuid::Clock;

use crate::bytes::Bytes;

/// Vectors that are requested and in service, as hvcore reports them by registers.
struct Sets {
    requested: BTreeSet<u8>,
    service: BTreeSet<u8>,
    /// Triggered by level.
    level: BTreeSet<u8>,
    tpr: u8,
}

impl Sets {
    fn of(apic: &Apic, now: u64) -> Sets {
        let page = apic.export(now);
        let set = |offset: u16| {
            let words = (0..8).map(|i| page[usize::from(offset) / 4 + 4 * i]);
            let bits = |(i, word): (usize, u32)| {
                (0..32)
                    .filter(move |bit| word >> bit & 1 != 0)
                    .map(move |bit| (32 * i + bit) as u8)
            };
            words.enumerate().flat_map(bits).collect()
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
        self.requested.last().copied().filter(|v| v >> 4 > floor)
    }
}

fn register(apic: &Apic, offset: u16, now: u64) -> u32 {
    apic.export(now)[usize::from(offset) / 4]
}

fn panic_if(written: bool) -> u64 {
    assert!(!written, "a register that cannot be written");
    0
}

/// The timer is looked at: it fires if it is due, and not if it is masked.
fn expire(apic: &mut Apic, now: u64) {
    let lvt = register(apic, LVT_TIMER, now);
    let due = apic.deadline().is_some_and(|at| at <= now);
    let before = Sets::of(apic, now).requested;
    apic.expire(now);
    let mut wanted = before;
    if due && lvt as u8 >= 16 && apic.address().enabled {
        wanted.insert(lvt as u8);
    }
    let error = register(apic, LVT_ERROR, now) as u8;
    let mut after = Sets::of(apic, now).requested;
    if due && (lvt as u8) < 16 && !wanted.contains(&error) {
        after.remove(&error);
    }
    assert_eq!(after, wanted, "the timer fires");
    match lvt >> 17 & 3 {
        // At the end of time there is no later.
        1 => assert!(
            apic.deadline().is_none_or(|at| at > now.min(u64::MAX - 1)),
            "a period ends later"
        ),
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
fn step(apic: &mut Apic, posted: &Posted, bytes: &mut Bytes, now: u64) {
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
        1..=3 => apic.write(offset, word(bytes, offset), now),
        4 => {
            if let Ok(value) = apic.msr_read(offset, now) {
                assert!(apic.x2apic() && (offset == ICR || value >> 32 == 0));
            }
            Effect::None
        }
        5 | 6 => {
            let x2apic = apic.x2apic();
            let value = [u64::from(word(bytes, offset)), bytes.value()][usize::from(kind >> 7)];
            let done = apic.msr_write(offset, value, now);
            assert!(done.is_err() || x2apic);
            // SDM vol. 3, 12.12.1.3: what of a register can be written.
            let reserved = match offset {
                ICR => 0xfff3_2000,
                EOI | ESR => !0,
                TPR | SELF_IPI => !0xff,
                SVR => !0x3ff,
                DIVIDE => !0xb,
                ID | VERSION | PPR | LDR | ISR..ESR | CURRENT_COUNT => panic_if(done.is_ok()),
                _ => !0xffff_ffff,
            };
            assert!(
                done.is_err() || value & reserved == 0,
                "{offset:#x}: {value:#x}"
            );
            done.unwrap_or(Effect::None)
        }
        7 => return expire(apic, now),
        8 => {
            let (value, offset) = (bytes.value(), bytes.value());
            let value =
                [value, now.wrapping_add(offset).wrapping_add(value)][usize::from(kind >> 7)];
            apic.write_tsc_deadline(value, offset, now);
            let lvt = register(apic, LVT_TIMER, now);
            if lvt >> 16 & 7 == 0b100 && apic.present() {
                // In the machine's time; what has passed is due now.
                let left = value.saturating_sub(now.wrapping_add(offset));
                let due = (value != 0).then_some(now.saturating_add(left));
                assert_eq!((apic.deadline(), apic.tsc_deadline()), (due, value));
            }
            return;
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
                assert!(sets.requested.contains(&vector));
                assert_eq!(sets.level.contains(&vector), kind >> 4 & 1 != 0, "level");
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
            let Sets {
                service,
                level: levels,
                ..
            } = Sets::of(apic, now);
            let effect = apic.write(EOI, 0, now);
            let mut left = service.clone();
            let highest = left.pop_last();
            assert_eq!(Sets::of(apic, now).service, left);
            // EOI of a level-triggered interrupt is told.
            let told = highest.filter(|vector| levels.contains(vector));
            assert!(matches!(effect, Effect::Eoi { level } if level == told));
            effect
        }
        _ => return apic.set_tsc_offset(bytes.u64(), now),
    };
    if let Effect::Ipi(ipi) = effect {
        use Delivery::*;
        assert!(ipi.vector >= 16 || !matches!(ipi.delivery, Fixed | LowestPriority));
        // INIT and STARTUP to itself are no IPIs (SDM vol. 3, table 12-3).
        let itself = matches!(ipi.target, Target::Myself);
        assert!(
            !itself || !matches!(ipi.delivery, Init | Startup | Fixed),
            "{ipi:?}"
        );
        let mine = apic.address().wants(&ipi, true);
        assert!(!mine || !matches!(ipi.target, Target::Others));
    }
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
    let mut now = 0u64;
    let mut steps = 0;
    while !bytes.is_empty() && steps < 100 {
        now = now.saturating_add([1, bytes.value()][usize::from(steps % 4 == 3)]);
        step(&mut apic, &posted, &mut bytes, now);
        steps += 1;
        let sets = Sets::of(&apic, now);
        assert!(
            sets.requested.first().is_none_or(|v| *v >= 16),
            "{:?}",
            sets.requested
        );
        assert!(
            sets.service.first().is_none_or(|v| *v >= 16),
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
            assert!(after.service.contains(&vector) && !after.requested.contains(&vector));
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
