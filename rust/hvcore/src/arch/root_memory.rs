// SPDX-License-Identifier: GPL-2.0

//! Memory of the root that hvcore reads and writes: list pages, run pages, descriptor tables.
//!
//! The root can change such memory at any time, so each value is read once, into a copy that alone is
//! looked at, and there are no references to it.

use crate::mem::frame::direct;

/// A page of RAM that belongs to the root or to a child, and whose contents are hostile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hostile {
    spa: u64,
}

impl Hostile {
    /// Whoever makes one has asked the ownership rule that the page is RAM and the root's, or that
    /// of the child that runs on this LP.
    pub(crate) const fn owned_by_root(spa: u64) -> Self {
        Self { spa: spa & !0xfff }
    }

    pub const fn spa(self) -> u64 {
        self.spa
    }

    fn address<T>(self, offset: usize) -> *mut T {
        // Never past the page, whatever the offset.
        let offset = offset.min(hvabi::PAGE_SIZE - core::mem::size_of::<T>());
        direct(self.spa + offset as u64).cast()
    }

    /// Reads a plain integer or array of them.
    pub fn read<T: Plain>(self, offset: usize) -> T {
        // SAFETY: the address is within a page of RAM in the direct map, every bit pattern is a
        // `T`, and hvcore holds no reference to memory of the root.
        unsafe { self.address::<T>(offset).read_unaligned() }
    }

    /// Writes a plain integer or array of them.
    pub fn write<T: Plain>(self, offset: usize, value: T) {
        // SAFETY: as in `read`; the page is the root's, so nothing of hvcore changes.
        unsafe { self.address::<T>(offset).write_unaligned(value) }
    }
}

/// Types of which every bit pattern is a value.
///
/// # Safety
///
/// No padding, no invalid pattern, no pointer; at most a page long.
pub unsafe trait Plain: Copy {}

macro_rules! plain {
    ($($t:ty),*) => { $(
        // SAFETY: integers, and structures of integers with explicit padding.
        unsafe impl Plain for $t {}
    )* };
}
plain!(
    u8,
    u16,
    u32,
    u64,
    [u32; 4],
    [u64; 16],
    [u32; 1024],
    hvabi::vp::Segment,
    hvabi::vp::RunPage,
    hvabi::state::Registers,
    hvabi::stats::VpStats,
    hvabi::boot::LeaveFrame,
    hvabi::boot::CoreInfo,
    [u64; 512]
);

/// Translates a linear address by the page tables of a guest in long mode. `page` is the page of
/// RAM that the guest sees at an address; the result is where the byte lies. `None` if it is not
/// mapped or not in RAM.
pub fn translate(
    cr3: u64,
    five_levels: bool,
    address: u64,
    page: impl Fn(u64) -> Option<Hostile>,
) -> Option<(Hostile, usize)> {
    const FRAME: u64 = 0x000f_ffff_ffff_f000;
    let mut table = cr3 & FRAME;
    let top = if five_levels { 5 } else { 4 };
    for level in (1..=top).rev() {
        let shift = 12 + 9 * (level - 1);
        let index = (address >> shift & 0x1ff) as usize;
        let entry: u64 = page(table)?.read(index * 8);
        if entry & 1 == 0 {
            return None;
        }
        if level == 1 || (level <= 3 && entry & 1 << 7 != 0) {
            let offset = (1u64 << shift) - 1;
            let found = page(entry & FRAME & !offset | address & offset)?;
            return Some((found, (address & 0xfff) as usize));
        }
        table = entry & FRAME;
    }
    None
}

/// Reads eight bytes at a linear address of the root, which do not cross a page, at launch.
pub fn read_linear(cr3: u64, five_levels: bool, address: u64, ram_end: u64) -> Option<u64> {
    let ram = |spa| (spa < ram_end).then_some(Hostile::owned_by_root(spa));
    let (page, offset) = translate(cr3, five_levels, address, ram)?;
    Some(page.read(offset))
}
