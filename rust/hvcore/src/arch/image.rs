// SPDX-License-Identifier: GPL-2.0

//! The image: its header, where an LP enters it, and where an LP leaves it.

use super::root_memory::Hostile;
use crate::mem::frame::Frame;
use crate::mem::pool::Pool;
use core::arch::{asm, global_asm};
use hvabi::boot::{CoreInfo, GIVEN_UP, IMAGE_BASE, IMAGE_MAGIC, STACK_SIZE};
use hvabi::ABI_VERSION;

/// Top part of each LP's stack, for the code that runs after a fault.
const EMERGENCY_SIZE: u64 = 8192;
const _: () = assert!(EMERGENCY_SIZE < STACK_SIZE / 2);

/// Bytes at the very top that hold what [`launch_failed`] returns to.
const LAUNCH_FRAME: u64 = 64;

/// Stack pointer for the code that runs after a fault.
pub const fn emergency_stack(lp: u32) -> u64 {
    hvabi::boot::stack_top(lp) - 2 * LAUNCH_FRAME
}

/// How a launch that failed is told to the trampoline: RAX and RDX.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Failed {
    pub status: u64,
    pub detail: u64,
}

/// Where the code of hvcore starts in Rust: see `hvabi::boot`.
#[no_mangle]
extern "C" fn hvcore_enter(info: u64, lp: u32, cr3: u64, cr4: u64, rsp: u64, rip: u64) -> Failed {
    crate::launch::enter(info, lp, super::lp::Continue { cr3, cr4, rsp, rip })
}

extern "C" {
    fn hvcore_vm_exit();
    fn hvcore_unwind(rsp: u64, status: u64, detail: u64) -> !;
}

/// Where an LP arrives at VM exit.
pub fn host_rip() -> u64 {
    hvcore_vm_exit as *const () as u64
}

/// Returns from [`hvcore_enter`] of LP `lp` from wherever the LP is.
pub fn launch_failed(lp: u32, failed: Failed) -> ! {
    let rsp = hvabi::boot::stack_top(lp) - LAUNCH_FRAME - EMERGENCY_SIZE;
    // SAFETY: the LP is still in its first call of `hvcore_enter`, whose caller's frame is there;
    // everything below is abandoned.
    unsafe { hvcore_unwind(rsp, failed.status, failed.detail) }
}

/// Whether hvmod does not wait for this LP's launch any more.
pub fn given_up(lp: u32) -> bool {
    let frame = Hostile::owned_by_root(crate::machine::way_out(lp).frame_spa);
    frame.read::<u64>(GIVEN_UP) != 0
}

/// Goes to the trampoline's way out: see `hvabi::boot::LeaveFrame`.
pub fn leave(rip: u64, cr3: u64, cr4: u64, frame: u64) -> ! {
    // SAFETY: the trampoline is mapped there in hvcore's tables too; this LP never uses its
    // hvcore stack again.
    unsafe {
        asm!("jmp {}", in(reg) rip, in("rax") cr3, in("rcx") cr4, in("rdi") frame,
            options(noreturn));
    }
}

global_asm!(
    ".global hvcore_image_base",
    ".set hvcore_image_base, {base}",
    ".section .header, \"a\"",
    ".quad {magic}",
    ".long {abi}",
    ".long 0",
    // hvcore.lds adds the offsets.
    ".section .text.entry, \"ax\"",
    ".global hvcore_entry",
    "hvcore_entry:",
    "push rbx",
    "push rbp",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "mov rax, rsp",
    "sub rsp, {emergency}",
    "push rax",
    "xor ebp, ebp",
    "call hvcore_enter",
    "5:",
    "pop rsp",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbp",
    "pop rbx",
    "ret",
    ".global hvcore_unwind",
    "hvcore_unwind:",
    "mov rsp, rdi",
    "mov rax, rsi",
    "jmp 5b",
    ".text",
    base = const IMAGE_BASE,
    magic = const IMAGE_MAGIC,
    abi = const ABI_VERSION,
    emergency = const EMERGENCY_SIZE,
);

/// The free pages of the block, as tokens. Called once, by the first LP.
pub fn initial_pool(info: &CoreInfo) -> Pool {
    let mut pool = Pool::empty();
    for number in 0..info.pool_pages {
        let spa = info.pool_spa + number * hvabi::PAGE_SIZE as u64;
        // SAFETY: hvmod reserved the pages for hvcore and uses them for nothing else; each is
        // adopted once, before Linux runs as the root partition.
        if let Some(frame) = unsafe { Frame::adopt(spa) } {
            pool.push(frame);
        }
    }
    pool
}
