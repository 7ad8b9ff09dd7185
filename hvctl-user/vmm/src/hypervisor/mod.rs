// SPDX-License-Identifier: GPL-2.0
//! What the machine needs of a hypervisor, and hvmod's (mshv's) way of giving it.

pub mod exit;
pub mod message;
pub mod mshv;
mod registers;
pub mod state;

use vmm_sys_util::eventfd::EventFd;

pub use exit::{Exit, MemoryAccess, PortAccess};
pub use state::{CpuState, Gpr, Register, Segment, Table};

/// A call to the hypervisor failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{call}: {cause}")]
pub struct Failure {
    /// What was asked.
    pub call: &'static str,
    /// What came back.
    pub cause: String,
}

/// What came of entering a virtual processor.
#[derive(Debug, Clone)]
pub enum Run {
    /// The guest did something that the machine has to serve.
    Exit(Exit),
    /// A signal came first; nothing is to be served.
    Interrupted,
}

/// An exception for the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exception {
    pub vector: u8,
    pub error_code: Option<u32>,
    /// For a page fault, the linear address.
    pub parameter: u64,
}

/// How an event came about; the numbers are the hypervisor's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    Interrupt = 0,
    Nmi = 2,
    Exception = 3,
    SoftwareInterrupt = 4,
    /// INT1.
    PrivilegedSoftwareException = 5,
    /// INT3 or INTO.
    SoftwareException = 6,
}

/// An event whose delivery was under way when the processor stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    pub kind: EventKind,
    pub vector: u8,
    pub error_code: Option<u32>,
}

impl Event {
    /// Whether an instruction asked for it.
    pub fn is_software(self) -> bool {
        use EventKind::*;
        matches!(
            self.kind,
            SoftwareInterrupt | PrivilegedSoftwareException | SoftwareException
        )
    }

    /// Whether the instruction at RIP is tried again after it.
    pub fn is_fault(self) -> bool {
        const DEBUG: u8 = 1;
        self.kind == EventKind::Exception && self.vector != DEBUG
    }
}

/// A virtual processor.
pub trait Vp: Send {
    /// Its number in the partition, which is its APIC ID too.
    fn index(&self) -> u8;
    /// Enters the guest until something is to be served, or a signal arrives.
    fn run(&mut self) -> Result<Run, Failure>;
    /// All registers that instructions can depend on.
    fn state(&mut self) -> Result<CpuState, Failure>;
    /// Loads all of [`CpuState`].
    fn load(&mut self, state: &CpuState) -> Result<(), Failure>;
    /// Writes some 64-bit registers, in one call.
    fn write(&mut self, registers: &[(Register, u64)]) -> Result<(), Failure>;
    /// Makes the guest take an exception at the next entry.
    fn raise(&mut self, exception: Exception) -> Result<(), Failure>;
    /// The event that the next entry would deliver; it then does not.
    fn take_event(&mut self) -> Result<Option<Event>, Failure>;
    /// An XMM register.
    fn vector(&mut self, index: usize) -> Result<u128, Failure>;
    fn set_vector(&mut self, index: usize, value: u128) -> Result<(), Failure>;
    /// Holds NMIs back until the guest's next IRET, or no longer.
    fn block_nmi(&mut self, blocked: bool) -> Result<(), Failure>;
}

/// How an interrupt message is delivered; numbered as in an I/O APIC entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    Fixed = 0,
    LowestPriority = 1,
    Smi = 2,
    Nmi = 4,
    Init = 5,
    ExtInt = 7,
}

/// An interrupt on its way to local APICs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interrupt {
    pub vector: u8,
    pub delivery: Delivery,
    pub destination: u32,
    /// The destination is a logical one, not an APIC ID.
    pub logical: bool,
    /// The guest's end of interrupt is to be reported.
    pub level: bool,
}

/// Where interrupts go.
pub trait Interrupts: Send + Sync {
    fn assert(&self, interrupt: Interrupt) -> Result<(), Failure>;
}

/// Memory that the guest does without for a time.
pub trait Spare: Send + Sync {
    /// From now on the guest has no memory there. It gets what we have there then when it touches
    /// it. Whole units of [`hvmod_ioctls::DISCARD_UNIT`]; false if this hypervisor cannot do that.
    fn discard(&self, gpa: u64, size: u64) -> Result<bool, Failure>;
}

/// A message-signalled interrupt, as a PCI function sends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message {
    pub address: u64,
    pub data: u32,
}

/// Events that reach the guest, or come from it, with none of our threads in between.
pub trait Events: Send + Sync {
    /// Says which message each interrupt number stands for; forgets what it said before.
    fn route(&self, messages: &[(u32, Message)]) -> Result<(), Failure>;
    /// From now on the event is the interrupt of that number.
    fn connect(&self, event: &EventFd, number: u32) -> Result<(), Failure>;
    /// From now on it is not. What was signalled before has been sent.
    fn disconnect(&self, event: &EventFd, number: u32) -> Result<(), Failure>;
    /// A write of the guest to this address, of whatever size, signals the event.
    fn add_doorbell(&self, gpa: u64, event: &EventFd) -> Result<(), Failure>;
    fn remove_doorbell(&self, gpa: u64, event: &EventFd) -> Result<(), Failure>;
}
