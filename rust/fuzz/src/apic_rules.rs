// SPDX-License-Identifier: GPL-2.0

//! Registers of the local APIC by the manual's tables (SDM vol. 3, 12.5 to 12.8 and 12.12).

use hvcore::apic::posted::Address;
use hvcore::apic::{Delivery, Ipi, Target};

/// A set of vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vectors(pub [u32; 8]);

impl Vectors {
    fn all(self) -> impl DoubleEndedIterator<Item = u8> {
        (0..=255).filter(move |vector| self.contains(*vector))
    }

    fn word(&mut self, vector: u8) -> &mut u32 {
        &mut self.0[usize::from(vector / 32)]
    }

    pub fn contains(mut self, vector: u8) -> bool {
        *self.word(vector) >> (vector % 32) & 1 != 0
    }

    pub fn insert(&mut self, vector: u8) {
        *self.word(vector) |= 1 << (vector % 32);
    }

    pub fn remove(&mut self, vector: u8) {
        *self.word(vector) &= !(1 << (vector % 32));
    }

    pub fn first(self) -> Option<u8> {
        self.all().next()
    }

    pub fn last(self) -> Option<u8> {
        self.all().next_back()
    }

    pub fn pop_last(&mut self) -> Option<u8> {
        let last = self.last()?;
        self.remove(last);
        Some(last)
    }
}

/// What of a register WRMSR takes in x2APIC mode, and which bits it may refuse or ignore; none of a
/// register that cannot be written.
pub fn writable(offset: u16) -> Option<(u64, u64)> {
    // Delivery status and remote IRR are only to be read.
    const STATUS: u64 = 1 << 12 | 1 << 14;
    Some(match offset {
        // TPR, and the IPI to itself.
        0x80 | 0x3f0 => (0xff, 0),
        // EOI, ESR.
        0xb0 | 0x280 => (0, 0),
        // SVR: vector, enable, focus.
        0xf0 => (0x3ff, 0),
        // ICR: vector, delivery, destination mode, level, trigger, shorthand; destination.
        0x300 => (0xffff_ffff_000c_cfff, 1 << 12),
        // The timer's vector, mask, mode.
        0x320 => (0x7_00ff, STATUS),
        // Thermal sensor and counters: vector, delivery, mask. LINT0, LINT1: polarity and trigger.
        0x330 | 0x340 => (0x1_07ff, STATUS),
        0x350 | 0x360 => (0x1_a7ff, STATUS),
        // Errors.
        0x370 => (0x1_00ff, STATUS),
        // Initial count, divider.
        0x380 => (0xffff_ffff, 0),
        0x3e0 => (0xb, 0),
        _ => return None,
    })
}

/// Whether RDMSR reads a register in x2APIC mode.
pub fn readable(offset: u16) -> bool {
    offset & 15 == 0
        && matches!(
            offset,
            // ID, version, TPR, PPR, LDR, SVR, ISR, TMR, IRR, ESR.
            0x20 | 0x30 | 0x80 | 0xa0 | 0xd0 | 0xf0 | 0x100..=0x280
            // ICR, LVT, counts, divider.
            | 0x300 | 0x320..=0x390 | 0x3e0
        )
}

/// Ticks of the crystal for each count of the timer, by the divider's register.
pub fn divisor(register: u32) -> u64 {
    match register & 0xb {
        0b0000 => 2,
        0b0001 => 4,
        0b0010 => 8,
        0b0011 => 16,
        0b1000 => 32,
        0b1001 => 64,
        0b1010 => 128,
        _ => 1,
    }
}

/// What a write of ICR sends to others (12.6.1, table 12-3), with the destination that it has.
pub fn sent(icr: u32, destination: u32) -> Option<Ipi> {
    let (vector, assert, itself) = (icr as u8, icr >> 14 & 1 != 0, icr >> 18 & 3 == 1);
    let delivery = match icr >> 8 & 7 {
        0 | 1 if vector < 16 => return None,
        0 if itself => return None,
        0 => Delivery::Fixed,
        1 => Delivery::LowestPriority,
        2 => Delivery::Smi,
        4 => Delivery::Nmi,
        5 if assert && !itself => Delivery::Init,
        6 if !itself => Delivery::Startup,
        _ => return None,
    };
    let target = match icr >> 18 & 3 {
        0 => Target::Destination {
            id: destination,
            logical: icr >> 11 & 1 != 0,
        },
        1 => Target::Myself,
        2 => Target::All,
        _ => Target::Others,
    };
    Some(Ipi {
        vector,
        delivery,
        target,
    })
}

/// Whether the destination of an IPI names the APIC with these registers (12.6.2, 12.12.10).
pub fn named(address: &Address, ldr: u32, dfr: u32, destination: u32, logical: bool) -> bool {
    let by_bits = |mine: u32, wanted: u32| mine & wanted != 0;
    match (address.x2apic, logical) {
        // An 8-bit broadcast too, since the sender may be in xAPIC mode.
        (_, false) => destination == address.id || matches!(destination, 0xff | 0xffff_ffff),
        (true, true) => {
            let same = destination >> 16 == ldr >> 16;
            destination == 0xffff_ffff || same && by_bits(ldr & 0xffff, destination & 0xffff)
        }
        (false, true) if destination == 0xffff_ffff || destination == 0xff => true,
        (false, true) if destination > 0xff => false,
        (false, true) if dfr >> 28 == 0xf => by_bits(ldr >> 24, destination),
        (false, true) => {
            let cluster = destination >> 4;
            let same = cluster == 0xf || cluster == ldr >> 28;
            same && by_bits(ldr >> 24 & 0xf, destination & 0xf)
        }
    }
}
