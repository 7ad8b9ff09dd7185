// SPDX-License-Identifier: GPL-2.0
//! The registers of a virtual processor.

/// Vectors of exceptions.
pub mod exception {
    pub const DIVIDE: u8 = 0;
    pub const TASK: u8 = 10;
    pub const NOT_PRESENT: u8 = 11;
    pub const STACK: u8 = 12;
    pub const GENERAL_PROTECTION: u8 = 13;
}

/// General-purpose registers, in the order of their encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Gpr {
    Rax,
    Rcx,
    Rdx,
    Rbx,
    Rsp,
    Rbp,
    Rsi,
    Rdi,
    R8,
    R9,
    R10,
    R11,
    R12,
    R13,
    R14,
    R15,
}

impl Gpr {
    pub const ALL: [Gpr; 16] = [
        Gpr::Rax,
        Gpr::Rcx,
        Gpr::Rdx,
        Gpr::Rbx,
        Gpr::Rsp,
        Gpr::Rbp,
        Gpr::Rsi,
        Gpr::Rdi,
        Gpr::R8,
        Gpr::R9,
        Gpr::R10,
        Gpr::R11,
        Gpr::R12,
        Gpr::R13,
        Gpr::R14,
        Gpr::R15,
    ];
}

/// A 64-bit register that emulation may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Register {
    Gpr(Gpr),
    Rip,
    Rflags,
}

/// A segment register with its hidden part. `attributes` are bits 8 to 23 of a
/// descriptor's upper half: type, S, DPL, P, then AVL, L, D and G from bit 12.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Segment {
    pub base: u64,
    pub limit: u32,
    pub selector: u16,
    pub attributes: u16,
}

impl Segment {
    const TYPE: u16 = 0xf;
    const ACCESSED: u16 = 1 << 0;
    const READ_OR_WRITE: u16 = 1 << 1;
    const CONFORMING_OR_DOWN: u16 = 1 << 2;
    const CODE: u16 = 1 << 3;
    const CODE_OR_DATA: u16 = 1 << 4;
    const PRESENT: u16 = 1 << 7;
    const LONG: u16 = 1 << 13;
    const DEFAULT_BIG: u16 = 1 << 14;
    const GRANULAR: u16 = 1 << 15;

    /// Execute/read, accessed, over all of the address space.
    pub fn flat_code(selector: u16, long: bool) -> Self {
        let width = if long { Self::LONG } else { Self::DEFAULT_BIG };
        Self::flat(selector, 0xb | width)
    }

    /// Read/write, accessed, over all of the address space.
    pub fn flat_data(selector: u16) -> Self {
        Self::flat(selector, 0x3 | Self::DEFAULT_BIG)
    }

    fn flat(selector: u16, kind: u16) -> Self {
        Self {
            base: 0,
            limit: u32::MAX,
            selector,
            attributes: kind | Self::CODE_OR_DATA | Self::PRESENT | Self::GRANULAR,
        }
    }

    /// A busy TSS: VM entry wants one even where nobody will use it.
    pub fn task(selector: u16) -> Self {
        Self {
            base: 0,
            limit: 0x67,
            selector,
            attributes: 0xb | Self::PRESENT,
        }
    }

    /// Not usable (the local descriptor table that nobody loads).
    pub fn absent() -> Self {
        Self {
            attributes: 0x2,
            ..Self::default()
        }
    }

    /// As a descriptor in memory describes it.
    pub fn from_descriptor(selector: u16, word: u64) -> Self {
        let attributes = (word >> 40) as u16 & 0xf0ff;
        let limit = (word & 0xffff | word >> 32 & 0xf_0000) as u32;
        Self {
            base: word >> 16 & 0xff_ffff | word >> 32 & 0xff00_0000,
            limit: if attributes & Self::GRANULAR != 0 {
                limit << 12 | 0xfff
            } else {
                limit
            },
            selector,
            attributes,
        }
    }

