// SPDX-License-Identifier: GPL-2.0

//! Extended state of children. hvcore is compiled soft-float and never has any itself.

use core::arch::asm;

/// An XSAVE area of a page: every feature that children are offered fits (policy::cpuid).
#[repr(C, align(4096))]
pub struct Area {
    bytes: [u64; 512],
}

// SAFETY: an array of integers.
unsafe impl crate::mem::frame::Zeroable for Area {}

impl Area {
    /// Saves the components that XCR0 enables.
    pub fn save(&mut self) {
        // SAFETY: CR4.OSXSAVE is set; XCR0 holds only components that fit the page, whose
        // alignment is right.
        unsafe {
            asm!("xsave64 [{}]", in(reg) self, in("eax") u32::MAX, in("edx") u32::MAX,
                options(nostack, preserves_flags));
        }
    }

    /// Restores the components that XCR0 enables.
    pub fn restore(&self) {
        // SAFETY: as in `save`; the header is clean: see `words_mut`.
        unsafe {
            asm!("xrstor64 [{}]", in(reg) self, in("eax") u32::MAX, in("edx") u32::MAX,
                options(nostack, preserves_flags));
        }
    }

    pub fn words(&self) -> &[u64; 512] {
        &self.bytes
    }

    /// The state after RESET: header zero (all components in their initial state), FCW and MXCSR
    /// as the SDM says (vol. 1, 13.6).
    pub fn reset(&mut self) {
        self.bytes = [0; 512];
        self.bytes[0] = 0x37f;
        self.bytes[3] = 0x1f80;
    }

    /// Takes state from a hostile page: only what cannot make XRSTOR fault is kept, that is a
    /// standard-format header with components in `offered`, and MXCSR without reserved bits.
    pub fn set(&mut self, from: &[u64; 512], offered: u64) {
        const HEADER: usize = 64;
        self.bytes = *from;
        self.bytes[HEADER] &= offered;
        for word in &mut self.bytes[HEADER + 1..HEADER + 8] {
            *word = 0;
        }
        self.bytes[3] &= 0xffff_ffff_0000_ffff;
    }
}
