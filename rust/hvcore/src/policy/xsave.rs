// SPDX-License-Identifier: GPL-2.0

//! XSAVE state: what XCR0 may hold and how large the state is (SDM vol. 1, 13).

use super::{unless, Gp};

const X87: u64 = 1 << 0;
const SSE: u64 = 1 << 1;
const AVX: u64 = 1 << 2;
const MPX: u64 = 3 << 3;
const AVX512: u64 = 7 << 5;
const PKRU: u64 = 1 << 9;
const AMX: u64 = 3 << 17;

/// XSETBV of XCR0 on a processor that supports the components `supported` (CPUID leaf 0xD): the
/// new value, or #GP (SDM vol. 1, 13.3). The privilege check, and that ECX is 0, are the caller's.
pub fn write_xcr0(value: u64, supported: u64) -> Result<u64, Gp> {
    unless(value & !supported != 0)?;
    unless(value & X87 == 0)?;
    unless(value & AVX != 0 && value & SSE == 0)?;
    unless(value & AVX512 != 0 && value & (AVX512 | AVX) != AVX512 | AVX)?;
    for pair in [MPX, AMX] {
        unless(value & pair != 0 && value & pair != pair)?;
    }
    Ok(value)
}

/// Size of the legacy area and the header.
const BASE_SIZE: u32 = 576;

/// A component beyond x87 and SSE.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Component {
    pub size: u32,
    /// Offset in the standard format.
    pub offset: u32,
    /// Aligned to 64 bytes in the compacted format.
    pub align: bool,
}

/// Number of components that are looked at.
const COMPONENTS: usize = 10;

/// The XSAVE state that children are offered: what fits a standard-format area of one page, and
/// has no state outside of it. That leaves out AMX; MPX is left out because it is dead.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    offered: u64,
    components: [Component; COMPONENTS],
}

impl Layout {
    /// From the processor's CPUID leaf 0xD, as a function of the subleaf.
    pub fn new(leaf_d: impl Fn(u32) -> [u32; 4]) -> Layout {
        let [eax, _, _, edx] = leaf_d(0);
        let native = u64::from(eax) | u64::from(edx) << 32;
        let mut layout = Layout { offered: 0, components: Default::default() };
        let mut offered = native & (X87 | SSE | AVX | AVX512 | PKRU);
        for (i, component) in layout.components.iter_mut().enumerate().skip(2) {
            let [size, offset, flags, _] = leaf_d(i as u32);
            *component = Component { size, offset, align: flags & 2 != 0 };
            let end = offset.saturating_add(size);
            if size == 0 || offset < BASE_SIZE || end > hvabi::PAGE_SIZE as u32 || flags & 1 != 0 {
                offered &= !(1 << i);
            }
        }
        // Drop what can not be had without another one.
        if offered & SSE == 0 {
            offered &= !AVX;
        }
        if offered & (AVX512 | AVX) != AVX512 | AVX {
            offered &= !AVX512;
        }
        layout.offered = offered;
        layout
    }

    /// What XCR0 of a child may hold.
    pub fn offered(&self) -> u64 {
        self.offered
    }

    /// Component `i`, if it is offered and described by a subleaf.
    pub fn component(&self, i: u32) -> Option<Component> {
        let found = self.components.get(i as usize)?;
        (i >= 2 && self.offered >> i & 1 != 0).then_some(*found)
    }

    fn enabled(&self, xcr0: u64) -> impl Iterator<Item = Component> + '_ {
        (2..COMPONENTS as u32).filter(move |i| xcr0 >> i & 1 != 0).filter_map(|i| self.component(i))
    }

    /// Size of the standard format with these components.
    pub fn size(&self, xcr0: u64) -> u32 {
        self.enabled(xcr0).map(|c| c.offset + c.size).fold(BASE_SIZE, u32::max)
    }

    /// Size of the compacted format with these components.
    pub fn compact_size(&self, xcr0: u64) -> u32 {
        self.enabled(xcr0)
            .fold(BASE_SIZE, |at, c| c.size + if c.align { at.next_multiple_of(64) } else { at })
    }
}

/// A processor with everything, for tests.
#[cfg(test)]
pub fn full(subleaf: u32) -> [u32; 4] {
    match subleaf {
        0 => [0x602e7, 2696, 11008, 0],
        1 => [0x1f, 0, 0x1900, 0],
        2 => [256, 576, 0, 0],
        5 => [64, 1088, 0, 0],
        6 => [512, 1152, 0, 0],
        7 => [1024, 1664, 0, 0],
        9 => [8, 2688, 0, 0],
        17 => [64, 2752, 2, 0],
        18 => [8192, 2816, 6, 0],
        _ => [0; 4],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xcr0_combinations() {
        let all = 0x602ff;
        for good in [1, 3, 7, 0xe7, 0x1f, 0x207, 0x602ff, 0x60003] {
            assert_eq!(write_xcr0(good, all), Ok(good), "{good:#x}");
        }
        for bad in [0, 2, 6, 5, 0x27, 0xe3, 0xc7, 0xb, 0x13, 0x20003, 0x40003, 1 << 63, 0x107] {
            assert_eq!(write_xcr0(bad, all), Err(Gp), "{bad:#x}");
        }
        assert_eq!(write_xcr0(7, 3), Err(Gp));
    }

    #[test]
    fn offers_what_fits() {
        let layout = Layout::new(full);
        assert_eq!(layout.offered(), 0x2e7);
        assert_eq!((layout.size(1), layout.size(7), layout.size(0x2e7)), (576, 832, 2696));
        assert_eq!(layout.compact_size(0x207), 576 + 256 + 8);
        assert!(layout.component(17).is_none() && layout.component(0).is_none());
        assert!(layout.component(u32::MAX).is_none());
        // Half of AVX-512 is none of it.
        let half = Layout::new(|i| if i == 6 { [512, 4000, 0, 0] } else { full(i) });
        assert_eq!(half.offered(), 0x207);
        assert_eq!(Layout::new(|_| [0; 4]).size(u64::MAX), 576);
    }
}
