// SPDX-License-Identifier: GPL-2.0

//! Events that are injected at VM entry, and what an exit left half done.

use crate::arch::vmcs;
use crate::policy::cr::efer::LMA;

/// A VM-entry interruption-information value (SDM vol. 3, 25.8.3), with bit 31 set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    info: u32,
    error: u32,
    length: u32,
}

const VALID: u32 = 1 << 31;
const HAS_ERROR: u32 = 1 << 11;
const TYPE_EXTERNAL: u32 = 0;
const TYPE_NMI: u32 = 2 << 8;
const TYPE_HARDWARE: u32 = 3 << 8;
const TYPE_MASK: u32 = 7 << 8;

impl Event {
    pub const NMI: Self = Self { info: VALID | TYPE_NMI | 2, error: 0, length: 0 };
    pub const UD: Self = Self::exception(6);
    /// #GP(0).
    pub const GP: Self = Self { info: VALID | TYPE_HARDWARE | HAS_ERROR | 13, error: 0, length: 0 };

    /// A hardware exception without an error code.
    pub const fn exception(vector: u8) -> Self {
        Self { info: VALID | TYPE_HARDWARE | vector as u32, error: 0, length: 0 }
    }

    /// An external interrupt.
    pub const fn interrupt(vector: u8) -> Self {
        Self { info: VALID | TYPE_EXTERNAL | vector as u32, error: 0, length: 0 }
    }

    /// The same event with an error code.
    pub const fn with_error(self, error: u32) -> Self {
        Self { info: self.info | HAS_ERROR, error, length: 0 }
    }

    /// Event of a VP that the root sets: only types and vectors that VM entry accepts (SDM
    /// vol. 3, 27.2.1.3): external interrupts, NMI, and exceptions with the error code that the
    /// vector has in protected mode.
    pub fn from_root(info: u32, error: u32) -> Option<Self> {
        let vector = info & 0xff;
        let valid = match info & TYPE_MASK {
            TYPE_EXTERNAL => info & HAS_ERROR == 0,
            TYPE_NMI => vector == 2 && info & HAS_ERROR == 0,
            TYPE_HARDWARE => {
                vector < 32
                    && vector != 2
                    && (info & HAS_ERROR == 0 || matches!(vector, 8 | 10..=14 | 17 | 21))
            }
            _ => false,
        };
        let known = VALID | HAS_ERROR | TYPE_MASK | 0xff;
        (valid && info & VALID != 0 && info & !known == 0 && error <= 0xffff).then_some(Self {
            info,
            error,
            length: 0,
        })
    }

    /// The event as the guest's mode has it: in real mode exceptions have no error code.
    pub const fn for_mode(self, cr0: u64) -> Self {
        if cr0 & 1 == 0 {
            Self { info: self.info & !HAS_ERROR, ..self }
        } else {
            self
        }
    }

    /// The exception that caused an exit, with that exit information, to be delivered after all.
    pub fn exited(info: u32) -> Self {
        let info = info & (VALID | HAS_ERROR | TYPE_MASK | 0xff);
        let error = if info & HAS_ERROR != 0 { vmcs::EXIT_ERROR.read() } else { 0 };
        Self { info, error, length: vmcs::EXIT_LENGTH.read() }
    }

    /// Whether an exit's information tells of INT1, a trap that exits before the instruction.
    pub const fn is_int1(info: u32) -> bool {
        info & TYPE_MASK == 5 << 8
    }

    /// What an entry that did not happen would have delivered.
    pub fn withdrawn() -> Option<Self> {
        let info = vmcs::ENTRY_INFO.read();
        if info & VALID == 0 {
            return None;
        }
        let error = if info & HAS_ERROR != 0 { vmcs::ENTRY_ERROR.read() } else { 0 };
        Some(Self { info, error, length: vmcs::ENTRY_LENGTH.read() })
    }

    /// What an exit interrupted while it was being delivered, to be delivered again.
    #[inline(always)]
    pub fn interrupted() -> Option<Self> {
        let info = vmcs::VECTORING_INFO.read();
        if info & VALID == 0 {
            return None;
        }
        Some(Self::half_done(info))
    }

    #[cold]
    fn half_done(info: u32) -> Self {
        // Bit 12 of the vectoring information is undefined and must be 0 at entry.
        let info = info & !(1 << 12);
        let error = if info & HAS_ERROR != 0 { vmcs::VECTORING_ERROR.read() } else { 0 };
        Self { info, error, length: vmcs::EXIT_LENGTH.read() }
    }

    pub const fn info(self) -> u32 {
        self.info
    }

    pub const fn error(self) -> u32 {
        self.error
    }

