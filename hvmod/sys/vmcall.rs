// SPDX-License-Identifier: GPL-2.0

//! The hypercall instruction.

use crate::hvabi::call::{Call, Status};
use core::arch::asm;

/// What a hypercall answers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    /// RAX: a [`Status`].
    pub(crate) status: u64,
    /// RDX.
    pub(crate) value: u64,
    /// R8.
    pub(crate) extra: u64,
}

/// Calls hvcore. In any context, also where it is not there any more: it leaves the machine when it
/// fails, and VMCALL then is an undefined instruction, which gives [`Status::CoreDead`].
///
/// What a call does to memory that it is given (lists, state, pages that change hands) is for the
/// safe functions around this one to answer for; see [`crate::hypercall`].
#[inline]
pub(crate) fn vmcall(call: Call, arguments: [u64; 5]) -> Answer {
    let [rdi, rsi, rdx, r8, r9] = arguments;
    let (status, value, extra);
    // SAFETY: Registers as `hvabi::call` has it; memory may be written. The type of the entry in
    // `__ex_table`, 1, is EX_TYPE_DEFAULT: go on at the other address.
    unsafe {
        asm!(
            "771: vmcall",
            "jmp 773f",
            "772: mov ${dead}, %eax",
            "773:",
            ".pushsection __ex_table, \"a\"",
            ".balign 4",
            ".long 771b - .",
            ".long 772b - .",
            ".long 1",
            ".popsection",
            dead = const Status::CoreDead as u64,
            inlateout("rax") call as u64 => status,
            in("rdi") rdi,
            in("rsi") rsi,
            inlateout("rdx") rdx => value,
            inlateout("r8") r8 => extra,
            in("r9") r9,
            options(att_syntax, nostack),
        )
    };
    Answer {
        status,
        value,
        extra,
    }
}
