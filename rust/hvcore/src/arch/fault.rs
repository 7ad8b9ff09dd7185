// SPDX-License-Identifier: GPL-2.0

//! Exceptions in hvcore: NMIs, which are the root's, and everything else, which is the end.

use super::lp::Lp;
use core::arch::global_asm;
use hvabi::boot::{stack_top, STACK_SIZE};

/// Vectors that have a handler.
pub const VECTORS: usize = 32;

/// Bytes between the entries of two vectors.
const STUB_SIZE: u64 = 16;

/// What the stubs leave on the stack.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// R15 down to RAX, in the order of the pushes below.
    pub registers: [u64; 15],
    pub vector: u64,
    pub error: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

extern "C" {
    static hvcore_fault_stubs: u8;
}

/// Address of the handler of a vector.
pub fn stub(vector: usize) -> u64 {
    let base = core::ptr::addr_of!(hvcore_fault_stubs) as u64;
    base + vector as u64 * STUB_SIZE
}

impl Frame {
    pub fn rbp(&self) -> u64 {
        self.registers[10]
    }
}

/// Return addresses from the frame pointer `rbp` on, the innermost first, then zeros. Follows it
/// only upwards and inside the stack of LP `lp`.
pub fn callers(lp: u32, rbp: u64) -> [u64; 9] {
    let top = stack_top(lp);
    let (mut next, mut least) = (rbp, top - STACK_SIZE);
    core::array::from_fn(|_| {
        if next < least || next > top - 16 || next % 8 != 0 {
            return 0;
        }
        let frame = next as *const [u64; 2];
        // SAFETY: 16 aligned bytes of this LP's stack, where any value may be.
        let [up, caller] = unsafe { frame.read_volatile() };
        (next, least) = (up, next + 16);
        caller
    })
}

/// Where every exception but NMI ends, on the emergency stack.
#[no_mangle]
extern "C" fn hvcore_fault(frame: &Frame) -> ! {
    let cr2 = super::insn::read_cr2();
    let lp = Lp::current();
    crate::death::fault(lp, frame, cr2)
}

global_asm!(
    ".section .text.entry, \"ax\"",
    ".balign 16",
    ".global hvcore_fault_stubs",
    "hvcore_fault_stubs:",
    ".set vector, 0",
    ".rept 32",
    ".balign 16",
    ".if vector == 2",
    "jmp hvcore_nmi",
    ".else",
    // These push an error code themselves.
    ".if vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21",
    ".else",
    "push 0",
    ".endif",
    "push vector",
    "jmp hvcore_fault_common",
    ".endif",
    ".set vector, vector + 1",
    ".endr",
    ".balign 16",
    "hvcore_fault_common:",
    "push rax",
    // #GP of the one instruction that may have it: see insn::wrmsr_checked.
    "cmp dword ptr [rsp + 8], 13",
    "jne 3f",
    "lea rax, [rip + hvcore_wrmsr]",
    "cmp rax, [rsp + 24]",
    "jne 3f",
    "lea rax, [rip + hvcore_wrmsr_refused]",
    "mov [rsp + 24], rax",
    "pop rax",
    "add rsp, 16",
    "iretq",
    "3:",
    "push rcx",
    "push rdx",
    "push rbx",
    "push rbp",
    "push rsi",
    "push rdi",
    "push r8",
    "push r9",
    "push r10",
    "push r11",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "cld",
    "mov rdi, rsp",
    // Whatever state the stack is in, the end is told on another.
    "mov rsp, gs:[8]",
    "xor ebp, ebp",
    "call hvcore_fault",
    "ud2",
    ".global hvcore_wrmsr_checked",
    "hvcore_wrmsr_checked:",
    "mov ecx, edi",
    "mov eax, esi",
    "mov rdx, rsi",
    "shr rdx, 32",
    "hvcore_wrmsr:",
    "wrmsr",
    "xor eax, eax",
    "ret",
    "hvcore_wrmsr_refused:",
    "mov eax, 1",
    "ret",
    "hvcore_nmi:",
    "push rax",
    "push rcx",
    "mov byte ptr gs:[0], 1",
    "mov rax, [rsp + 16]",
    "lea rcx, [rip + hvcore_enter_check]",
    "cmp rax, rcx",
    "jb 2f",
    "lea rcx, [rip + hvcore_enter_end]",
    "cmp rax, rcx",
    "jae 2f",
    "lea rcx, [rip + hvcore_enter_abort]",
    "mov [rsp + 16], rcx",
    "2:",
    "pop rcx",
    "pop rax",
    "iretq",
    ".text",
);
