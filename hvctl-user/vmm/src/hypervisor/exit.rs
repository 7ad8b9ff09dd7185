// SPDX-License-Identifier: GPL-2.0
//! Why a virtual processor came back.

use crate::emulate::TaskSwitch;

/// An intercept, without the hypervisor's encoding of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Port(PortAccess),
    Memory(MemoryAccess),
    /// The guest ended a level-triggered interrupt.
    Eoi {
        vector: u8,
    },
    TaskSwitch(TaskSwitch),
    /// HLT. RUN_VP normally waits by itself; to enter again is right in any case.
    Halt,
    /// Triple fault or the like.
    Unrecoverable,
    /// A register value that VM entry refuses.
    InvalidRegisters,
    /// A message that no partition of ours should cause.
    Unexpected {
        message_type: u32,
    },
}

/// The instruction bytes that came with an intercept, perhaps none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InstructionBytes {
    bytes: [u8; 16],
    count: u8,
}

impl InstructionBytes {
    pub fn new(bytes: [u8; 16], count: u8) -> Self {
        Self {
            bytes,
            count: count.min(16),
        }
    }

    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.count)]
    }
}

/// IN, OUT, INS or OUTS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortAccess {
    pub port: u16,
    /// 1, 2 or 4.
    pub size: u8,
    pub write: bool,
    /// INS or OUTS, perhaps repeated: to be emulated from the instruction.
    pub string: bool,
    pub rax: u64,
    pub rip: u64,
    pub instruction_length: u8,
    pub instruction: InstructionBytes,
}

/// An access to guest-physical memory that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryAccess {
    pub gpa: u64,
    /// The linear address that the processor translated to that.
    pub linear: Option<u64>,
    pub write: bool,
    /// It was made to deliver an event, not by the instruction at RIP.
    pub by_event: bool,
    pub rip: u64,
    pub instruction: InstructionBytes,
}
