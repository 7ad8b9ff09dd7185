// SPDX-License-Identifier: GPL-2.0

//! TIME_FREEZE: a partition whose time stands still. Its VPs do not run meanwhile.

use super::{
    partition::Partition,
    vp::{State, Vp},
};
use crate::{
    hvabi::{state::group, MAX_VPS},
    hypercall,
    tlfs::status::HvResult,
};
use kernel::sync::atomic::Relaxed;

/// The clock of a VP while it stands still.
#[derive(Clone, Copy)]
pub(super) struct Clock {
    tsc: u64,
    tsc_deadline: u64,
}

impl State {
    /// Keeps what was just loaded, or is about to be stored, from going on.
    fn stop_clock(&mut self) {
        self.frozen = Some(Clock {
            tsc: self.registers.tsc,
            tsc_deadline: self.registers.tsc_deadline,
        });
    }

    /// Puts the time that stands still in place of the one that was loaded.
    pub(super) fn show_clock(&mut self) {
        if let Some(clock) = self.frozen {
            self.registers.tsc = clock.tsc;
            self.registers.tsc_deadline = clock.tsc_deadline;
        }
    }

    /// The program has set the time.
    pub(super) fn set_clock(&mut self) {
        self.local.look_at_timers = true;
        if self.frozen.is_some() {
            self.stop_clock();
        }
    }

    /// The TSC was `before`, and the program is about to set another. If it is of another time, a
    /// guest is restored: what its timers waited for has no meaning there, and they fire.
    pub(super) fn move_time(&mut self, before: u64) {
        let moved = self.registers.tsc.wrapping_sub(before) as i64;
        if moved.unsigned_abs() >= hypercall::tsc_khz() * 1000 {
            self.expire_deadline();
            self.local.synic.move_time();
        }
    }

    /// Has a local APIC's timer that waits for a deadline fire: it has come.
    pub(super) fn expire_deadline(&mut self) {
        self.registers.tsc_deadline = self.registers.tsc.max(1);
    }
}

fn freeze(vp: &Vp, on: bool) -> HvResult {
    let mut state = vp.lock();
    if on == state.frozen.is_some() {
        return Ok(());
    }
    // Loading gives the time at which it stood still.
    state.load_groups(vp, group::TIME)?;
    if on {
        state.stop_clock();
        return Ok(());
    }
    state.store_groups(vp, group::TIME)?;
    state.frozen = None;
    Ok(())
}

impl Partition {
    /// Stops time, or lets it go on from where it stood.
    pub(super) fn freeze(&self, on: bool) -> HvResult {
        if on {
            self.frozen.store(true, Relaxed);
        }
        let vps = || (0..MAX_VPS as u32).filter_map(|index| self.vp(index));
        vps().try_for_each(|vp| freeze(vp, on))?;
        if !on {
            self.frozen.store(false, Relaxed);
            vps().for_each(|vp| vp.notify());
        }
        Ok(())
    }

    /// Whether time stands still.
    #[inline]
    pub(super) fn is_frozen(&self) -> bool {
        self.frozen.load(Relaxed)
    }
}
