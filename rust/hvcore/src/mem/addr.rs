// SPDX-License-Identifier: GPL-2.0

//! Addresses that were checked once, where they came in.

use core::num::NonZeroU64;

pub use hvabi::GPA_END;

/// Bytes of a page.
pub const PAGE_SIZE: u64 = hvabi::PAGE_SIZE as u64;

/// First byte above any physical address that a paging entry can hold.
pub const SPA_END: u64 = 1 << 52;

/// Sizes of pages that EPT maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Size {
    /// 4 KiB.
    K4,
    /// 2 MiB.
    M2,
    /// 1 GiB.
    G1,
}

impl Size {
    /// All sizes, the largest first.
    pub const DESCENDING: [Size; 3] = [Size::G1, Size::M2, Size::K4];

    /// Level of the paging structure whose entry maps such a page; 1 is the lowest.
    pub const fn level(self) -> u32 {
        match self {
            Size::K4 => 1,
            Size::M2 => 2,
            Size::G1 => 3,
        }
    }

    /// The size that an entry of a structure at `level` maps.
    pub const fn at_level(level: u32) -> Option<Size> {
        match level {
            1 => Some(Size::K4),
            2 => Some(Size::M2),
            3 => Some(Size::G1),
            _ => None,
        }
    }

    pub const fn bytes(self) -> u64 {
        1 << (12 + 9 * (self.level() - 1))
    }

    /// Number of 4 KiB pages in it.
    pub const fn pages(self) -> u64 {
        self.bytes() / PAGE_SIZE
    }

    /// Whether `address` is a multiple of this size.
    pub const fn aligns(self, address: u64) -> bool {
        address & (self.bytes() - 1) == 0
    }

    /// The multiple of this size at or below `address`.
    pub const fn floor(self, address: u64) -> u64 {
        address & !(self.bytes() - 1)
    }
}

/// A system physical address. Having one proves that it is below [`SPA_END`]; it may be RAM, a
/// device or nothing at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spa(u64);

/// A guest physical address. Having one proves that it is below [`GPA_END`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gpa(u64);

macro_rules! address {
    ($name:ident, $end:expr) => {
        impl $name {
            pub const fn new(raw: u64) -> Option<$name> {
                if raw < $end {
                    Some($name(raw))
                } else {
                    None
                }
            }

            pub const fn raw(self) -> u64 {
                self.0
            }

            /// The address `bytes` above this one, if there is such a thing.
            pub const fn add(self, bytes: u64) -> Option<$name> {
                match self.0.checked_add(bytes) {
                    Some(raw) => $name::new(raw),
                    None => None,
                }
            }

            /// Start of the page of that size that the address lies in.
            pub const fn floor(self, size: Size) -> $name {
                $name(size.floor(self.0))
            }
        }
    };
}

address!(Spa, SPA_END);
address!(Gpa, GPA_END);

impl Gpa {
    /// The same number as a system physical address: what the root sees there.
    pub const fn identity(self) -> Spa {
        Spa(self.0)
    }
}

/// A 4 KiB page of RAM. Having one proves that it lies below the end of RAM and that the MTRRs call
/// it write-back, so that it is in hvcore's direct map and not a device. It says nothing of the
/// page's owner. Page 0 never becomes one.
///
/// Only [`Owners`](super::owner::Owners) makes them, from what the root says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Page(NonZeroU64);

impl Page {
    /// INVARIANT: the caller checked what the type proves.
    pub(super) fn proven(spa: u64) -> Option<Page> {
        if !Size::K4.aligns(spa) || spa >= SPA_END {
            return None;
        }
        NonZeroU64::new(spa).map(Page)
    }

    pub fn spa(self) -> Spa {
        Spa(self.0.get())
    }

    pub fn number(self) -> u64 {
        self.0.get() / PAGE_SIZE
    }
}

/// A range of guest pages. Having one proves that it is page-aligned, not empty, and does not wrap
/// nor pass [`GPA_END`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GpaRange {
    start: u64,
    end: u64,
}

impl GpaRange {
    pub fn new(start: u64, pages: u64) -> Option<GpaRange> {
        let end = pages.checked_mul(PAGE_SIZE)?.checked_add(start)?;
        if !Size::K4.aligns(start) || pages == 0 || end > GPA_END {
            return None;
        }
        Some(GpaRange { start, end })
    }

    pub fn start(self) -> u64 {
        self.start
    }

    /// First byte behind it; may be [`GPA_END`].
    pub fn end(self) -> u64 {
        self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_end() {
        assert!(Gpa::new(GPA_END - 1).is_some() && Gpa::new(GPA_END).is_none());
        assert!(Spa::new(SPA_END).is_none() && Spa::new(u64::MAX).is_none());
        assert!(Gpa::new(1).unwrap().add(u64::MAX).is_none());
        assert_eq!(Gpa::new(0x40_1234).unwrap().floor(Size::M2).raw(), 0x40_0000);
    }

    #[test]
    fn ranges_do_not_wrap() {
        assert!(GpaRange::new(0x1000, 1).is_some());
        assert!(GpaRange::new(0x1001, 1).is_none());
        assert!(GpaRange::new(0x1000, 0).is_none());
        assert!(GpaRange::new(0, GPA_END / PAGE_SIZE).is_some());
        assert!(GpaRange::new(0x1000, GPA_END / PAGE_SIZE).is_none());
        assert!(GpaRange::new(0x1000, u64::MAX / PAGE_SIZE + 1).is_none());
        assert!(GpaRange::new(!0xfff, 1).is_none());
    }

    #[test]
    fn page_zero_is_none() {
        assert!(Page::proven(0).is_none() && Page::proven(0x1800).is_none());
        assert_eq!(Page::proven(0x2000).unwrap().number(), 2);
    }
}