    /// Has the next VM entry deliver it. A fault is to be seen with RF set, so that no breakpoint
    /// stops the instruction when it is tried again; VM entry leaves that to us.
    pub fn inject(self) {
        const RF: u64 = 1 << 16;
        const DEBUG: u32 = 1;
        if self.info & TYPE_MASK == TYPE_HARDWARE && self.info & 0xff != DEBUG {
            vmcs::GUEST_RFLAGS.write(vmcs::GUEST_RFLAGS.read() | RF);
        }
        if self.info & TYPE_MASK == TYPE_NMI {
            // One whose delivery was interrupted blocks NMIs already. This one will, and entry
            // refuses it where virtual ones are blocked (SDM vol. 3, 27.3.1.5).
            let state = vmcs::GUEST_INTERRUPTIBILITY.read();
            vmcs::GUEST_INTERRUPTIBILITY.write(state & !blocking::NMI);
        }
        vmcs::ENTRY_INFO.write(self.info);
        if self.info & HAS_ERROR != 0 {
            vmcs::ENTRY_ERROR.write(self.error);
        }
        vmcs::ENTRY_LENGTH.write(self.length);
    }

    /// True if the next VM entry delivers something.
    pub fn is_pending() -> bool {
        vmcs::ENTRY_INFO.read() & VALID != 0
    }
}

/// Interruptibility state (SDM vol. 3, 25.4.2).
pub mod blocking {
    pub const STI: u32 = 1 << 0;
    pub const MOV_SS: u32 = 1 << 1;
    pub const NMI: u32 = 1 << 3;
}

/// Moves RIP behind the instruction that exited, as if it had been executed.
pub fn skip_instruction() {
    advance();
    pend_single_step();
}

/// The same, without the trap of TF: the instruction brings its own.
pub fn advance() {
    let old = vmcs::GUEST_RIP.read();
    let rip = old.wrapping_add(u64::from(vmcs::EXIT_LENGTH.read()));
    // Outside of 64-bit code RIP wraps at 4 GiB. CS.L means nothing without EFER.LMA.
    let narrow =
        || vmcs::GUEST_CS_ACCESS.read() & 1 << 13 == 0 || vmcs::GUEST_EFER.read() & LMA == 0;
    let wraps = (old ^ rip) >> 32 != 0 && narrow();
    vmcs::GUEST_RIP.write(if wraps { rip & 0xffff_ffff } else { rip });
    leave_shadow();
}

/// What the end of an instruction does beside moving RIP.
pub fn retire() {
    leave_shadow();
    pend_single_step();
}

/// Whether STI or MOV SS holds events back for an instruction.
pub fn in_shadow() -> bool {
    vmcs::GUEST_INTERRUPTIBILITY.read() & (blocking::STI | blocking::MOV_SS) != 0
}

/// Ends that.
pub fn leave_shadow() {
    if in_shadow() {
        let state = vmcs::GUEST_INTERRUPTIBILITY.read();
        vmcs::GUEST_INTERRUPTIBILITY.write(state & !(blocking::STI | blocking::MOV_SS));
    }
}

/// Pending debug exceptions: a single step; a breakpoint that is enabled.
const BS: u64 = 1 << 14;
const ENABLED: u64 = 1 << 12;

/// Has the next entry trap, if TF is set (SDM vol. 3, 25.4.2 and 27.3.1.5).
pub fn pend_single_step() {
    const TF: u64 = 1 << 8;
    const BTF: u64 = 1 << 1;
    if vmcs::GUEST_RFLAGS.read() & TF != 0 && vmcs::GUEST_DEBUGCTL.read() & BTF == 0 {
        vmcs::GUEST_PENDING_DEBUG.write(vmcs::GUEST_PENDING_DEBUG.read() | BS);
    }
}

/// Whether the next entry traps. An event that it delivered as well would make the trap be
/// forgotten (SDM vol. 3, 27.7.3).
pub fn traps() -> bool {
    vmcs::GUEST_PENDING_DEBUG.read() & (BS | ENABLED) != 0
}

/// CPL: the DPL of SS.
pub fn cpl() -> u32 {
    vmcs::GUEST_SS_ACCESS.read() >> 5 & 3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_injects_only_what_entry_accepts() {
        assert!(Event::from_root(VALID | 0x30, 0).is_some());
        assert!(Event::from_root(0x30, 0).is_none());
        assert!(Event::from_root(VALID | TYPE_NMI | 3, 0).is_none());
        assert!(Event::from_root(VALID | TYPE_HARDWARE | HAS_ERROR | 13, 0x18).is_some());
        assert!(Event::from_root(VALID | TYPE_HARDWARE | HAS_ERROR | 6, 0).is_none());
        assert!(Event::from_root(VALID | TYPE_HARDWARE | 32, 0).is_none());
        assert!(Event::from_root(VALID | 4 << 8 | 0x80, 0).is_none());
        assert!(Event::from_root(VALID | 1 << 12 | 0x30, 0).is_none());
        assert!(Event::from_root(VALID | TYPE_HARDWARE | HAS_ERROR | 13, 0x1_0000).is_none());
    }

    /// A page of its stack was not there, say.
    #[test]
    fn an_nmi_that_was_interrupted_is_delivered_again() {
        crate::arch::host::reset();
        crate::arch::insn::vmptrld(0x1000).expect("a VMCS");
        vmcs::VECTORING_INFO.write(Event::NMI.info());
        vmcs::GUEST_INTERRUPTIBILITY.write(blocking::NMI);
        Event::interrupted().expect("the NMI").inject();
        assert_eq!(vmcs::ENTRY_INFO.read(), Event::NMI.info());
        assert_eq!(vmcs::GUEST_INTERRUPTIBILITY.read(), 0);
    }
}
