// SPDX-License-Identifier: GPL-2.0

//! The local APIC, by every way in, against sets of vectors and the manual's rules (SDM vol. 3,
//! 12.8).

use std::collections::BTreeSet;

use hvcore::apic::posted::Posted;
use hvcore::apic::regs::offset::*;
use hvcore::apic::{Apic, Effect, Target};
use hvcore::mem::frame::host_frame;
use hvcore::policy::cpuid::Clock;

use crate::bytes::Bytes;

/// Vectors that are requested and in service, as hvcore reports them by registers.
struct Sets {
    requested: BTreeSet<u8>,
    service: BTreeSet<u8>,
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
            tpr: page[usize::from(TPR) / 4] as u8,
        }
    }

    fn deliverable(&self) -> Option<u8> {
        let floor = self.service.last().map_or(0, |v| v >> 4).max(self.tpr >> 4);
        self.requested.last().copied().filter(|v| v >> 4 > floor)
    }
}

/// One access or event. What it did is checked by who calls.
fn step(apic: &mut Apic, posted: &Posted, bytes: &mut Bytes, now: u64) {
    let kind = bytes.u8();
    let offset = u16::from(bytes.u8()) << 4 & 0xff0;
    let effect = match kind & 15 {
        // The registers are in memory in this mode only.
        0..=3 if !apic.in_memory() => Effect::None,
        0 => {
            apic.read(offset | u16::from(kind >> 4), now);
            Effect::None
        }
        1..=3 => apic.write(offset, bytes.value() as u32, now),
        4 => {
            if let Ok(value) = apic.msr_read(offset, now) {
                assert!(apic.x2apic() && (offset == ICR || value >> 32 == 0));
            }
            Effect::None
        }
        5 | 6 => {
            let (value, x2apic) = (bytes.value(), apic.x2apic());
            let done = apic.msr_write(offset, value, now);
            assert!(done.is_err() || x2apic);
            done.unwrap_or(Effect::None)
        }
        7 => return apic.expire(now),
        8 => {
            let (value, offset) = (bytes.value(), bytes.u64());
            return apic.write_tsc_deadline(value, offset, now);
        }
        9 => {
            let (old, bits) = (apic.base(), bytes.value());
            let value = old ^ bits & 0xd00 ^ bits & 0xff_0000_0000;
            let done = apic.write_base(value, 39);
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
                assert!(Sets::of(apic, now).requested.contains(&vector));
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
            let service = Sets::of(apic, now).service;
            let effect = apic.write(EOI, 0, now);
            let mut left = service.clone();
            let highest = left.pop_last();
            assert_eq!(Sets::of(apic, now).service, left);
            if let Effect::Eoi {
                level: Some(vector),
            } = effect
            {
                assert_eq!(Some(vector), highest);
            }
            effect
        }
        _ => return apic.set_tsc_offset(bytes.u64(), now),
    };
    if let Effect::Ipi(ipi) = effect {
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
        let page = apic.export(now);
        assert_eq!(page[usize::from(VERSION) / 4], 0x5_0014);
        let shown = if apic.x2apic() {
            u32::from(id)
        } else {
            u32::from(id) << 24
        };
        assert_eq!(page[usize::from(ID) / 4], shown);
    }
}
