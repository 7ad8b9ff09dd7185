// SPDX-License-Identifier: GPL-2.0

//! The door for the root: hypercalls, every argument of which is hostile.

use crate::arch::lp::Lp;
use crate::arch::public;
use crate::partition::{self, Answer};
use crate::{child, interrupt, machine, vp, vp_state};
use hvabi::call::{Call, Status};
use hvabi::log::Level;
use hvabi::vp::gpr::{R8, R9, RAX, RDI, RDX, RSI};

/// Carries out the call that the root's registers say, and answers in them.
pub fn dispatch(lp: &mut Lp) {
    inject!(lp.index, Hypercall);
    let number = lp.gpr[RAX];
    let arguments = [lp.gpr[RDI], lp.gpr[RSI], lp.gpr[RDX], lp.gpr[R8], lp.gpr[R9]];
    let mut second = 0;
    let (status, value) = match call(lp, number, arguments, &mut second) {
        Ok(value) => (Status::Ok, value),
        Err(failed) => failed,
    };
    lp.gpr[RAX] = status as u64;
    lp.gpr[RDX] = value;
    lp.gpr[R8] = second;
}

fn call(lp: &mut Lp, number: u64, [a, b, c, d, e]: [u64; 5], second: &mut u64) -> Answer<u64> {
    const SYNC: u64 = Call::Sync as u64;
    const UNLOAD: u64 = Call::Unload as u64;
    const DEPOSIT: u64 = Call::Deposit as u64;
    const WITHDRAW: u64 = Call::Withdraw as u64;
    const PARTITION_CREATE: u64 = Call::PartitionCreate as u64;
    const PARTITION_DESTROY: u64 = Call::PartitionDestroy as u64;
    const GPA_MAP: u64 = Call::GpaMap as u64;
    const GPA_UNMAP: u64 = Call::GpaUnmap as u64;
    const VP_CREATE: u64 = Call::VpCreate as u64;
    const VP_RUN: u64 = Call::VpRun as u64;
    const VP_GET: u64 = Call::VpGet as u64;
    const VP_SET: u64 = Call::VpSet as u64;
    const ASSERT_INTERRUPT: u64 = Call::AssertInterrupt as u64;
    const POOL_INFO: u64 = Call::PoolInfo as u64;
    match number {
        // The way back to the root passes `catch_up`.
        SYNC => Ok(0),
        UNLOAD => unload(lp),
        DEPOSIT => partition::deposit(a, b, c),
        WITHDRAW => partition::withdraw(a, b, c),
        PARTITION_CREATE => partition::create(),
        PARTITION_DESTROY => partition::destroy(a),
        GPA_MAP => partition::lock(a)?.map(b, c, d, e, second),
        GPA_UNMAP => partition::lock(a)?.unmap(b, c),
        VP_CREATE => vp::create(lp, a, b, c),
        VP_RUN => child::run(lp, a, b),
        VP_GET => vp_state::access(lp, false, [a, b, c, d, e]),
        VP_SET => vp_state::access(lp, true, [a, b, c, d, e]),
        ASSERT_INTERRUPT => interrupt::assert(a, b, c),
        POOL_INFO => partition::pool_info(a, second),
        #[cfg(hvcore_inject)]
        crate::arch::inject::CALL => {
            crate::arch::inject::arm(a);
            Ok(0)
        }
        _ => Err((Status::BadCall, 0)),
    }
}

/// Leaves VMX operation on this LP; the root finds `Ok` in RAX.
fn unload(lp: &mut Lp) -> Answer<u64> {
    partition::no_more()?;
    inject!(lp.index, Unload);
    public::log(lp.index, Level::Info, format_args!("unload"));
    machine::stand_back(lp.index);
    lp.gpr[RAX] = Status::Ok as u64;
    lp.gpr[RDX] = 0;
    lp.gpr[R8] = 0;
    let out = machine::way_out(lp.index);
    lp.leave(&out)
}
