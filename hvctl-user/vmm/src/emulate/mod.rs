// SPDX-License-Identifier: GPL-2.0
//! Carrying out the guest's instruction when its memory or port operand is a device.

mod alu;
mod divide;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod instruction;
mod operand;
#[cfg(any(test, feature = "fuzz"))]
mod oracle;
mod stack;
mod string;
mod task;
mod vector;
mod walk;

use crate::hypervisor::{CpuState, Exception};
use crate::memory::GuestMemory;

pub use instruction::fetch;
pub use task::{Source, TaskSwitch, switch};
pub use walk::{Access, translate};

/// What an instruction can reach: RAM, devices in the memory map, and ports.
pub trait Space {
    fn memory(&self) -> &GuestMemory;
    /// The guest-physical address of a linear one.
    fn translate(&self, cpu: &CpuState, linear: u64, access: Access) -> Result<u64, Stop> {
        translate(self.memory(), cpu, linear, access).map_err(Stop::Fault)
    }
    fn mmio_read(&mut self, gpa: u64, data: &mut [u8]);
    fn mmio_write(&mut self, gpa: u64, data: &[u8]);
    fn port_read(&mut self, port: u16, data: &mut [u8]);
    fn port_write(&mut self, port: u16, data: &[u8]);
    /// A vector register's low 16 bytes.
    fn vector(&mut self, index: usize) -> Option<u128>;
    fn set_vector(&mut self, index: usize, value: u128) -> Option<()>;
}

/// Why an instruction was not carried out. The state is then as if it had not begun,
/// except that repetitions of a string instruction that are done stay done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// The guest has to take an exception.
    #[error("exception {}", .0.vector)]
    Fault(Exception),
    /// Not an instruction that this emulator knows.
    #[error("cannot emulate '{text}' at {rip:#x} (bytes {bytes:02x?})")]
    Unknown {
        rip: u64,
        bytes: Vec<u8>,
        text: String,
    },
    /// The instruction, or an operand of it, is where only the guest can read.
    #[error("it needs the guest's memory, which is private")]
    Private,
}

/// The access that the processor stopped at, which it had translated and found permitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    pub linear: u64,
    pub gpa: u64,
    pub write: bool,
}

impl Attempt {
    /// The guest-physical address of a linear one, if this access shows that it can be had.
    pub fn translate(&self, linear: u64, access: Access) -> Option<u64> {
        let same = linear >> 12 == self.linear >> 12;
        let permitted = !access.fetch && (self.write || !access.write);
        (same && permitted).then_some(self.gpa & !0xfff | linear & 0xfff)
    }
}

/// Carries out the instruction at RIP: moves `cpu` on, reads and writes `space`.
/// `bytes` are the instruction as the hypervisor saw it, as far as it did.
pub fn step(cpu: &mut CpuState, space: &mut impl Space, bytes: &[u8]) -> Result<(), Stop> {
    let instruction = instruction::decode(cpu, space, bytes)?;
    instruction::execute(cpu, space, &instruction)
}

#[cfg(test)]
mod tests;
