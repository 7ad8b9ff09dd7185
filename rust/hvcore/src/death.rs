// SPDX-License-Identifier: GPL-2.0

//! The end of hvcore: a fault or a panic in it must not be the end of Linux.
//!
//! Nothing that hvcore knows can be relied on then but the LP's own structure and the root's VMCS,
//! so this LP leaves VMX operation with what is there, and takes no lock on the way. The other LPs
//! find the mark at their next exit, which hvmod forces, or where they wait for a lock that the
//! dead LP holds.

use crate::arch::fault::{self, Frame};
use crate::arch::image::{self, Failed};
use crate::arch::lp::{Lp, Phase};
use crate::arch::{insn, public};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use hvabi::call::Status;
use hvabi::log::Level;

static DEAD: AtomicBool = AtomicBool::new(false);
/// How often each LP came here.
static DYING: [AtomicU32; hvabi::MAX_LPS] = [const { AtomicU32::new(0) }; hvabi::MAX_LPS];

/// True from the moment that an LP found hvcore broken.
pub fn is_dead() -> bool {
    DEAD.load(Ordering::Relaxed)
}

/// A fault in hvcore's own code.
pub fn fault(lp: &mut Lp, frame: &Frame, cr2: u64) -> ! {
    if is_first(lp.index) {
        public::log(
            lp.index,
            Level::Critical,
            format_args!(
                "fault: vector {} error {:#x} at {:#x}, CR2 {cr2:#x}, RSP {:#x}, CS {:#x}, RFLAGS {:#x}",
                frame.vector, frame.error, frame.rip, frame.rsp, frame.cs, frame.rflags
            ),
        );
        let names = [
            "r15", "r14", "r13", "r12", "r11", "r10", "r9", "r8", "rdi", "rsi", "rbp", "rbx",
            "rdx", "rcx", "rax",
        ];
        for (three, registers) in names.chunks(5).zip(frame.registers.chunks(5)) {
            if let ([a, b, c, d, e], [v, w, x, y, z]) = (three, registers) {
                public::log(
                    lp.index,
                    Level::Critical,
                    format_args!("{a} {v:#x} {b} {w:#x} {c} {x:#x} {d} {y:#x} {e} {z:#x}"),
                );
            }
        }
        inject!(lp.index, Death);
        tell_callers(lp.index, frame.rbp());
    }
    leave_dead(lp)
}

/// Logs who called whom, from a frame pointer on.
fn tell_callers(index: u32, rbp: u64) {
    let callers = fault::callers(index, rbp);
    public::log(index, Level::Critical, format_args!("called from {callers:x?}"));
}

/// Marks hvcore as dead. True if this LP has not been here; the second time it leaves without a
/// word, since it may have been those that broke; the third time it stops.
fn is_first(index: u32) -> bool {
    DEAD.store(true, Ordering::SeqCst);
    match DYING.get(index as usize).map_or(2, |count| count.fetch_add(1, Ordering::SeqCst)) {
        0 => return true,
        1 => return false,
        _ => {}
    }
    public::log(index, Level::Critical, format_args!("fault on the way out; this LP stops"));
    loop {
        insn::halt();
    }
}

/// Takes an LP out of a dead hvcore: back to Linux, as it was at its last exit or before launch.
pub fn leave_dead(lp: &mut Lp) -> ! {
    if lp.phase == Phase::Launching {
        lp.abort_launch(Failed::DEAD);
    }
    public::log(lp.index, Level::Critical, format_args!("leaves VMX operation; Linux goes on"));
    crate::root::answer_dead_call(lp);
    if crate::root::starts() {
        // Linux, which waits for it, must have it further on: it stays until it is in long mode.
        crate::root::run(lp);
    }
    let out = crate::machine::way_out(lp.index);
    lp.leave(&out)
}

/// Takes this LP out of a dead hvcore, from anywhere.
pub fn follow() -> ! {
    match Lp::on_this_stack() {
        (_, Some(lp)) => leave_dead(lp),
        (index, None) => image::launch_failed(index, Failed::DEAD),
    }
}

impl Failed {
    /// hvcore died.
    pub const DEAD: Self = Self { status: Status::CoreDead as u64, detail: 0 };
}

#[cfg(hvcore_image)]
#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    let (index, _) = Lp::on_this_stack();
    if is_first(index) {
        public::log(index, Level::Critical, format_args!("{info}"));
        tell_callers(index, insn::read_rbp());
    }
    follow()
}