    /// Any segment register in virtual-8086 mode.
    pub fn virtual_8086(selector: u16) -> Self {
        Self {
            base: u64::from(selector) << 4,
            limit: 0xffff,
            selector,
            attributes: 0x3 | Self::CODE_OR_DATA | 3 << 5 | Self::PRESENT,
        }
    }

    pub fn is_present(&self) -> bool {
        self.attributes & Self::PRESENT != 0
    }

    /// Not code or data.
    pub fn is_system(&self) -> bool {
        self.attributes & Self::CODE_OR_DATA == 0
    }

    pub fn is_code(&self) -> bool {
        !self.is_system() && self.attributes & Self::CODE != 0
    }

    /// Code that more privileged code may call as it is.
    pub fn is_conforming(&self) -> bool {
        self.is_code() && self.attributes & Self::CONFORMING_OR_DOWN != 0
    }

    pub fn is_readable(&self) -> bool {
        !self.is_system() && (!self.is_code() || self.attributes & Self::READ_OR_WRITE != 0)
    }

    pub fn is_writable(&self) -> bool {
        !self.is_system() && !self.is_code() && self.attributes & Self::READ_OR_WRITE != 0
    }

    pub fn accessed(self) -> Self {
        Self {
            attributes: self.attributes | Self::ACCESSED,
            ..self
        }
    }

    /// Whether the limit allows `size` bytes at `offset`.
    pub fn reaches(&self, offset: u64, size: u64) -> bool {
        let last = offset.saturating_add(size - 1);
        if self.is_code() || self.attributes & Self::CONFORMING_OR_DOWN == 0 {
            return last <= u64::from(self.limit);
        }
        let top = if self.is_big() { 0xffff_ffff } else { 0xffff };
        offset > u64::from(self.limit) && last <= top
    }

    pub fn is_long(&self) -> bool {
        self.attributes & Self::LONG != 0
    }

    pub fn is_big(&self) -> bool {
        self.attributes & Self::DEFAULT_BIG != 0
    }

    pub fn privilege(&self) -> u8 {
        ((self.attributes >> 5) & 3) as u8
    }

    /// The descriptor that would load this segment.
    pub fn descriptor(&self) -> u64 {
        let limit = if self.attributes & Self::GRANULAR != 0 {
            self.limit >> 12
        } else {
            self.limit
        };
        let (limit, attributes) = (u64::from(limit), u64::from(self.attributes & 0xf0ff));
        (limit & 0xffff)
            | (self.base & 0xff_ffff) << 16
            | attributes << 40
            | (limit >> 16 & 0xf) << 48
            | (self.base >> 24 & 0xff) << 56
    }

    /// The type field alone.
    pub fn kind(&self) -> u16 {
        self.attributes & Self::TYPE
    }
}

/// GDTR or IDTR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Table {
    pub base: u64,
    pub limit: u16,
}

/// Everything that an instruction's effect depends on, short of vector state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CpuState {
    pub gpr: [u64; 16],
    pub rip: u64,
    pub rflags: u64,
    pub cr0: u64,
    pub cr3: u64,
    pub cr4: u64,
    pub efer: u64,
    pub cs: Segment,
    pub ds: Segment,
    pub es: Segment,
    pub fs: Segment,
    pub gs: Segment,
    pub ss: Segment,
    pub tr: Segment,
    pub ldtr: Segment,
    pub gdtr: Table,
    pub idtr: Table,
}

impl CpuState {
    pub const CR0_PE: u64 = 1 << 0;
    pub const CR0_ET: u64 = 1 << 4;
    pub const CR0_NE: u64 = 1 << 5;
    pub const CR0_WP: u64 = 1 << 16;
    pub const CR0_PG: u64 = 1 << 31;
    pub const CR4_PSE: u64 = 1 << 4;
    pub const CR4_PAE: u64 = 1 << 5;
    pub const CR4_LA57: u64 = 1 << 12;
    pub const CR4_SMAP: u64 = 1 << 21;
    pub const RFLAGS_VM: u64 = 1 << 17;
    pub const RFLAGS_AC: u64 = 1 << 18;
    pub const EFER_LME: u64 = 1 << 8;
    pub const EFER_LMA: u64 = 1 << 10;

