// SPDX-License-Identifier: GPL-2.0

//! Hyper-V's interface for guests: CPUID from leaf 0x40000000 on, synthetic MSRs, reference time.
//!
//! What a guest sees of it is what its VMM asked for by the property SYNTHETIC_PROC_FEATURES, as far
//! as it is in [`ASSIGNABLE`]; what is not there is not announced. TLFS, chapters 2, 3 and 12.

use super::processor::Cpuid;
use super::status::{HvResult, HvStatus};

/// Bits of `union hv_partition_synthetic_processor_features`.
pub mod feature {
    pub const HYPERVISOR_PRESENT: u64 = 1 << 0;
    pub const HV1: u64 = 1 << 1;
    pub const REFERENCE_COUNTER: u64 = 1 << 3;
    pub const SYNIC: u64 = 1 << 4;
    /// Synthetic timers, whose messages go to the SynIC.
    pub const TIMERS: u64 = 1 << 5;
    pub const HYPERCALL: u64 = 1 << 7;
    pub const VP_INDEX: u64 = 1 << 8;
    pub const REFERENCE_TSC: u64 = 1 << 9;
    pub const GUEST_IDLE: u64 = 1 << 10;
    pub const FREQUENCIES: u64 = 1 << 11;
    /// Timers that are interrupts themselves.
    pub const DIRECT_TIMERS: u64 = 1 << 22;
    pub const FLUSH: u64 = 1 << 25;
    pub const CLUSTER_IPI: u64 = 1 << 26;
}

/// The features that a partition can have.
pub const ASSIGNABLE: u64 = {
    use feature::*;
    HYPERVISOR_PRESENT
        | HV1
        | REFERENCE_COUNTER
        | SYNIC
        | TIMERS
        | HYPERCALL
        | VP_INDEX
        | REFERENCE_TSC
        | GUEST_IDLE
        | FREQUENCIES
        | DIRECT_TIMERS
        | FLUSH
        | CLUSTER_IPI
};

/// Numbers of synthetic MSRs.
pub mod msr {
    pub const GUEST_OS_ID: u32 = 0x4000_0000;
    pub const HYPERCALL: u32 = 0x4000_0001;
    pub const VP_INDEX: u32 = 0x4000_0002;
    pub const TIME_REF_COUNT: u32 = 0x4000_0020;
    pub const REFERENCE_TSC: u32 = 0x4000_0021;
    pub const TSC_FREQUENCY: u32 = 0x4000_0022;
    pub const APIC_FREQUENCY: u32 = 0x4000_0023;
    pub const VP_ASSIST_PAGE: u32 = 0x4000_0073;
    pub const GUEST_IDLE: u32 = 0x4000_00f0;
}

/// First leaf of CPUID.
pub const CPUID_BASE: u32 = 0x4000_0000;
const CPUID_LAST: u32 = CPUID_BASE + 6;

/// CPUID.1:ECX: a hypervisor is present.
pub const CPUID_PRESENT: u32 = 1 << 31;

/// Which features become which bit of leaf 0x40000003: EAX.
const PRIVILEGES: [(u64, u32); 8] = [
    (feature::REFERENCE_COUNTER, 1 << 1),
    (feature::SYNIC, 1 << 2),
    (feature::TIMERS, 1 << 3),
    (feature::HYPERCALL, 1 << 5),
    (feature::VP_INDEX, 1 << 6),
    (feature::REFERENCE_TSC, 1 << 9),
    (feature::GUEST_IDLE, 1 << 10),
    (feature::FREQUENCIES, 1 << 11),
];

/// The same: EDX.
const MISCELLANEOUS: [(u64, u32); 3] = [
    (feature::GUEST_IDLE, 1 << 5),
    (feature::FREQUENCIES, 1 << 8),
    (feature::DIRECT_TIMERS, 1 << 19),
];

/// The same, for leaf 0x40000004 EAX: what a guest does best to use, and not to use auto-EOI.
const RECOMMENDED: [(u64, u32); 3] = [
    (feature::FLUSH, 1 << 2),
    (feature::SYNIC, 1 << 9),
    (feature::CLUSTER_IPI, 1 << 10),
];

/// Leaf 0x40000004 EAX: time passes without the guest, so its watchdogs had better be patient.
const RELAXED_TIMING: u32 = 1 << 5;

