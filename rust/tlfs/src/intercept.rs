// SPDX-License-Identifier: GPL-2.0

//! HVCALL_INSTALL_INTERCEPT: what a VMM wants to be asked about.

use super::hvabi;
use super::hvcall::{intercept_type, InputInstallIntercept};
use super::status::{HvResult, HvStatus};
use hvabi::vp::orders;

/// Bits of [`InputInstallIntercept::access_type`]; 0 takes an intercept back.
pub mod access_mask {
    pub const READ: u32 = 1 << 0;
    pub const WRITE: u32 = 1 << 1;
    pub const EXECUTE: u32 = 1 << 2;
}

/// Leaves of CPUID, and MSRs, of which a partition can have intercepts.
pub const MAX_NUMBERS: usize = 64;

/// A small set of numbers.
#[derive(Clone, Copy, Debug)]
struct Numbers {
    list: [u32; MAX_NUMBERS],
    count: usize,
}

impl Numbers {
    const NONE: Numbers = Numbers {
        list: [0; MAX_NUMBERS],
        count: 0,
    };

    fn contains(&self, number: u32) -> bool {
        self.list[..self.count].contains(&number)
    }

    fn put(&mut self, number: u32, wanted: bool) -> HvResult {
        let found = self.list[..self.count].iter().position(|&n| n == number);
        match (found, wanted) {
            (Some(index), false) => {
                self.count -= 1;
                self.list[index] = self.list[self.count];
            }
            (None, true) => {
                let place = self
                    .list
                    .get_mut(self.count)
                    .ok_or(HvStatus::NO_RESOURCES)?;
                *place = number;
                self.count += 1;
            }
            _ => {}
        }
        Ok(())
    }
}

/// The intercepts of a partition.
#[derive(Clone, Copy, Debug)]
pub struct Intercepts {
    exceptions: u32,
    cpuid: Numbers,
    all_cpuid: bool,
    /// Access masks of MSRs that the hypervisor does not have.
    msrs: u32,
    msr_reads: Numbers,
    msr_writes: Numbers,
}

/// Exceptions that a VMM can not have: NMI and machine checks are the machine's.
const NOT_EXCEPTIONS: u32 = 1 << 2 | 1 << 18;

impl Intercepts {
    pub const NONE: Intercepts = Intercepts {
        exceptions: 0,
        cpuid: Numbers::NONE,
        all_cpuid: false,
        msrs: 0,
        msr_reads: Numbers::NONE,
        msr_writes: Numbers::NONE,
    };

    /// Installs an intercept, or takes it back. On an error nothing has changed.
    pub fn install(&mut self, input: &InputInstallIntercept) -> HvResult {
        use access_mask::{EXECUTE, READ, WRITE};
        let access = input.access_type;
        let parameter = input.parameter as u32;
        let allowed = match input.intercept_type {
            intercept_type::X64_IO_PORT
            | intercept_type::X64_MSR
            | intercept_type::X64_MSR_INDEX => READ | WRITE,
            intercept_type::MMIO => READ | WRITE | EXECUTE,
            intercept_type::X64_CPUID
            | intercept_type::X64_GLOBAL_CPUID
            | intercept_type::EXCEPTION => EXECUTE,
            _ => return Err(HvStatus::INVALID_PARAMETER),
        };
        if access & !allowed != 0 {
            return Err(HvStatus::INVALID_PARAMETER);
        }
        match input.intercept_type {
            intercept_type::X64_CPUID => self.cpuid.put(parameter, access != 0)?,
            intercept_type::X64_GLOBAL_CPUID => self.all_cpuid = access != 0,
            intercept_type::X64_MSR => self.msrs = access,
            intercept_type::X64_MSR_INDEX => {
                let mut changed = *self;
                changed.msr_reads.put(parameter, access & READ != 0)?;
                changed.msr_writes.put(parameter, access & WRITE != 0)?;
                *self = changed;
            }
            intercept_type::EXCEPTION => {
                let bit = 1u32.checked_shl(parameter).unwrap_or(NOT_EXCEPTIONS);
                if input.parameter > 31 || bit & NOT_EXCEPTIONS != 0 {
                    return Err(HvStatus::INVALID_PARAMETER);
                }
                self.exceptions = self.exceptions & !bit | if access != 0 { bit } else { 0 };
            }
            // Every access to a port, and to memory that is not there, is an intercept anyway.
            _ => {}
        }
        Ok(())
    }

    /// Whether an instance of CPUID is one.
    pub fn cpuid(&self, leaf: u32) -> bool {
        self.all_cpuid || self.cpuid.contains(leaf)
    }

    /// Whether an access to an MSR that the hypervisor does not have is one.
    pub fn msr(&self, index: u32, write: bool) -> bool {
        let (mask, numbers) = match write {
            false => (access_mask::READ, &self.msr_reads),
            true => (access_mask::WRITE, &self.msr_writes),
        };
        self.msrs & mask != 0 || numbers.contains(index)
    }

    /// What hvcore has to do for these: [`orders`].
    pub fn orders(&self) -> u64 {
        let cpuid = self.all_cpuid || self.cpuid.count != 0;
        u64::from(self.exceptions) | if cpuid { orders::CPUID } else { 0 }
    }
}
