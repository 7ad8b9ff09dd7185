// SPDX-License-Identifier: GPL-2.0

//! VM entry and VM exit: one function that goes into a guest and returns when it exits.
//!
//! # NMIs
//!
//! An NMI that arrives while hvcore runs belongs to the root. The handler only sets a flag in the
//! [`Lp`](super::lp::Lp), and the entry looks at the flag. An NMI between that look and the entry
//! would be forgotten until the next exit; so the handler, if it interrupted the code between
//! `hvcore_enter_check` and `hvcore_enter_end`, resumes at `hvcore_enter_abort` instead. The
//! registers of the guest are lost there, but their memory still has them.

use core::arch::global_asm;

/// How an attempt to enter a guest ended: what the code below leaves in RAX.
#[repr(u64)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entered {
    /// The guest ran and exited; the VMCS tells why.
    Exited = 0,
    /// An NMI for the root is waiting; the guest did not run.
    Nmi = 1,
    /// VMLAUNCH or VMRESUME failed.
    Failed = 2,
}

#[cfg(hvcore_image)]
extern "C" {
    fn hvcore_vm_enter(registers: *mut [u64; 16], launched: u64) -> Entered;
}

/// Enters the guest of the current VMCS with the given general registers (the order of
/// instruction encodings; RSP is in the VMCS), and stores them back when it exits.
#[cfg(hvcore_image)]
#[inline(always)]
pub fn enter(registers: &mut [u64; 16], launched: bool) -> Entered {
    // SAFETY: host state of the current VMCS is hvcore's own; the function keeps the registers
    // that the ABI wants kept, touches only `registers` and the stack, and returns 0, 1 or 2.
    unsafe { hvcore_vm_enter(registers, u64::from(launched)) }
}

#[cfg(not(hvcore_image))]
pub use super::host::enter;

global_asm!(
    // The address is taken at image::host_rip().
    ".section .text.entry, \"ax\"",
    ".global hvcore_vm_enter",
    "hvcore_vm_enter:",
    "push rbp",
    "push rbx",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "push rdi",
    "mov eax, 0x6c14", // HOST_RSP
    "vmwrite rax, rsp",
    "test esi, esi",
    ".global hvcore_enter_check",
    "hvcore_enter_check:",
    // The flags decide between launch and resume below: look at the NMI flag without them.
    "movzx ecx, byte ptr gs:[0]",
    "jrcxz 2f",
    "jmp hvcore_enter_abort",
    "2:",
    "mov rax, [rdi]",
    "mov rcx, [rdi + 8]",
    "mov rdx, [rdi + 16]",
    "mov rbx, [rdi + 24]",
    "mov rbp, [rdi + 40]",
    "mov rsi, [rdi + 48]",
    "mov r8, [rdi + 64]",
    "mov r9, [rdi + 72]",
    "mov r10, [rdi + 80]",
    "mov r11, [rdi + 88]",
    "mov r12, [rdi + 96]",
    "mov r13, [rdi + 104]",
    "mov r14, [rdi + 112]",
    "mov r15, [rdi + 120]",
    "mov rdi, [rdi + 56]",
    "jz 3f",
    "vmresume",
    "jmp 4f",
    "3:",
    "vmlaunch",
    ".global hvcore_enter_end",
    "hvcore_enter_end:",
    "4:",
    "mov eax, 2",
    "jmp 5f",
    ".global hvcore_vm_exit",
    "hvcore_vm_exit:",
    "push rax",
    "mov rax, [rsp + 8]",
    "mov [rax + 8], rcx",
    "mov [rax + 16], rdx",
    "mov [rax + 24], rbx",
    "mov [rax + 40], rbp",
    "mov [rax + 48], rsi",
    "mov [rax + 56], rdi",
    "mov [rax + 64], r8",
    "mov [rax + 72], r9",
    "mov [rax + 80], r10",
    "mov [rax + 88], r11",
    "mov [rax + 96], r12",
    "mov [rax + 104], r13",
    "mov [rax + 112], r14",
    "mov [rax + 120], r15",
    "pop qword ptr [rax]",
    "xor eax, eax",
    "jmp 5f",
    ".global hvcore_enter_abort",
    "hvcore_enter_abort:",
    "mov eax, 1",
    "5:",
    "pop rdi",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbx",
    "pop rbp",
    "ret",
    ".text",
);
