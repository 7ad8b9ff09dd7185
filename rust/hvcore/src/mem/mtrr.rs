// SPDX-License-Identifier: GPL-2.0

//! Memory types from the MTRRs (SDM vol. 3, 13.11).

use super::addr::Size;

/// A memory type, in the encoding of MTRRs, PAT and EPT entries alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum MemType {
    Uncacheable = 0,
    WriteCombining = 1,
    WriteThrough = 4,
    WriteProtected = 5,
    WriteBack = 6,
}

impl MemType {
    /// The type with that encoding; others are reserved.
    pub const fn from_raw(raw: u64) -> Option<MemType> {
        match raw {
            0 => Some(MemType::Uncacheable),
            1 => Some(MemType::WriteCombining),
            4 => Some(MemType::WriteThrough),
            5 => Some(MemType::WriteProtected),
            6 => Some(MemType::WriteBack),
            _ => None,
        }
    }

    /// The type where two variable ranges overlap (13.11.4.1): UC wins, WT wins over WB. What the
    /// SDM leaves undefined is uncacheable, which is always correct.
    const fn overlap(self, other: MemType) -> MemType {
        use MemType::*;
        match (self, other) {
            (WriteThrough, WriteBack) | (WriteBack, WriteThrough) => WriteThrough,
            _ if self as u8 == other as u8 => self,
            _ => Uncacheable,
        }
    }
}

/// IA32_MTRR_DEF_TYPE: MTRRs enabled.
const ENABLE: u64 = 1 << 11;
/// IA32_MTRR_DEF_TYPE: fixed ranges enabled.
const FIXED_ENABLE: u64 = 1 << 10;
/// IA32_MTRR_PHYSMASKn: valid.
const VALID: u64 = 1 << 11;
/// End of the fixed ranges.
const FIXED_END: u64 = 1 << 20;

/// Most variable ranges that hvcore looks at. IA32_MTRRCAP could claim more; no CPU does.
pub const VARIABLE_MAX: usize = 32;

/// The MTRRs of the machine, as read at launch. On a CPU without MTRRs everything is write-back
/// under EPT: use `def_type` = [`MtrrState::NONE`].
#[derive(Clone, Copy, Debug)]
pub struct MtrrState {
    /// IA32_MTRR_DEF_TYPE.
    pub def_type: u64,
    /// MSRs 0x250, 0x258, 0x259, 0x268 to 0x26f.
    pub fixed: [u64; 11],
    /// IA32_MTRR_PHYSBASEn and IA32_MTRR_PHYSMASKn, those that are valid first; the rest is zero.
    pub variable: [(u64, u64); VARIABLE_MAX],
}

impl MtrrState {
    /// A `def_type` that makes everything write-back.
    pub const NONE: u64 = ENABLE | MemType::WriteBack as u64;

    /// Whether a variable range has anything to say.
    pub fn is_valid((_, mask): &(u64, u64)) -> bool {
        mask & VALID != 0
    }

    /// The memory type of the page of that size at `start`, if it has one type throughout. A page
    /// of 4 KiB always has.
    pub fn uniform(&self, start: u64, size: Size) -> Option<MemType> {
        let start = size.floor(start);
        if self.def_type & ENABLE == 0 {
            return Some(MemType::Uncacheable);
        }
        if self.def_type & FIXED_ENABLE == 0 || start >= FIXED_END {
            return self.variable(start, size);
        }
        if size == Size::K4 {
            return Some(self.fixed(start));
        }
        // A large page at 0: the fixed ranges, and what lies behind them.
        let first = self.fixed(0);
        let same = |kind: Option<MemType>| kind == Some(first);
        let low = (0..FIXED_END).step_by(4096).all(|at| same(Some(self.fixed(at))));
        (low && same(self.variable(0, size))).then_some(first)
    }

    /// Type of the fixed range at `address`, which is below 1 MiB (13.11.2.2).
    fn fixed(&self, address: u64) -> MemType {
        let (register, field) = match address {
            0..0x8_0000 => (0, address >> 16),
            0x8_0000..0xc_0000 => (1 + ((address - 0x8_0000) >> 17), address >> 14),
            _ => (3 + ((address - 0xc_0000) >> 15), address >> 12),
        };
        let raw = self.fixed.get(register as usize).map_or(0, |r| r >> (8 * (field % 8)) & 0xff);
        MemType::from_raw(raw).unwrap_or(MemType::Uncacheable)
    }

    /// Type by the variable ranges and the default.
    fn variable(&self, start: u64, size: Size) -> Option<MemType> {
        let inside = size.bytes() - 1;
        let mut kind: Option<MemType> = None;
        for &(base, mask) in self.variable.iter().take_while(|range| Self::is_valid(range)) {
            // An address is in the range if it agrees with `base` in the bits of `mask`. Bits that
            // vary inside the page and count make some of its addresses match and others not.
            let mask = mask & !0xfff;
            if (start ^ base) & mask & !inside != 0 {
                continue;
            }
            if mask & inside != 0 {
                return None;
            }
            let this = MemType::from_raw(base & 0xff).unwrap_or(MemType::Uncacheable);
            kind = Some(kind.map_or(this, |kind| kind.overlap(this)));
        }
        let default = MemType::from_raw(self.def_type & 0xff).unwrap_or(MemType::Uncacheable);
        Some(kind.unwrap_or(default))
    }
}