/// Leaf 0x40000004 EBX: a guest never says that it spins for long.
const NEVER: u32 = u32::MAX;

fn bits(table: &[(u64, u32)], features: u64) -> u32 {
    table
        .iter()
        .filter(|(feature, _)| features & feature != 0)
        .fold(0, |bits, (_, bit)| bits | bit)
}

/// The first 8 bytes of the hypercall page: VMCALL, RET, and INT3.
pub const HYPERCALL_CODE: u64 =
    u64::from_le_bytes([0x0f, 0x01, 0xc1, 0xc3, 0xcc, 0xcc, 0xcc, 0xcc]);

/// Of an MSR with the address of a page: that it is in use.
const ENABLE: u64 = 1;
/// HYPERCALL: it cannot be changed any more.
const LOCKED: u64 = 2;

/// Registers of the interface that all VPs of a partition share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    pub guest_os_id: u64,
    pub hypercall: u64,
    pub reference_tsc: u64,
}

/// What the guest reads in an MSR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    Value(u64),
    VpIndex,
    /// The VP's VP_ASSIST_PAGE.
    VpAssistPage,
    ReferenceTime,
    TscFrequency,
    ApicFrequency,
    /// The VP waits for an interrupt.
    Idle,
}

/// What is to be done before a write of the guest takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    None,
    /// At this GPA is [`HYPERCALL_CODE`] now.
    Hypercall(u64),
    /// At this GPA is the page of [`Clock`].
    ReferenceTsc(u64),
}

/// A write that gives the guest #GP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gp;

/// The GPA in an MSR that is one's home, if it is in use.
pub fn page(value: u64) -> Option<u64> {
    (value & ENABLE != 0).then_some(value & !0xfff)
}

impl Registers {
    /// Whether the guest can make hypercalls.
    pub fn hypercalls(&self) -> bool {
        self.hypercall & ENABLE != 0
    }

    /// Reads an MSR; `None`: there is no such MSR, in a partition with these features.
    pub fn read(&self, features: u64, index: u32) -> Option<Read> {
        if !exists(features, index) {
            return None;
        }
        Some(match index {
            msr::GUEST_OS_ID => Read::Value(self.guest_os_id),
            msr::HYPERCALL => Read::Value(self.hypercall),
            msr::REFERENCE_TSC => Read::Value(self.reference_tsc),
            msr::VP_INDEX => Read::VpIndex,
            msr::VP_ASSIST_PAGE => Read::VpAssistPage,
            msr::TIME_REF_COUNT => Read::ReferenceTime,
            msr::TSC_FREQUENCY => Read::TscFrequency,
            msr::APIC_FREQUENCY => Read::ApicFrequency,
            _ => Read::Idle,
        })
    }

    /// Writes an MSR that belongs to the partition.
    ///
    /// `None`: there is no such MSR.
    pub fn write(&mut self, features: u64, index: u32, value: u64) -> Option<Result<Page, Gp>> {
        if !exists(features, index) {
            return None;
        }
        Some(match index {
            msr::GUEST_OS_ID => {
                self.guest_os_id = value;
                if value == 0 {
                    self.hypercall &= !ENABLE;
                }
                Ok(Page::None)
            }
            msr::HYPERCALL if self.hypercall & LOCKED != 0 => Ok(Page::None),
            // A guest that does not say who it is gets no hypercalls.
            msr::HYPERCALL if self.guest_os_id == 0 => Ok(Page::None),
            msr::HYPERCALL => {
                self.hypercall = value;
                Ok(page(value).map_or(Page::None, Page::Hypercall))
            }
            msr::REFERENCE_TSC => {
                self.reference_tsc = value;
                Ok(page(value).map_or(Page::None, Page::ReferenceTsc))
            }
            _ => Err(Gp),
        })
    }
}

/// Whether a partition with these features has that MSR.
fn exists(features: u64, index: u32) -> bool {
    let feature = match index {
        // VP_ASSIST_PAGE is not announced: nothing is ever said there. Linux writes it unasked.
        msr::GUEST_OS_ID | msr::HYPERCALL | msr::VP_ASSIST_PAGE => feature::HYPERCALL,
        msr::VP_INDEX => feature::VP_INDEX,
        msr::TIME_REF_COUNT => feature::REFERENCE_COUNTER,
        msr::REFERENCE_TSC => feature::REFERENCE_TSC,
        msr::TSC_FREQUENCY | msr::APIC_FREQUENCY => feature::FREQUENCIES,
        msr::GUEST_IDLE => feature::GUEST_IDLE,
        _ => return false,
    };
    offered(features) & feature != 0
}

