// SPDX-License-Identifier: GPL-2.0

//! FPU and SSE registers in an XSAVE area of standard format (SDM vol. 1, 13.4).

use super::pod;
use super::register::{name, RegisterValue};
use super::status::{HvResult, HvStatus};
use super::PAGE_SIZE;

/// A page that begins with an XSAVE area.
pub type XsaveArea = [u8; PAGE_SIZE];

const FCW: usize = 0;
const FTW: usize = 4;
const FOP: usize = 6;
const FIP: usize = 8;
const FDP: usize = 16;
const MXCSR: usize = 24;
const ST0: usize = 32;
const XMM_0: usize = 160;
const XSTATE_BV: usize = 512;

const X87: u64 = 1 << 0;
const SSE: u64 = 1 << 1;

/// MXCSR after reset.
const MXCSR_INIT: u32 = 0x1f80;
/// FCW after FNINIT.
const FCW_INIT: u16 = 0x37f;
/// Bits of MXCSR that exist on every processor that runs hvcore.
const MXCSR_MASK: u32 = 0xffff;

fn load<T: pod::Pod>(area: &XsaveArea, offset: usize) -> T {
    pod::read_at(area, offset).unwrap_or_else(pod::zeroed)
}

fn store<T: pod::Pod>(area: &mut XsaveArea, offset: usize, value: T) {
    // All offsets of this module are inside the page.
    let _ = pod::write_at(area, offset, &value);
}

/// Makes the parts that XSTATE_BV says are in their initial state really so, and sets their bits.
fn materialize(area: &mut XsaveArea, parts: u64) {
    let present: u64 = load(area, XSTATE_BV);
    if parts & X87 & !present != 0 {
        area[FCW..MXCSR].fill(0);
        area[ST0..XMM_0].fill(0);
        store(area, FCW, FCW_INIT);
    }
    if parts & SSE & !present != 0 {
        area[XMM_0..XMM_0 + 256].fill(0);
        // XRSTOR loads MXCSR if SSE or AVX is asked for; XSAVE always writes it.
        if load::<u32>(area, MXCSR) & !MXCSR_MASK != 0 {
            store(area, MXCSR, MXCSR_INIT);
        }
    }
    store(area, XSTATE_BV, present | parts);
}

/// Offset of a 16-byte register, and the part of the area it belongs to.
fn slot(register: u32) -> (usize, u64) {
    match register {
        name::XMM0..=name::XMM15 => (XMM_0 + 16 * (register - name::XMM0) as usize, SSE),
        _ => (ST0 + 16 * (register - name::FP_MMX0) as usize, X87),
    }
}

/// Reads register `register`, one from XMM0 to XMM_CONTROL_STATUS.
pub fn get(area: &mut XsaveArea, register: u32) -> RegisterValue {
    match register {
        name::FP_CONTROL_STATUS => {
            materialize(area, X87);
            // FCW, FSW, FTW, reserved, FOP are in the same order and place.
            RegisterValue {
                low: load(area, FCW),
                high: load(area, FIP),
            }
        }
        name::XMM_CONTROL_STATUS => {
            materialize(area, X87);
            RegisterValue {
                low: load(area, FDP),
                high: u64::from(load::<u32>(area, MXCSR)) | u64::from(MXCSR_MASK) << 32,
            }
        }
        _ => {
            let (offset, part) = slot(register);
            materialize(area, part);
            RegisterValue {
                low: load(area, offset),
                high: load(area, offset + 8),
            }
        }
    }
}

/// Writes register `register`, one from XMM0 to XMM_CONTROL_STATUS.
pub fn set(area: &mut XsaveArea, register: u32, value: RegisterValue) -> HvResult {
    match register {
        name::FP_CONTROL_STATUS => {
            materialize(area, X87);
            store(area, FCW, value.low as u32);
            store(area, FTW, (value.low >> 32) as u16 & 0xff);
            store(area, FOP, (value.low >> 48) as u16);
            store(area, FIP, value.high);
        }
        name::XMM_CONTROL_STATUS => {
            if value.high as u32 & !MXCSR_MASK != 0 {
                return Err(HvStatus::INVALID_REGISTER_VALUE);
            }
            materialize(area, X87 | SSE);
            store(area, FDP, value.low);
            store(area, MXCSR, value.high as u32);
        }
        _ => {
            let (offset, part) = slot(register);
            materialize(area, part);
            store(area, offset, value.low);
            store(area, offset + 8, value.high);
        }
    }
    Ok(())
}