#[cfg(test)]
mod tests {
    use super::super::rng::Rng;
    use super::*;
    use MemType::*;

    fn mask(bytes: u64) -> u64 {
        ((1 << 39) - 1) & !(bytes - 1) | VALID
    }

    fn state(def_type: u64, variable: &[(u64, u64)]) -> MtrrState {
        let mut state = MtrrState { def_type, fixed: [0; 11], variable: [(0, 0); VARIABLE_MAX] };
        state.variable[..variable.len()].copy_from_slice(variable);
        state
    }

    #[test]
    fn disabled_is_uncacheable() {
        let state = state(6, &[(6, mask(1 << 30))]);
        assert_eq!(state.uniform(0, Size::G1), Some(Uncacheable));
        let none = MtrrState { def_type: MtrrState::NONE, ..state };
        assert_eq!(none.uniform(1 << 30, Size::G1), Some(WriteBack));
    }

    #[test]
    fn a_pc() {
        // Default WB, UC for the last GiB below 4 GiB, and the usual fixed ranges.
        let mut pc = state(ENABLE | FIXED_ENABLE | 6, &[(0xc000_0000, mask(1 << 30))]);
        pc.fixed = [0x0606_0606_0606_0606; 11];
        pc.fixed[2] = 0;
        pc.fixed[3] = 0x0505_0505_0505_0505;
        assert_eq!(pc.uniform(0x9_f000, Size::K4), Some(WriteBack));
        assert_eq!(pc.uniform(0xa_0000, Size::K4), Some(Uncacheable));
        assert_eq!(pc.uniform(0xb_f000, Size::K4), Some(Uncacheable));
        assert_eq!(pc.uniform(0xc_7000, Size::K4), Some(WriteProtected));
        assert_eq!(pc.uniform(0xc_8000, Size::K4), Some(WriteBack));
        assert_eq!(pc.uniform(0, Size::M2), None);
        assert_eq!(pc.uniform(0, Size::G1), None);
        assert_eq!(pc.uniform(0x20_0000, Size::M2), Some(WriteBack));
        assert_eq!(pc.uniform(0xc000_0000, Size::G1), Some(Uncacheable));
        assert_eq!(pc.uniform(1 << 32, Size::G1), Some(WriteBack));
        pc.fixed = [0x0606_0606_0606_0606; 11];
        assert_eq!(pc.uniform(0, Size::G1), Some(WriteBack));
    }

    #[test]
    fn fixed_registers_are_where_the_manual_says() {
        let mut s = state(ENABLE | FIXED_ENABLE, &[]);
        for (register, fixed) in s.fixed.iter_mut().enumerate() {
            *fixed = [0, 1, 4, 5, 6, 0, 1, 4, 5, 6, 1][register] * 0x0101_0101_0101_0101;
        }
        let at = |a| s.uniform(a, Size::K4).unwrap() as u8;
        let starts = [
            0, 0x80000, 0xa0000, 0xc0000, 0xc8000, 0xd0000, 0xd8000, 0xe0000, 0xe8000, 0xf0000,
            0xf8000,
        ];
        assert_eq!(starts.map(at), [0, 1, 4, 5, 6, 0, 1, 4, 5, 6, 1]);
        assert_eq!(
            starts.map(|a| at(if a == 0 { 0 } else { a - 1 })),
            [0, 0, 1, 4, 5, 6, 0, 1, 4, 5, 6]
        );
    }

    #[test]
    fn overlaps() {
        let two = |a: u64, b: u64| {
            let s = state(ENABLE | 1, &[(a, mask(1 << 30)), (b, mask(1 << 30))]);
            s.uniform(0, Size::K4)
        };
        assert_eq!(two(6, 6), Some(WriteBack));
        assert_eq!(two(6, 4), Some(WriteThrough));
        assert_eq!(two(4, 6), Some(WriteThrough));
        assert_eq!(two(6, 0), Some(Uncacheable));
        assert_eq!(two(5, 6), Some(Uncacheable));
        assert_eq!(two(3, 3), Some(Uncacheable));
    }

    #[test]
    fn a_large_page_is_uniform_only_if_its_pages_are() {
        for seed in 0..2000 {
            let mut rng = Rng::new(seed);
            let mut s = state(ENABLE | [0, 4, 6][rng.below(3) as usize], &[]);
            for slot in 0..rng.below(4) as usize {
                let bytes = 0x1000 << rng.below(11);
                let kind = [0, 4, 6][rng.below(3) as usize];
                s.variable[slot] = (rng.below(1 << 11) << 12 & !(bytes - 1) | kind, mask(bytes));
            }
            for block in 0..4 {
                let Some(kind) = s.uniform(block << 21, Size::M2) else {
                    continue;
                };
                for at in (block << 21..(block + 1) << 21).step_by(4096) {
                    assert_eq!(s.uniform(at, Size::K4), Some(kind), "seed {seed} at {at:#x}");
                }
            }
        }
    }
}