/// Which features a guest finds, of those that its VMM asked for: with no HV1, none; with no SynIC,
/// no timers, and with no timers, no direct ones.
pub fn offered(features: u64) -> u64 {
    const BOTH: u64 = feature::HYPERVISOR_PRESENT | feature::HV1;
    if features & BOTH != BOTH {
        return 0;
    }
    let mut offered = features & ASSIGNABLE;
    for (without, none) in [
        (feature::SYNIC, feature::TIMERS),
        (feature::TIMERS, feature::DIRECT_TIMERS),
    ] {
        if offered & without == 0 {
            offered &= !none;
        }
    }
    offered
}

/// Puts the interface into what CPUID says. `vps` is the number of VPs that a partition can have.
pub fn cpuid(features: u64, leaf: u32, vps: u32, answer: &mut Cpuid) {
    let features = offered(features);
    if features == 0 {
        return;
    }
    if leaf == 1 {
        answer[super::processor::ECX] |= CPUID_PRESENT;
    }
    let Some(number) = leaf.checked_sub(CPUID_BASE).filter(|&n| n < 0x100) else {
        return;
    };
    *answer = match number {
        0 => {
            let [ebx, ecx, edx] = [*b"Micr", *b"osof", *b"t Hv"].map(u32::from_le_bytes);
            [CPUID_LAST, ebx, ecx, edx]
        }
        1 => [u32::from_le_bytes(*b"Hv#1"), 0, 0, 0],
        // A version: build 0 of 10.0.
        2 => [0, 10 << 16, 0, 0],
        3 => [
            bits(&PRIVILEGES, features),
            0,
            0,
            bits(&MISCELLANEOUS, features),
        ],
        4 => [bits(&RECOMMENDED, features) | RELAXED_TIMING, NEVER, 0, 0],
        5 => [vps, 0, 0, 0],
        _ => [0; 4],
    };
}

/// Reference time: units of 100 ns since the partition was made, as a function of a VP's TSC.
///
/// Since all VPs have the same TSC, and what moves it (a VMM that sets it, or freezes time) moves
/// this with it, the page that guests read is always right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// 100 ns for each tick, in units of 2^-64.
    pub scale: u64,
    pub offset: u64,
}

impl Clock {
    /// Of a TSC with that frequency.
    pub fn new(tsc_khz: u64) -> Clock {
        // 10,000 units in a millisecond. Two digits of 32 bits, for there is no wider division.
        let khz = tsc_khz.max(10_001);
        let (high, rest) = ((10_000 << 32) / khz, (10_000 << 32) % khz);
        Clock {
            scale: (high << 32).wrapping_add((rest << 32) / khz),
            offset: 0,
        }
    }

    /// The time when the TSC says `tsc`.
    pub fn time(&self, tsc: u64) -> u64 {
        let product = u128::from(tsc) * u128::from(self.scale);
        ((product >> 64) as u64).wrapping_add(self.offset)
    }

    /// Makes it `time` when the TSC says `tsc`.
    pub fn set(&mut self, tsc: u64, time: u64) {
        self.offset = self.offset.wrapping_add(time.wrapping_sub(self.time(tsc)));
    }
}

/// What RCX of a hypercall says (TLFS 3.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Control {
    pub code: u16,
    pub fast: bool,
    /// Words of 8 bytes.
    pub variable_header: usize,
    pub reps: u16,
    pub start: u16,
}

impl Control {
    const RESERVED: u64 = 0x1f << 27 | 0xf << 44 | 0xf << 60;

    pub fn parse(value: u64) -> HvResult<Control> {
        let control = Control {
            code: value as u16,
            fast: value >> 16 & 1 != 0,
            variable_header: (value >> 17 & 0x3ff) as usize,
            reps: (value >> 32 & 0xfff) as u16,
            start: (value >> 48 & 0xfff) as u16,
        };
        if value & Self::RESERVED != 0 || control.start > control.reps {
            return Err(HvStatus::INVALID_HYPERCALL_INPUT);
        }
        Ok(control)
    }

