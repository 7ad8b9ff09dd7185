// SPDX-License-Identifier: GPL-2.0

//! The XSAVE area as MSHV_GET_VP_STATE and MSHV_SET_VP_STATE have it: in compacted format
//! (SDM vol. 1, 13.4.3), where hvcore has the standard one.

use super::fpu::XsaveArea;
use super::pod;
use super::processor::{Cpuid, EAX, EBX, ECX, XSAVE_STATES};
use super::status::{HvResult, HvStatus};

/// Bytes of the legacy region and the header.
const FIRST: usize = 576;
const XSTATE_BV: usize = 512;
const XCOMP_BV: usize = 520;
/// Bit of XCOMP_BV: the format is the compacted one.
const COMPACTED: u64 = 1 << 63;
/// Parts of the state that lie in the legacy region.
const LEGACY: u64 = 3;

/// Numbers of parts that a VP can have, and one more.
const PARTS: usize = 10;
const _: () = assert!(XSAVE_STATES >> PARTS == 0);

/// A part of the state behind the header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Part {
    size: usize,
    /// In the standard format.
    offset: usize,
    /// In the compacted format it begins at a multiple of 64 bytes.
    aligned: bool,
}

/// Where the processor has the parts of the state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    parts: [Part; PARTS],
    states: u64,
}

impl Layout {
    /// The layout of the parts `states`; `leaf(n)` is CPUID leaf 0xD, subleaf n.
    pub fn new(states: u64, leaf: impl Fn(u32) -> Cpuid) -> Layout {
        let mut layout = Layout {
            parts: [Part::default(); PARTS],
            states: states & XSAVE_STATES,
        };
        for (number, part) in layout.parts.iter_mut().enumerate().skip(2) {
            let found = leaf(number as u32);
            let (size, offset) = (found[EAX] as usize, found[EBX] as usize);
            let fits = offset >= FIRST && offset + size <= core::mem::size_of::<XsaveArea>();
            if states >> number & 1 != 0 && fits {
                *part = Part {
                    size,
                    offset,
                    aligned: found[ECX] & 2 != 0,
                };
            }
        }
        layout
    }

    /// The parts of `set` and where each begins in the compacted format.
    fn compacted(&self, set: u64) -> impl Iterator<Item = (usize, Part, usize)> + '_ {
        let mut next = FIRST;
        (2..PARTS)
            .filter(move |number| set >> number & 1 != 0)
            .map(move |number| {
                let part = self.parts[number];
                if part.aligned {
                    next = next.next_multiple_of(64);
                }
                let begin = next;
                next += part.size;
                (number, part, begin)
            })
    }

    /// The compacted form of `standard`: all parts that a VP can have, in use or not.
    pub fn compact(&self, standard: &XsaveArea, out: &mut XsaveArea) {
        out.fill(0);
        out[..XCOMP_BV].copy_from_slice(&standard[..XCOMP_BV]);
        let present: u64 = pod::read_at(standard, XSTATE_BV).unwrap_or(0) & self.states;
        let _ = pod::write_at(out, XSTATE_BV, &present);
        let _ = pod::write_at(out, XCOMP_BV, &(COMPACTED | self.states));
        for (number, part, begin) in self.compacted(self.states) {
            if present >> number & 1 != 0 {
                out[begin..begin + part.size]
                    .copy_from_slice(&standard[part.offset..part.offset + part.size]);
            }
        }
    }

    /// Makes the standard form of `area` where it is; one in standard format stays as it is.
    pub fn expand(&self, area: &mut XsaveArea, scratch: &mut XsaveArea) -> HvResult {
        let present: u64 = pod::read_at(area, XSTATE_BV).unwrap_or(0);
        let layout: u64 = pod::read_at(area, XCOMP_BV).unwrap_or(0);
        if layout & COMPACTED == 0 {
            return Ok(());
        }
        let set = layout & !COMPACTED;
        // A VMM that never had the area filled leaves XCOMP_BV without the legacy parts.
        if (set | present) & !self.states != 0 || present & !(set | LEGACY) != 0 {
            return Err(HvStatus::INVALID_PARAMETER);
        }
        scratch.copy_from_slice(&area[..]);
        area[XCOMP_BV..].fill(0);
        for (number, part, begin) in self.compacted(set) {
            if present >> number & 1 != 0 {
                area[part.offset..part.offset + part.size]
                    .copy_from_slice(&scratch[begin..begin + part.size]);
            }
        }
        Ok(())
    }
}
