// SPDX-License-Identifier: GPL-2.0

//! Failures on purpose, to show that Linux survives them. Only in images built with `INJECT=1`.
//!
//! A word says what shall happen: bits 0 to 7 a [`Point`], bits 8 to 15 a kind (see [`strike`]),
//! bits 16 to 23 the LP on which, 0xff for any; bits 24 to 31 how often to pass by before. It
//! happens once. The word comes with the launch, or by the hypercall [`CALL`].

use super::image::{self, Failed};
use super::lp::Lp;
use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};
use hvabi::call::Status;

/// Number of the hypercall that takes a word, in RDI.
pub const CALL: u64 = 0x1000;

/// Where.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// Launch, before hvcore's descriptor tables are loaded: kinds 0 and 1 only.
    LaunchBegin = 1,
    LaunchTables = 2,
    LaunchVmx = 3,
    LaunchEntry = 4,
    /// CPUID of the root.
    RootExit = 5,
    /// Before a hypercall is decoded.
    Hypercall = 6,
    /// The memory's lock is held, and mostly a partition's.
    Locked = 7,
    /// A child's state is in the processor, and it has not run.
    ChildEntry = 8,
    ChildExit = 9,
    ChildMemory = 10,
    RootMemory = 11,
    Sipi = 12,
    /// In the middle of the account that a dying LP gives.
    Death = 13,
    /// In the hypercall that leaves VMX operation.
    Unload = 14,
    /// Not hvcore fails: the exit of a child is one that cannot be.
    Unexpected = 15,
    /// Between the root's state and a child's, on the way to either.
    Switch = 16,
}

static WORD: AtomicU64 = AtomicU64::new(0);

/// How long an LP takes that comes back too late: longer than hvmod waits (`hvmod/launch.rs`).
const LATE_MS: u64 = 30_000;

/// In this time an NMI that one LP sends another has arrived.
const CALL_MS: u64 = 10;

/// Lets the failure of that word happen.
pub fn arm(word: u64) {
    WORD.store(word, Ordering::SeqCst);
}

/// LP `lp` passes `point`.
pub fn at(lp: u32, point: Point) {
    if happens(lp, point) {
        strike(KIND.load(Ordering::Relaxed));
    }
}

/// The kind of what happened last.
static KIND: AtomicU64 = AtomicU64::new(0);

/// Whether `point` is the one, and now is the time.
pub fn happens(lp: u32, point: Point) -> bool {
    let word = WORD.load(Ordering::Relaxed);
    let on = (word >> 16 & 0xff) as u32;
    if word & 0xff != point as u64 || (on != 0xff && on != lp) {
        return false;
    }
    let left = word >> 24 & 0xff;
    let next = if left == 0 { 0 } else { word - (1 << 24) };
    KIND.store(word >> 8 & 0xff, Ordering::Relaxed);
    WORD.compare_exchange(word, next, Ordering::SeqCst, Ordering::SeqCst).is_ok() && left == 0
}

/// The kinds of failure.
fn strike(kind: u64) {
    let zero = core::hint::black_box(0u64);
    match kind {
        0 => panic!("injected panic"),
        // A launch that fails in good order.
        1 => {
            let failed = Failed { status: Status::LaunchFailed as u64, detail: 0xdead };
            match Lp::on_this_stack() {
                (_, Some(lp)) => lp.abort_launch(failed),
                (index, None) => image::launch_failed(index, failed),
            }
        }
        // An LP that comes back when nobody waits for it any more.
        2 => {
            let start = super::insn::rdtsc();
            let wait = crate::machine::config().info.tsc_khz * LATE_MS;
            while super::insn::rdtsc() - start < wait {
                core::hint::spin_loop();
            }
        }
        // Checked arithmetic and indexing.
        3 => drop(core::hint::black_box(zero - 1)),
        4 => drop(core::hint::black_box([0u8; 4][zero as usize + 4])),
        // SAFETY: of these, that hvcore does not survive them is the purpose.
        5 => unsafe { asm!("ud2") },
        // SAFETY: as above: #PF, at an address that is not mapped.
        6 => unsafe { asm!("mov {0}, [{0}]", inout(reg) 0xffff_f200_0000_0000u64 => _) },
        // SAFETY: as above: #GP, at an address that is not canonical.
        7 => unsafe { asm!("mov {0}, [{0}]", inout(reg) 1u64 << 63 => _) },
        // SAFETY: as above: #DE.
        8 => unsafe { asm!("xor edx, edx", "div {}", in(reg) zero, out("rax") _, out("rdx") _) },
        // SAFETY: as above: the handler of the machine check.
        9 => unsafe { asm!("int 18") },
        // SAFETY: as above: no stack for the #PF, so #DF.
        10 => unsafe { asm!("mov rsp, {}", "push rax", in(reg) 0xffff_f200_0000_0000u64) },
        11 => {
            overflow(1);
        }
        // SAFETY: as above: an NMI in hvcore, and then a fault.
        12 => unsafe { asm!("int 2", "ud2") },
        // SAFETY: as above: #GP of a bit that CR4 does not have.
        13 => unsafe { asm!("mov cr4, {}", in(reg) 1u64 << 63) },
        // The first LP dies in its next hypercall; this one goes on when that calls it by an NMI.
        15 => {
            arm(Point::Hypercall as u64);
            let called = || crate::death::is_dead().then(super::insn::rdtsc);
            let since = core::iter::repeat_with(called).flatten().next().unwrap_or(0);
            let wait = crate::machine::config().info.tsc_khz * CALL_MS;
            while super::insn::rdtsc() - since < wait {
                core::hint::spin_loop();
            }
        }
        // A VM entry that fails for the guest's state.
        16 => super::vmcs::GUEST_RFLAGS.write(0),
        // A fault, and another one while the first is told.
        14 => {
            arm(Point::Death as u64 | 5 << 8 | 0xff << 16);
            // SAFETY: as above.
            unsafe { asm!("ud2") }
        }
        _ => {}
    }
}

/// Uses up the stack.
#[allow(unconditional_recursion)]
fn overflow(depth: u64) -> u64 {
    let room = core::hint::black_box([depth; 64]);
    overflow(room[3] + 1) + room[5]
}
