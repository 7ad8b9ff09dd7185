// SPDX-License-Identifier: GPL-2.0

//! hvcore's descriptor tables, one set for each LP.
//!
//! The selectors of code, data and TSS are those of Linux (`arch/x86/include/asm/segment.h`), so
//! that the code that runs between the trampoline and the first VM entry, still with Linux's
//! selectors, can take an NMI through hvcore's IDT and return.

use super::fault;
use core::arch::asm;
use hvabi::boot::TablePointer;

pub const CODE: u16 = 0x10;
pub const DATA: u16 = 0x18;
pub const TSS: u16 = 0x40;

const GDT_ENTRIES: usize = 10;
const IDT_ENTRIES: usize = 256;

/// 64-bit task-state segment (SDM vol. 3, 9.7).
#[repr(C, packed(4))]
struct Tss {
    reserved0: u32,
    rsp: [u64; 3],
    reserved1: u64,
    ist: [u64; 7],
    reserved2: u64,
    reserved3: u16,
    io_map: u16,
}

/// GDT and TSS of an LP. Does not move once loaded.
#[repr(C, align(64))]
pub struct Tables {
    gdt: [u64; GDT_ENTRIES],
    tss: Tss,
}

/// IST slots: NMI; and faults that may come at any moment (#DF, #MC).
const IST_NMI: u8 = 1;
const IST_GRAVE: u8 = 2;

impl Tables {
    pub const EMPTY: Self = Self {
        gdt: [0; GDT_ENTRIES],
        tss: Tss {
            reserved0: 0,
            rsp: [0; 3],
            reserved1: 0,
            ist: [0; 7],
            reserved2: 0,
            reserved3: 0,
            io_map: core::mem::size_of::<Tss>() as u16,
        },
    };

    /// Fills the tables in their final place. `ist_page` is one page of stack for NMI and grave
    /// faults.
    pub fn fill(&mut self, ist_page: u64) {
        self.gdt[usize::from(CODE) / 8] = 0x00af_9b00_0000_ffff;
        self.gdt[usize::from(DATA) / 8] = 0x00cf_9300_0000_ffff;
        self.tss.ist[usize::from(IST_NMI) - 1] = ist_page + 2048;
        self.tss.ist[usize::from(IST_GRAVE) - 1] = ist_page + 4096;
        let [low, high] = tss_descriptor(self.tss_base(), core::mem::size_of::<Tss>() as u32 - 1);
        self.gdt[usize::from(TSS) / 8] = low;
        self.gdt[usize::from(TSS) / 8 + 1] = high;
    }

    pub fn gdt_base(&self) -> u64 {
        self.gdt.as_ptr() as u64
    }

    pub fn tss_base(&self) -> u64 {
        core::ptr::addr_of!(self.tss) as u64
    }

    /// Loads GDT, IDT and TR. Segment registers keep what they have.
    pub fn load(&mut self, idt: u64) {
        lgdt(&TablePointer { limit: (GDT_ENTRIES * 8 - 1) as u16, base: self.gdt_base() });
        lidt(&TablePointer { limit: (IDT_ENTRIES * 16 - 1) as u16, base: idt });
        self.gdt[usize::from(TSS) / 8] &= !TSS_BUSY;
        ltr(TSS);
    }
}

const TSS_BUSY: u64 = 1 << 41;

/// An available 64-bit TSS descriptor.
fn tss_descriptor(base: u64, limit: u32) -> [u64; 2] {
    let low = u64::from(limit & 0xffff)
        | (base & 0xff_ffff) << 16
        | 0x89 << 40
        | u64::from(limit >> 16 & 0xf) << 48
        | (base >> 24 & 0xff) << 56;
    [low, base >> 32]
}

