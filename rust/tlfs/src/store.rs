// SPDX-License-Identifier: GPL-2.0

//! Decodes the plain stores that ring a doorbell: MOV to memory, and nothing else.
//!
//! Every other write goes to the VMM, which has a real decoder.

use super::hvabi;
use hvabi::vp::RunPage;

/// What a store writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Store {
    /// Bytes of the instruction.
    pub length: u8,
    /// Bytes that are written.
    pub size: u8,
    /// What is written, zero-extended.
    pub value: u64,
}

/// How the VP decodes instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Bits16,
    Bits32,
    Bits64,
}

impl Mode {
    /// That of the last exit.
    pub fn of(run: &RunPage) -> Mode {
        let long = run.efer & 1 << 10 != 0 && run.cs.access & 1 << 13 != 0;
        match (long, run.cs.access & 1 << 14 != 0) {
            (true, _) => Mode::Bits64,
            (false, true) => Mode::Bits32,
            (false, false) => Mode::Bits16,
        }
    }

    /// RIP behind an instruction of `length` bytes.
    pub fn advance(self, rip: u64, length: u8) -> u64 {
        let next = rip.wrapping_add(u64::from(length));
        match self {
            Mode::Bits64 => next,
            Mode::Bits32 => next & 0xffff_ffff,
            Mode::Bits16 => next & 0xffff,
        }
    }
}

/// The instruction's bytes, taken from the front.
struct Bytes<'a> {
    bytes: &'a [u8],
    taken: u8,
}

impl Bytes<'_> {
    fn u8(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(usize::from(self.taken))?;
        self.taken += 1;
        Some(byte)
    }

    fn skip(&mut self, count: u8) -> Option<()> {
        self.taken += count;
        (usize::from(self.taken) <= self.bytes.len()).then_some(())
    }

    /// A little-endian number of `count` bytes, at most 4.
    fn number(&mut self, count: u8) -> Option<u32> {
        let mut number = 0;
        for shift in 0..count {
            number |= u32::from(self.u8()?) << (8 * shift);
        }
        Some(number)
    }
}

#[derive(Default)]
struct Prefixes {
    operand: bool,
    address: bool,
    /// 0 if there is none.
    rex: u8,
}

/// Decodes the instruction at the start of `bytes` (at most 15), if it is a plain store.
///
/// `gpr` are the general registers in the order of encodings.
pub fn decode(bytes: &[u8], mode: Mode, gpr: &[u64; 16]) -> Option<Store> {
    let mut bytes = Bytes {
        bytes: &bytes[..bytes.len().min(15)],
        taken: 0,
    };
    let mut prefixes = Prefixes::default();
    let opcode = loop {
        match bytes.u8()? {
            0x26 | 0x2e | 0x36 | 0x3e | 0x64 | 0x65 => prefixes.rex = 0,
            0x66 => (prefixes.operand, prefixes.rex) = (true, 0),
            0x67 => (prefixes.address, prefixes.rex) = (true, 0),
            rex @ 0x40..=0x4f if mode == Mode::Bits64 => prefixes.rex = rex,
            opcode => break opcode,
        }
    };
    let size = match (opcode, mode) {
        (0x88 | 0xc6 | 0xa2, _) => 1,
        (0x89 | 0xc7 | 0xa3, Mode::Bits64) if prefixes.rex & 8 != 0 => 8,
        (0x89 | 0xc7 | 0xa3, Mode::Bits16) => 2 << u8::from(prefixes.operand),
        (0x89 | 0xc7 | 0xa3, _) => 4 >> u8::from(prefixes.operand),
        _ => return None,
    };
    let value = match opcode {
        0x88 | 0x89 => {
            let reg = modrm(&mut bytes, mode, &prefixes)?;
            let reg = usize::from(reg | (prefixes.rex & 4) << 1);
            if size == 1 && prefixes.rex == 0 && reg >= 4 {
                // AH, CH, DH, BH.
                gpr[reg - 4] >> 8
            } else {
                gpr[reg]
            }
        }
        0xc6 | 0xc7 => {
            if modrm(&mut bytes, mode, &prefixes)? != 0 {
                return None;
            }
            // 8 bytes are written from 4, sign-extended.
            let number = bytes.number(size.min(4))?;
            if size == 8 {
                i64::from(number as i32) as u64
            } else {
                u64::from(number)
            }
        }
        _ => {
            let address = match (mode, prefixes.address) {
                (Mode::Bits64, false) => 8,
                (Mode::Bits16, false) | (Mode::Bits32, true) => 2,
                _ => 4,
            };
            bytes.skip(address)?;
            gpr[0]
        }
    };
    let mask = u64::MAX >> (64 - 8 * u32::from(size));
    Some(Store {
        length: bytes.taken,
        size,
        value: value & mask,
    })
}

/// Passes over the ModRM byte and what belongs to it. Gives its reg field, if the operand is in
/// memory.
fn modrm(bytes: &mut Bytes<'_>, mode: Mode, prefixes: &Prefixes) -> Option<u8> {
    let modrm = bytes.u8()?;
    let (kind, reg, rm) = (modrm >> 6, modrm >> 3 & 7, modrm & 7);
    if kind == 3 {
        return None;
    }
    let short = match mode {
        Mode::Bits16 => !prefixes.address,
        Mode::Bits32 => prefixes.address,
        Mode::Bits64 => false,
    };
    let displacement = if short {
        match (kind, rm) {
            (0, 6) | (2, _) => 2,
            (1, _) => 1,
            _ => 0,
        }
    } else {
        let base = if rm == 4 { bytes.u8()? & 7 } else { rm };
        match (kind, base) {
            (0, 5) | (2, _) => 4,
            (1, _) => 1,
            _ => 0,
        }
    };
    bytes.skip(displacement)?;
    Some(reg)
}
