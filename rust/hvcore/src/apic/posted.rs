// SPDX-License-Identifier: GPL-2.0

//! What other LPs send to a VP, with no lock: they post, and the VP drains before it is entered.

use core::sync::atomic::{AtomicU64, Ordering::SeqCst};

use super::{Apic, Delivery, Ipi, Target};

/// How a local APIC is addressed (SDM vol. 3, 12.6.2, 12.12.10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    pub id: u32,
    /// Logical ID of xAPIC mode.
    pub ldr: u8,
    /// DFR: flat, not cluster model.
    pub flat: bool,
    pub present: bool,
    pub x2apic: bool,
    /// By SVR: takes Fixed and LowestPriority.
    pub enabled: bool,
}

impl Address {
    /// Whether that interrupt is for this APIC; `mine`: this VP sends it.
    pub fn wants(&self, ipi: &Ipi, mine: bool) -> bool {
        let meant = match ipi.target {
            Target::Destination { id, logical } => self.accepts(id, logical),
            Target::Myself => mine,
            Target::All => true,
            Target::Others => !mine,
        };
        // Switched off by SVR it takes no vectors, but all else (12.4.7.2).
        let vector = matches!(ipi.delivery, Delivery::Fixed | Delivery::LowestPriority);
        meant && self.present && (self.enabled || !vector)
    }

    /// Whether an interrupt for `dest` is for this APIC. 255 is a broadcast as well as `u32::MAX`,
    /// since no VP has that ID.
    pub fn accepts(&self, dest: u32, logical: bool) -> bool {
        if !self.present {
            return false;
        }
        let broadcast = dest == u32::MAX || dest == 0xff && !(logical && self.x2apic);
        if broadcast || !logical {
            return broadcast || dest == self.id;
        }
        if self.x2apic {
            return dest >> 16 == self.id >> 4 && dest & 1 << (self.id & 15) != 0;
        }
        let Ok(dest) = u8::try_from(dest) else {
            return false;
        };
        if self.flat {
            return dest & self.ldr != 0;
        }
        let cluster = dest >> 4 == 0xf || dest >> 4 == self.ldr >> 4;
        cluster && dest & self.ldr & 0xf != 0
    }

    fn pack(self) -> u64 {
        u64::from(self.id)
            | u64::from(self.ldr) << 32
            | u64::from(self.flat) << 40
            | u64::from(self.present) << 41
            | u64::from(self.x2apic) << 42
            | u64::from(self.enabled) << 43
    }

    fn unpack(word: u64) -> Address {
        let bit = |n: u32| word >> n & 1 != 0;
        Address {
            id: word as u32,
            ldr: (word >> 32) as u8,
            flat: bit(40),
            present: bit(41),
            x2apic: bit(42),
            enabled: bit(43),
        }
    }
}

/// Which of `set` gets an interrupt of lowest-priority delivery: they take turns, as the choice is
/// the chipset's (12.6.2.4) and priorities of VPs that run elsewhere are not known here.
pub fn arbitrate(set: u64, turn: u32) -> Option<u32> {
    let turn = turn % 64;
    (set != 0).then(|| (set.rotate_right(turn).trailing_zeros() + turn) % 64)
}

/// Events beside vectors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Events {
    pub nmi: bool,
    pub init: bool,
    pub startup: Option<u8>,
    /// The PIC's interrupt that waits is taken back.
    pub clear: bool,
    /// An interrupt of a PIC, which has acknowledged it.
    pub external: Option<u8>,
}

const ANY: u64 = 1 << 0;
const NMI: u64 = 1 << 1;
const INIT: u64 = 1 << 2;
const STARTUP: u64 = 1 << 3;
const EXTERNAL: u64 = 1 << 4;
const CLEAR: u64 = 1 << 5;
/// Bits 8 to 15: vector of the last STARTUP.
const STARTUP_VECTOR: u32 = 8;
/// Bits 16 to 23: vector of the last EXTERNAL.
const EXTERNAL_VECTOR: u32 = 16;

