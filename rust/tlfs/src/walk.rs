// SPDX-License-Identifier: GPL-2.0

//! A guest's page tables, walked by software: GVA to GPA (SDM vol. 3, chapter 5).

/// Memory of a guest.
pub trait GuestMemory {
    /// The little-endian `u64` at `gpa`, a multiple of 8, or `None` if there is no memory.
    fn read_u64(&self, gpa: u64) -> Option<u64>;
}

/// The registers that say how a VP translates addresses.
#[derive(Clone, Copy, Debug, Default)]
pub struct Paging {
    pub cr0: u64,
    pub cr3: u64,
    pub cr4: u64,
    pub efer: u64,
    pub rflags: u64,
}

const CR0_WP: u64 = 1 << 16;
const CR0_PG: u64 = 1 << 31;
const CR4_PSE: u64 = 1 << 4;
const CR4_PAE: u64 = 1 << 5;
const CR4_LA57: u64 = 1 << 12;
const CR4_SMEP: u64 = 1 << 20;
const CR4_SMAP: u64 = 1 << 21;
const EFER_LMA: u64 = 1 << 10;
const EFER_NXE: u64 = 1 << 11;
const RFLAGS_AC: u64 = 1 << 18;

const PRESENT: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const LARGE: u64 = 1 << 7;
const NX: u64 = 1 << 63;

/// Bits 12 to 51 of an entry.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// What the access is that the translation is for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Access {
    pub read: bool,
    pub write: bool,
    pub execute: bool,
    /// Made at CPL 3.
    pub user: bool,
    /// Nobody asks who makes it: only that the page is there.
    pub exempt: bool,
    /// SMAP applies whatever RFLAGS.AC says.
    pub enforce_smap: bool,
    /// SMAP does not apply.
    pub override_smap: bool,
}

/// Where a GVA leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    pub gpa: u64,
    /// Bytes from `gpa` on that certainly follow it in the same page.
    pub contiguous: u64,
}

/// Why a GVA leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An entry is not present, or the address is not canonical.
    NotPresent,
    /// Present, but this access may not.
    Privilege,
    /// An entry has bits that must be clear.
    Reserved,
    /// A table lies where there is no memory.
    Unmapped,
}

/// Form of the page tables.
#[derive(Clone, Copy)]
enum Mode {
    /// No paging.
    Flat,
    /// Two levels of 4-byte entries.
    Legacy,
    /// Three levels of 8-byte entries.
    Pae,
    /// Four or five levels.
    Long(u32),
}

impl Paging {
    fn mode(&self) -> Mode {
        if self.cr0 & CR0_PG == 0 {
            Mode::Flat
        } else if self.efer & EFER_LMA != 0 {
            Mode::Long(if self.cr4 & CR4_LA57 != 0 { 5 } else { 4 })
        } else if self.cr4 & CR4_PAE != 0 {
            Mode::Pae
        } else {
            Mode::Legacy
        }
    }
}

/// Permissions gathered on the way down.
struct Rights {
    write: bool,
    user: bool,
    execute: bool,
}

impl Rights {
    fn new() -> Rights {
        Rights {
            write: true,
            user: true,
            execute: true,
        }
    }

    fn narrow(&mut self, entry: u64, nxe: bool) {
        self.write &= entry & WRITE != 0;
        self.user &= entry & USER != 0;
        self.execute &= !(nxe && entry & NX != 0);
    }

    fn check(&self, paging: &Paging, access: &Access) -> Result<(), Fault> {
        if access.exempt {
            return Ok(());
        }
        let denied = if access.user {
            !self.user || (access.write && !self.write) || (access.execute && !self.execute)
        } else {
            let smap = paging.cr4 & CR4_SMAP != 0
                && !access.override_smap
                && (access.enforce_smap || paging.rflags & RFLAGS_AC == 0);
            let data = access.read || access.write;
            (access.write && !self.write && paging.cr0 & CR0_WP != 0)
                || (data && self.user && smap)
                || (access.execute && !self.execute)
                || (access.execute && self.user && paging.cr4 & CR4_SMEP != 0)
        };
        if denied {
            Err(Fault::Privilege)
        } else {
            Ok(())
        }
    }
}

