// SPDX-License-Identifier: GPL-2.0

//! Registers of the local APIC, and what it sends (SDM vol. 3, tables 12-1 and 12-6).

/// Offsets of registers in the page. In x2APIC mode the MSR is `0x800 + offset / 16`.
pub mod offset {
    pub const ID: u16 = 0x20;
    pub const VERSION: u16 = 0x30;
    pub const TPR: u16 = 0x80;
    pub const PPR: u16 = 0xa0;
    pub const EOI: u16 = 0xb0;
    pub const LDR: u16 = 0xd0;
    pub const DFR: u16 = 0xe0;
    pub const SVR: u16 = 0xf0;
    pub const ISR: u16 = 0x100;
    pub const TMR: u16 = 0x180;
    pub const IRR: u16 = 0x200;
    pub const ESR: u16 = 0x280;
    pub const ICR: u16 = 0x300;
    pub const ICR_HIGH: u16 = 0x310;
    pub const LVT_TIMER: u16 = 0x320;
    pub const LVT_THERMAL: u16 = 0x330;
    pub const LVT_PERF: u16 = 0x340;
    pub const LVT_LINT0: u16 = 0x350;
    pub const LVT_LINT1: u16 = 0x360;
    pub const LVT_ERROR: u16 = 0x370;
    pub const INITIAL_COUNT: u16 = 0x380;
    pub const CURRENT_COUNT: u16 = 0x390;
    pub const DIVIDE: u16 = 0x3e0;
    pub const SELF_IPI: u16 = 0x3f0;
}
use offset::*;

/// Integrated APIC with 6 LVT entries, no suppression of EOI broadcasts.
pub(super) const VERSION_VALUE: u32 = 5 << 16 | 0x14;
pub(super) const SVR_ENABLE: u32 = 1 << 8;
pub(super) const LVT_MASKED: u32 = 1 << 16;

/// Bits of ESR (12.5.3).
pub(super) const ESR_SEND_VECTOR: u32 = 1 << 5;
pub(super) const ESR_RECEIVE_VECTOR: u32 = 1 << 6;
pub(super) const ESR_REGISTER: u32 = 1 << 7;

/// Bits of IA32_APIC_BASE (12.4.4).
pub(super) const BASE_BSP: u64 = 1 << 8;
pub(super) const BASE_EXTD: u64 = 1 << 10;
pub(super) const BASE_ENABLE: u64 = 1 << 11;

/// How an interrupt is delivered (12.6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    Fixed,
    LowestPriority,
    Smi,
    Nmi,
    Init,
    Startup,
    /// By the 8259A on LINT0.
    ExtInt,
}

impl Delivery {
    /// The mode with that encoding (3 is reserved). Startup is valid in the ICR only, ExtInt
    /// everywhere else.
    pub const fn from_raw(raw: u32) -> Option<Delivery> {
        match raw & 7 {
            0 => Some(Delivery::Fixed),
            1 => Some(Delivery::LowestPriority),
            2 => Some(Delivery::Smi),
            4 => Some(Delivery::Nmi),
            5 => Some(Delivery::Init),
            6 => Some(Delivery::Startup),
            7 => Some(Delivery::ExtInt),
            _ => None,
        }
    }
}

/// Whom an IPI goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Every VP whose [`Address`] accepts it.
    Destination {
        id: u32,
        logical: bool,
    },
    Myself,
    All,
    Others,
}

/// An interrupt that the VP sends. Having one proves that it is one of Fixed, LowestPriority (both
/// with a vector from 16), Smi, Nmi, Init, Startup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipi {
    pub vector: u8,
    pub delivery: Delivery,
    pub target: Target,
}

/// What the caller has to do after a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// At most look at [`Apic::pending`] again.
    None,
    /// An interrupt was finished; tell the I/O APIC of the vector if it was level-triggered.
    Eoi { level: Option<u8> },
    /// Deliver this.
    Ipi(Ipi),
    /// [`Apic::deadline`] changed.
    Timer,
}

/// Whether there is a register at `offset` that can be read as it lies in the page.
pub(super) fn readable(offset: u16) -> bool {
    offset & 15 == 0
        && matches!(
            offset,
            ID | VERSION
                | TPR
                | LDR..=ESR
                | ICR..=INITIAL_COUNT
                | DIVIDE
        )
}

/// Bits of an LVT register that can be written (12.5.1).
pub(super) fn lvt_bits(offset: u16) -> u32 {
    match offset {
        LVT_TIMER => 0x700ff,
        LVT_LINT0 | LVT_LINT1 => 0x1a7ff,
        LVT_ERROR => 0x100ff,
        _ => 0x107ff,
    }
}