/// A VP's letter box.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct Posted {
    /// `ANY` is set last by who posts and cleared first by who drains, so that nothing is missed.
    events: AtomicU64,
    irr: [AtomicU64; 4],
    level: [AtomicU64; 4],
    address: AtomicU64,
}

impl Posted {
    pub const fn new() -> Posted {
        Posted {
            events: AtomicU64::new(0),
            irr: [const { AtomicU64::new(0) }; 4],
            level: [const { AtomicU64::new(0) }; 4],
            address: AtomicU64::new(0),
        }
    }

    pub fn publish(&self, address: Address) {
        self.address.store(address.pack(), SeqCst);
    }

    /// Not present before the first [`publish`](Posted::publish).
    pub fn address(&self) -> Address {
        Address::unpack(self.address.load(SeqCst))
    }

    /// Whether something waits.
    pub fn any(&self) -> bool {
        self.events.load(SeqCst) != 0
    }

    /// Posts an interrupt. True if nothing was waiting before: the VP has to be kicked or woken.
    pub fn post(&self, vector: u8, level: bool) -> bool {
        let (word, bit) = (usize::from(vector / 64) % 4, 1u64 << (vector % 64));
        if level {
            self.level[word].fetch_or(bit, SeqCst);
        } else {
            self.level[word].fetch_and(!bit, SeqCst);
        }
        self.irr[word].fetch_or(bit, SeqCst);
        self.events.fetch_or(ANY, SeqCst) == 0
    }

    pub fn post_nmi(&self) -> bool {
        self.events.fetch_or(NMI | ANY, SeqCst) == 0
    }

    pub fn post_init(&self) -> bool {
        // What was sent before it does not survive it.
        self.events.swap(INIT | ANY, SeqCst) == 0
    }

    pub fn post_startup(&self, vector: u8) -> bool {
        self.post_with(STARTUP, STARTUP_VECTOR, vector)
    }

    pub fn post_external(&self, vector: u8) -> bool {
        self.post_with(EXTERNAL, EXTERNAL_VECTOR, vector)
    }

    /// Takes back what [`post_external`](Posted::post_external) posted, if no entry delivered it.
    pub fn clear_external(&self) {
        // In this order: what is posted meanwhile, or after this, stays.
        self.events.fetch_and(!EXTERNAL, SeqCst);
        self.events.fetch_or(CLEAR | ANY, SeqCst);
    }

    fn post_with(&self, event: u64, shift: u32, vector: u8) -> bool {
        let add = |events| {
            let kept = events & !(0xff << shift);
            Some(kept | event | ANY | u64::from(vector) << shift)
        };
        // The closure never gives None: there is always an old value.
        self.events.fetch_update(SeqCst, SeqCst, add).is_ok_and(|old| old == 0)
    }

    /// Moves what was posted into the APIC. INIT comes before STARTUP, and has not yet been applied
    /// to the APIC: that, and the rest of the VP's reset, is the caller's.
    pub fn drain(&self, apic: &mut Apic) -> Events {
        if !self.any() {
            return Events::default();
        }
        let events = self.events.swap(0, SeqCst);
        for (word, irr) in self.irr.iter().enumerate() {
            let mut vectors = irr.swap(0, SeqCst);
            let level = self.level[word].load(SeqCst);
            while vectors != 0 {
                let bit = vectors.trailing_zeros();
                vectors &= vectors - 1;
                apic.set_irr((word as u32 * 64 + bit) as u8, level >> bit & 1 != 0);
            }
        }
        Events {
            nmi: events & NMI != 0,
            init: events & INIT != 0,
            startup: (events & STARTUP != 0).then_some((events >> STARTUP_VECTOR) as u8),
            clear: events & CLEAR != 0,
            external: (events & EXTERNAL != 0).then_some((events >> EXTERNAL_VECTOR) as u8),
        }
    }
}
