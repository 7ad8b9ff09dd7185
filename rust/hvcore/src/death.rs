// SPDX-License-Identifier: GPL-2.0

//! The end of hvcore: a fault or a panic in it must not be the end of Linux.
//!
//! Nothing that hvcore knows can be relied on then but the LP's own structure and the root's VMCS,
//! so this LP leaves VMX operation with what is there. The other LPs find the mark at their next
//! exit, which hvmod forces.

use crate::arch::fault::Frame;
use crate::arch::image::Failed;
use crate::arch::lp::{Lp, Phase};
use crate::arch::{insn, public};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use hvabi::call::Status;
use hvabi::log::Level;

static DEAD: AtomicBool = AtomicBool::new(false);
/// LPs that are dying; one that comes here again stops.
static DYING: [AtomicU32; hvabi::MAX_LPS] = [const { AtomicU32::new(0) }; hvabi::MAX_LPS];

/// True from the moment that an LP found hvcore broken.
pub fn is_dead() -> bool {
    DEAD.load(Ordering::Relaxed)
}

/// A fault in hvcore's own code.
pub fn fault(lp: &mut Lp, frame: &Frame, cr2: u64) -> ! {
    public::log(
        lp.index,
        Level::Critical,
        format_args!(
            "fault: vector {} error {:#x} at {:#x}, CR2 {cr2:#x}, RSP {:#x}, CS {:#x}, RFLAGS {:#x}",
            frame.vector, frame.error, frame.rip, frame.rsp, frame.cs, frame.rflags
        ),
    );
    let names = [
        "r15", "r14", "r13", "r12", "r11", "r10", "r9", "r8", "rdi", "rsi", "rbp", "rbx", "rdx",
        "rcx", "rax",
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
    die(lp)
}

/// Ends hvcore on this LP.
pub fn die(lp: &mut Lp) -> ! {
    DEAD.store(true, Ordering::SeqCst);
    let seen = DYING.get(lp.index as usize).map_or(1, |count| count.fetch_add(1, Ordering::SeqCst));
    if seen != 0 {
        public::log(lp.index, Level::Critical, format_args!("fault while dying; this LP stops"));
        loop {
            insn::halt();
        }
    }
    if lp.phase == Phase::Launching {
        lp.abort_launch(Failed { status: Status::CoreDead as u64, detail: 0 });
    }
    leave_dead(lp)
}

/// Takes an LP, on which the root can run, out of a dead hvcore.
pub fn leave_dead(lp: &mut Lp) -> ! {
    public::log(lp.index, Level::Critical, format_args!("leaves VMX operation; Linux goes on"));
    crate::root::answer_dead_call(lp);
    let out = crate::machine::way_out(lp.index);
    lp.leave(&out)
}

#[cfg(hvcore_image)]
#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    let lp = Lp::current();
    public::log(lp.index, Level::Critical, format_args!("{info}"));
    die(lp)
}