    pub fn get(&self, gpr: Gpr) -> u64 {
        self.gpr[gpr as usize]
    }

    pub fn set(&mut self, gpr: Gpr, value: u64) {
        self.gpr[gpr as usize] = value;
    }

    /// Width in which the processor decodes: 16, 32 or 64.
    pub fn bitness(&self) -> u32 {
        if self.efer & Self::EFER_LMA != 0 && self.cs.is_long() {
            64
        } else if self.cs.is_big() {
            32
        } else {
            16
        }
    }

    /// Segments have types and rights: protected mode, and not virtual-8086.
    pub fn is_protected(&self) -> bool {
        self.cr0 & Self::CR0_PE != 0 && self.rflags & Self::RFLAGS_VM == 0
    }

    /// Whether an address can be used in 64-bit mode.
    pub fn is_canonical(&self, address: u64) -> bool {
        let unused = if self.cr4 & Self::CR4_LA57 != 0 {
            7
        } else {
            16
        };
        ((address << unused) as i64 >> unused) as u64 == address
    }

    /// Whether memory accesses are a user's.
    pub fn is_user(&self) -> bool {
        self.cr0 & Self::CR0_PE != 0 && self.ss.privilege() == 3
    }

    /// The 64-bit registers in which `self` differs from `before`.
    pub fn changes_since(&self, before: &CpuState) -> Vec<(Register, u64)> {
        let mut changes: Vec<_> = Gpr::ALL
            .into_iter()
            .filter(|&gpr| self.get(gpr) != before.get(gpr))
            .map(|gpr| (Register::Gpr(gpr), self.get(gpr)))
            .collect();
        if self.rip != before.rip {
            changes.push((Register::Rip, self.rip));
        }
        if self.rflags != before.rflags {
            changes.push((Register::Rflags, self.rflags));
        }
        changes
    }
}

impl std::fmt::Display for CpuState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, gpr) in Gpr::ALL.into_iter().enumerate() {
            let end = if index % 4 == 3 { '\n' } else { ' ' };
            let name = format!("{gpr:?}").to_uppercase();
            write!(f, "{name:>6}={:016x}{end}", self.get(gpr))?;
        }
        writeln!(f, "   RIP={:016x} RFLAGS={:016x}", self.rip, self.rflags)?;
        writeln!(
            f,
            "   CR0={:016x}    CR3={:016x}    CR4={:016x}   EFER={:016x}",
            self.cr0, self.cr3, self.cr4, self.efer
        )?;
        for (name, segment) in [
            ("CS", &self.cs),
            ("DS", &self.ds),
            ("ES", &self.es),
            ("FS", &self.fs),
            ("GS", &self.gs),
            ("SS", &self.ss),
            ("TR", &self.tr),
            ("LDTR", &self.ldtr),
        ] {
            writeln!(
                f,
                "{name:>6}={:04x} base={:016x} limit={:08x} attributes={:04x}",
                segment.selector, segment.base, segment.limit, segment.attributes
            )?;
        }
        writeln!(f, "  GDTR={:016x}/{:04x}", self.gdtr.base, self.gdtr.limit)?;
        write!(f, "  IDTR={:016x}/{:04x}", self.idtr.base, self.idtr.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_the_customary_ones() {
        assert_eq!(
            Segment::flat_code(0x10, true).descriptor(),
            0x00af_9b00_0000_ffff
        );
        assert_eq!(
            Segment::flat_code(0x10, false).descriptor(),
            0x00cf_9b00_0000_ffff
        );
        assert_eq!(Segment::flat_data(0x18).descriptor(), 0x00cf_9300_0000_ffff);
        assert_eq!(Segment::task(0x20).descriptor(), 0x0000_8b00_0000_0067);
    }

    #[test]
    fn only_what_changed_is_reported() {
        let before = CpuState::default();
        let mut after = before;
        after.rip = 2;
        after.set(Gpr::Rsi, 7);
        assert_eq!(
            after.changes_since(&before),
            [(Register::Gpr(Gpr::Rsi), 7), (Register::Rip, 2)]
        );
    }
}
