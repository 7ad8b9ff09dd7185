// SPDX-License-Identifier: GPL-2.0

//! The register page: registers that a VMM reads and writes in memory instead of by hypercall.
//!
//! It is filled when an intercept is told and when registers were set by hypercall, and taken back
//! when the VP is run next or its registers are asked for in another way. The VMM can write to it at
//! any time, so it is only ever read and written word by word, through functions that the caller
//! gives.
//!
//! XMM0 to XMM5 can be written here, but are not shown: what intercepts show does not include the
//! extended state.

use super::hvabi;
use super::pod::pod_struct;
use super::register::RegisterValue;
use super::segment::SegmentRegister;
use super::state::{interrupt_state, legal_flags, pending_interruption};
use core::mem::offset_of;
use hvabi::state::{group, Registers};
use hvabi::vp::{RunPage, Segment};

pod_struct! {
    /// `struct hv_vp_register_page`.
    pub struct RegisterPage {
        pub version: u16,
        pub isvalid: u8,
        pub rsvdz: u8,
        pub dirty: u32,
        pub gpr: [u64; 16],
        pub rip: u64,
        pub rflags: u64,
        pub reserved: u64,
        pub xmm: [RegisterValue; 6],
        /// ES, CS, SS, DS, FS, GS.
        pub segments: [SegmentRegister; 6],
        pub cr0: u64,
        pub cr3: u64,
        pub cr4: u64,
        pub cr8: u64,
        pub efer: u64,
        pub dr7: u64,
        pub pending_interruption: u64,
        pub interrupt_state: u64,
        pub instruction_emulation_hints: u64,
        pub xfem: u64,
        pub reserved1: [u64; 32],
        pub interrupt_vectors: u64,
    }
}

/// Bits of [`RegisterPage::dirty`]: what the VMM wrote.
pub mod dirty {
    pub const GENERAL: u32 = 1 << 0;
    pub const IP: u32 = 1 << 1;
    pub const XMM: u32 = 1 << 2;
    pub const SEGMENT: u32 = 1 << 3;
    pub const FLAGS: u32 = 1 << 4;
}

const VERSION: u64 = 1;

/// Index of the word at `offset`.
const fn word(offset: usize) -> usize {
    assert!(offset % 8 == 0);
    offset / 8
}

const GPR: usize = word(offset_of!(RegisterPage, gpr));
const RIP: usize = word(offset_of!(RegisterPage, rip));
const RFLAGS: usize = word(offset_of!(RegisterPage, rflags));
const XMM: usize = word(offset_of!(RegisterPage, xmm));
const SEGMENTS: usize = word(offset_of!(RegisterPage, segments));

/// Index of the first word: version, validity, and what is dirty.
pub const HEAD: usize = 0;

/// The first word of a page that is valid, or not, and of which nothing is dirty.
pub const fn head(valid: bool) -> u64 {
    VERSION | (valid as u64) << 16
}

/// What the first word says is dirty.
///
/// Also of a page that is not valid: a VMM that writes there means it.
pub const fn dirty_of(head: u64) -> u32 {
    (head >> 32) as u32
}

/// Shows the general registers, RIP and RFLAGS.
#[inline]
pub fn show_general(run: &RunPage, mut put: impl FnMut(usize, u64)) {
    for (index, &value) in run.gpr.iter().enumerate() {
        put(GPR + index, value);
    }
    put(RIP, run.rip);
    put(RFLAGS, run.rflags);
}

/// Shows everything, at an intercept; the first word is not written.
#[inline]
pub fn show(run: &RunPage, mut put: impl FnMut(usize, u64)) {
    show_general(run, &mut put);
    let segments = [&run.es, &run.cs, &run.ss, &run.ds, &run.fs, &run.gs];
    for (index, segment) in segments.into_iter().enumerate() {
        let value = RegisterValue::from(SegmentRegister::from(*segment));
        put(SEGMENTS + 2 * index, value.low);
        put(SEGMENTS + 2 * index + 1, value.high);
    }
    put(word(offset_of!(RegisterPage, cr0)), run.cr0);
    put(word(offset_of!(RegisterPage, cr3)), run.cr3);
    put(word(offset_of!(RegisterPage, cr4)), run.cr4);
    put(word(offset_of!(RegisterPage, cr8)), run.cr8);
    put(word(offset_of!(RegisterPage, efer)), run.efer);
    put(word(offset_of!(RegisterPage, dr7)), run.dr7);
    put(
        word(offset_of!(RegisterPage, pending_interruption)),
        pending_interruption(run.event, run.event_error),
    );
    put(
        word(offset_of!(RegisterPage, interrupt_state)),
        interrupt_state(run.interruptibility as u32),
    );
    put(word(offset_of!(RegisterPage, xfem)), run.xcr0);
}

/// Groups of registers that the page shows, besides the general ones.
pub const GROUPS: u64 =
    group::SEGMENTS | group::CONTROL | group::CR8 | group::XCR | group::DEBUG | group::EVENT;

/// Puts registers, of which [`GROUPS`] were loaded, to where [`show`] finds them.
pub fn load(run: &mut RunPage, registers: &Registers) {
    let r = registers;
    (run.es, run.cs, run.ss) = (r.es, r.cs, r.ss);
    (run.ds, run.fs, run.gs) = (r.ds, r.fs, r.gs);
    (run.cr0, run.cr3, run.cr4) = (r.cr0, r.cr3, r.cr4);
    (run.cr8, run.efer) = (r.cr8, r.efer);
    (run.dr7, run.xcr0) = (r.dr7, r.xcr0);
    (run.event, run.event_error) = (r.event, r.event_error);
    run.interruptibility = u64::from(r.interruptibility);
}

/// Takes back what is dirty of the general registers, RIP and RFLAGS.
#[inline]
pub fn take_general(dirty: u32, get: impl Fn(usize) -> u64, run: &mut RunPage) {
    if dirty & dirty::GENERAL != 0 {
        for (index, place) in run.gpr.iter_mut().enumerate() {
            *place = get(GPR + index);
        }
    }
    if dirty & dirty::IP != 0 {
        run.rip = get(RIP);
    }
    if dirty & dirty::FLAGS != 0 {
        run.rflags = legal_flags(get(RFLAGS));
    }
}

/// ES, CS, SS, DS, FS and GS as the VMM wrote them.
pub fn take_segments(get: impl Fn(usize) -> u64) -> [Segment; 6] {
    core::array::from_fn(|index| {
        let value = RegisterValue {
            low: get(SEGMENTS + 2 * index),
            high: get(SEGMENTS + 2 * index + 1),
        };
        SegmentRegister::from(value).into()
    })
}

/// XMM0 to XMM5 as the VMM wrote them.
pub fn take_xmm(get: impl Fn(usize) -> u64) -> [RegisterValue; 6] {
    core::array::from_fn(|index| RegisterValue {
        low: get(XMM + 2 * index),
        high: get(XMM + 2 * index + 1),
    })
}