    /// RAX after it: the status, and how many repetitions are done.
    pub fn result(&self, status: HvResult) -> u64 {
        let (code, done) = match status {
            Ok(()) => (0, self.reps),
            Err(status) => (status.0, self.start),
        };
        u64::from(code) | u64::from(done) << 32
    }
}

/// Codes of the hypercalls that guests make.
pub mod code {
    pub const FLUSH_SPACE: u16 = 0x02;
    pub const FLUSH_LIST: u16 = 0x03;
    pub const SEND_IPI: u16 = 0x0b;
    pub const FLUSH_SPACE_EX: u16 = 0x13;
    pub const FLUSH_LIST_EX: u16 = 0x14;
    pub const SEND_IPI_EX: u16 = 0x15;
}

/// A hypercall of a guest, understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// These VPs forget their translations: a set of indices, one bit each.
    Flush(u64),
    /// An interrupt with this vector for these VPs.
    SendIpi(u32, u64),
}

/// `HV_FLUSH_ALL_PROCESSORS`, and all flags that there are.
const FLUSH_ALL: u64 = 1;
const FLUSH_FLAGS: u64 = 0xf;

impl Control {
    /// Words of input in front of a rep call's list.
    pub fn input_words(&self) -> usize {
        let fixed = match self.code {
            code::FLUSH_SPACE | code::FLUSH_LIST => 3,
            code::SEND_IPI => 2,
            code::FLUSH_SPACE_EX | code::FLUSH_LIST_EX => 4,
            code::SEND_IPI_EX => 3,
            _ => 0,
        };
        fixed + self.variable_header
    }

    /// Understands the call. `input` are its words, or the first two of a fast call.
    pub fn call(&self, features: u64, input: &[u64]) -> HvResult<Call> {
        let (needed, listed, variable) = match self.code {
            code::FLUSH_SPACE => (feature::FLUSH, false, false),
            code::FLUSH_LIST => (feature::FLUSH, true, false),
            code::FLUSH_SPACE_EX => (feature::FLUSH, false, true),
            code::FLUSH_LIST_EX => (feature::FLUSH, true, true),
            code::SEND_IPI => (feature::CLUSTER_IPI, false, false),
            code::SEND_IPI_EX => (feature::CLUSTER_IPI, false, true),
            _ => return Err(HvStatus::INVALID_HYPERCALL_CODE),
        };
        if offered(features) & needed == 0 {
            return Err(HvStatus::ACCESS_DENIED);
        }
        let shape = listed == (self.reps != 0) && (variable || self.variable_header == 0);
        if !shape || input.len() < self.input_words() {
            return Err(HvStatus::INVALID_HYPERCALL_INPUT);
        }
        let input = &input[..self.input_words()];
        match self.code {
            code::SEND_IPI => ipi(input[0], input[1]),
            code::SEND_IPI_EX => ipi(input[0], sparse(&input[1..])?),
            _ => {
                if input[1] & !FLUSH_FLAGS != 0 {
                    return Err(HvStatus::INVALID_PARAMETER);
                }
                Ok(Call::Flush(match (input[1] & FLUSH_ALL != 0, variable) {
                    (true, _) => u64::MAX,
                    (false, true) => sparse(&input[2..])?,
                    (false, false) => input[2],
                }))
            }
        }
    }
}

fn ipi(head: u64, vps: u64) -> HvResult<Call> {
    // VTL 0 is the only one.
    if head >> 32 != 0 {
        return Err(HvStatus::INVALID_PARAMETER);
    }
    Ok(Call::SendIpi(head as u32, vps))
}

/// A `struct hv_vpset`, of which the VPs of a partition are in the first bank.
fn sparse(words: &[u64]) -> HvResult<u64> {
    const SPARSE: u64 = 0;
    const ALL: u64 = 1;
    let [format, banks, contents @ ..] = words else {
        return Err(HvStatus::INVALID_HYPERCALL_INPUT);
    };
    match *format {
        ALL => Ok(u64::MAX),
        SPARSE if contents.len() != banks.count_ones() as usize => {
            Err(HvStatus::INVALID_HYPERCALL_INPUT)
        }
        SPARSE if banks & 1 != 0 => Ok(contents[0]),
        SPARSE => Ok(0),
        _ => Err(HvStatus::INVALID_PARAMETER),
    }
}