/// Translates `gva` as the VP with `paging` would for `access`.
pub fn translate<M: GuestMemory + ?Sized>(
    memory: &M,
    paging: &Paging,
    gva: u64,
    access: &Access,
) -> Result<Translation, Fault> {
    match paging.mode() {
        Mode::Flat => Ok(found(gva & 0xffff_ffff, 12, gva & 0xffff_ffff)),
        Mode::Legacy => walk_legacy(memory, paging, gva & 0xffff_ffff, access),
        Mode::Pae => {
            let gva = gva & 0xffff_ffff;
            let pdpte_gpa = (paging.cr3 & 0xffff_ffe0) + 8 * (gva >> 30);
            let pdpte = memory.read_u64(pdpte_gpa).ok_or(Fault::Unmapped)?;
            if pdpte & PRESENT == 0 {
                return Err(Fault::NotPresent);
            }
            walk(memory, paging, gva, access, pdpte & ADDRESS, 2)
        }
        Mode::Long(levels) => {
            let bits = 12 + 9 * levels;
            let canonical = (gva as i64) << (64 - bits) >> (64 - bits);
            if canonical != gva as i64 {
                return Err(Fault::NotPresent);
            }
            walk(memory, paging, gva, access, paging.cr3 & ADDRESS, levels)
        }
    }
}

fn found(base: u64, shift: u32, gva: u64) -> Translation {
    let offset = gva & ((1 << shift) - 1);
    Translation {
        gpa: base & !((1 << shift) - 1) | offset,
        contiguous: (1 << shift) - offset,
    }
}

fn walk<M: GuestMemory + ?Sized>(
    memory: &M,
    paging: &Paging,
    gva: u64,
    access: &Access,
    root: u64,
    levels: u32,
) -> Result<Translation, Fault> {
    let nxe = paging.efer & EFER_NXE != 0;
    let mut rights = Rights::new();
    let mut table = root;
    let mut level = levels;
    loop {
        level -= 1;
        let shift = 12 + 9 * level;
        let index = gva >> shift & 0x1ff;
        let entry = memory.read_u64(table + 8 * index).ok_or(Fault::Unmapped)?;
        if entry & PRESENT == 0 {
            return Err(Fault::NotPresent);
        }
        if !nxe && entry & NX != 0 {
            return Err(Fault::Reserved);
        }
        rights.narrow(entry, nxe);
        let large = level > 0 && entry & LARGE != 0;
        if large && level > 2 {
            return Err(Fault::Reserved);
        }
        if large || level == 0 {
            // Of a large page bit 12 is PAT; from 13 to its size the bits must be clear.
            if large && entry & ADDRESS & ((1 << shift) - 1) & !(1 << 12) != 0 {
                return Err(Fault::Reserved);
            }
            rights.check(paging, access)?;
            return Ok(found(entry & ADDRESS, shift, gva));
        }
        table = entry & ADDRESS;
    }
}

fn read_u32<M: GuestMemory + ?Sized>(memory: &M, gpa: u64) -> Option<u64> {
    let both = memory.read_u64(gpa & !7)?;
    Some(both >> (8 * (gpa & 4)) & 0xffff_ffff)
}

fn walk_legacy<M: GuestMemory + ?Sized>(
    memory: &M,
    paging: &Paging,
    gva: u64,
    access: &Access,
) -> Result<Translation, Fault> {
    let mut rights = Rights::new();
    let pde_gpa = (paging.cr3 & 0xffff_f000) + 4 * (gva >> 22);
    let pde = read_u32(memory, pde_gpa).ok_or(Fault::Unmapped)?;
    if pde & PRESENT == 0 {
        return Err(Fault::NotPresent);
    }
    rights.narrow(pde, false);
    if pde & LARGE != 0 && paging.cr4 & CR4_PSE != 0 {
        if pde & 1 << 21 != 0 {
            return Err(Fault::Reserved);
        }
        rights.check(paging, access)?;
        // PSE-36: bits 13 to 20 are bits 32 to 39 of the address.
        let base = pde & 0xffc0_0000 | (pde >> 13 & 0xff) << 32;
        return Ok(found(base, 22, gva));
    }
    let pte_gpa = (pde & 0xffff_f000) + 4 * (gva >> 12 & 0x3ff);
    let pte = read_u32(memory, pte_gpa).ok_or(Fault::Unmapped)?;
    if pte & PRESENT == 0 {
        return Err(Fault::NotPresent);
    }
    rights.narrow(pte, false);
    rights.check(paging, access)?;
    Ok(found(pte & 0xffff_f000, 12, gva))
}