/// Fills a page with the IDT.
pub fn fill_idt(page: &mut [u64; 512]) {
    for vector in 0..fault::VECTORS {
        let ist = match vector {
            2 => IST_NMI,
            8 | 18 => IST_GRAVE,
            _ => 0,
        };
        let entry = fault::stub(vector);
        page[vector * 2] = entry & 0xffff
            | u64::from(CODE) << 16
            | u64::from(ist) << 32
            | 0x8e << 40
            | (entry >> 16 & 0xffff) << 48;
        page[vector * 2 + 1] = entry >> 32;
    }
}

/// Makes TR hold the given TSS, with the given selector, without the table that the selector
/// belongs to: LTR refuses a descriptor that is busy, as the root's is, so one is made here that
/// is not. The caller then loads the GDT that it wants.
pub fn restore_tr(selector: u16, base: u64, limit: u32) {
    const SLOTS: usize = 64;
    let index = usize::from(selector) / 8;
    if selector & 4 != 0 || index == 0 || index + 1 >= SLOTS {
        return;
    }
    let mut gdt = [0u64; SLOTS];
    let [low, high] = tss_descriptor(base, limit);
    gdt[index] = low;
    gdt[index + 1] = high;
    lgdt(&TablePointer { limit: (SLOTS * 8 - 1) as u16, base: gdt.as_ptr() as u64 });
    ltr(selector);
}

pub fn lgdt(pointer: &TablePointer) {
    // SAFETY: segment registers keep their contents until they are loaded again; every table
    // passed here has Linux's layout for the selectors that hvcore uses.
    unsafe { asm!("lgdt [{}]", in(reg) pointer, options(readonly, nostack, preserves_flags)) }
}

pub fn lidt(pointer: &TablePointer) {
    // SAFETY: interrupts are off; the table serves whatever exception comes from here on.
    unsafe { asm!("lidt [{}]", in(reg) pointer, options(readonly, nostack, preserves_flags)) }
}

fn ltr(selector: u16) {
    // SAFETY: the current GDT has an available TSS descriptor there.
    unsafe { asm!("ltr {:x}", in(reg) selector, options(nostack, preserves_flags)) }
}

macro_rules! store_table {
    ($name:ident, $instruction:literal) => {
        pub fn $name() -> TablePointer {
            let mut pointer = TablePointer { limit: 0, base: 0 };
            // SAFETY: writes the ten bytes of `pointer`.
            unsafe {
                asm!(concat!($instruction, " [{}]"), in(reg) &mut pointer,
                    options(nostack, preserves_flags));
            }
            pointer
        }
    };
}
store_table!(sgdt, "sgdt");
store_table!(sidt, "sidt");

macro_rules! store_selector {
    ($name:ident, $instruction:literal) => {
        pub fn $name() -> u16 {
            let selector: u16;
            // SAFETY: only reads a selector.
            unsafe {
                asm!(concat!($instruction, " {:x}"), out(reg) selector,
                    options(nomem, nostack, preserves_flags));
            }
            selector
        }
    };
    ($name:ident, mov $register:literal) => {
        pub fn $name() -> u16 {
            let selector: u16;
            // SAFETY: only reads a selector.
            unsafe {
                asm!(concat!("mov {:x}, ", $register), out(reg) selector,
                    options(nomem, nostack, preserves_flags));
            }
            selector
        }
    };
}
store_selector!(str_, "str");
store_selector!(sldt, "sldt");
store_selector!(read_cs, mov "cs");
store_selector!(read_ss, mov "ss");
store_selector!(read_ds, mov "ds");
store_selector!(read_es, mov "es");
store_selector!(read_fs, mov "fs");
store_selector!(read_gs, mov "gs");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tss_descriptor_spreads_base_and_limit() {
        let [low, high] = tss_descriptor(0x1234_5678_9abc_def0, 0x2067);
        assert_eq!(low, 0x9a00_89bc_def0_2067);
        assert_eq!(high, 0x1234_5678);
        assert_eq!(core::mem::size_of::<Tss>(), 104);
    }
}
