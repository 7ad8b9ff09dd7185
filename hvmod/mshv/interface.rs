// SPDX-License-Identifier: GPL-2.0

//! What a guest that knows Hyper-V finds: synthetic MSRs, and the pages that they name.
//!
//! On Hyper-V such a page lies over what the guest has at its address; here it is written there. So
//! what was there is gone, which no guest relies on, and the page is saved with the guest's memory.

use super::{
    hvcall,
    intercept::native,
    partition::Partition,
    vp::{State, Vp},
};
use crate::{
    hvabi::{state::group, vp::gpr},
    hypercall,
    tlfs::{
        interface::{self, msr, Clock, Gp, Page, Read, Registers, HYPERCALL_CODE},
        processor::ECX,
        register::VP_INDEX_ANY,
        status::{HvResult, HvStatus},
        synic,
    },
};

/// What the VPs of a partition share.
pub(super) struct Interface {
    registers: Registers,
    clock: Clock,
    /// Of the reference TSC page: another one each time that its content changes, never 0.
    sequence: u32,
}

impl Interface {
    pub(super) fn new() -> Self {
        Self {
            registers: Registers::default(),
            clock: Clock::new(hypercall::tsc_khz()),
            sequence: 0,
        }
    }

    pub(super) fn registers(&self) -> Registers {
        self.registers
    }

    /// Writes a page; false if the guest has no memory there that it could write to.
    fn show(&mut self, partition: &Partition, page: Page) -> bool {
        let mut regions = partition.regions.lock();
        match page {
            Page::None => Some(()),
            Page::Hypercall(gpa) => regions.write(gpa, &[HYPERCALL_CODE]),
            Page::ReferenceTsc(gpa) => {
                self.sequence = self.sequence.checked_add(1).unwrap_or(1);
                // With 0 the page is not valid.
                regions
                    .write(gpa, &[0])
                    .and_then(|()| regions.write(gpa + 8, &[self.clock.scale, self.clock.offset]))
                    .and_then(|()| regions.write(gpa, &[u64::from(self.sequence)]))
            }
        }
        .is_some()
    }
}

impl State {
    /// The VP's TSC.
    fn tsc(&mut self, vp: &Vp) -> HvResult<u64> {
        self.load_groups(vp, group::TIME)?;
        Ok(self.registers.tsc)
    }
}

impl Partition {
    /// The guest reads or writes a synthetic MSR: what it reads. `None` if there is no such MSR.
    pub(super) fn synthetic_msr(
        &self,
        vp: &Vp,
        state: &mut State,
        index: u32,
        write: bool,
    ) -> HvResult<Option<Result<u64, Gp>>> {
        let features = state.local.features;
        let value = state.run.gpr[gpr::RAX] & 0xffff_ffff | state.run.gpr[gpr::RDX] << 32;
        if let Some(register) = synic::Register::of_msr(index) {
            return Ok(match (state.local.offers(register.feature()), write) {
                (false, _) => None,
                (true, false) => Some(Ok(state.local.synic.read(register))),
                (true, true) => Some(self.write_synic(state, register, value).map(|()| 0)),
            });
        }
        let Some(read) = self.interface.lock().registers.read(features, index) else {
            return Ok(None);
        };
        if write {
            return Ok(Some(self.write_msr(state, index, value).map(|()| 0)));
        }
        Ok(Some(Ok(match read {
            Read::Value(value) => value,
            Read::VpIndex => u64::from(vp.index()),
            Read::VpAssistPage => state.local.vp_assist_page,
            Read::ReferenceTime => self.time_of(vp, state)?,
            Read::TscFrequency => hypercall::tsc_khz() * 1000,
            // That of the crystal.
            Read::ApicFrequency => u64::from(native(vp, state, 0x15, 0)?[ECX]),
            Read::Idle => {
                state.idle = true;
                0
            }
        })))
    }

    /// Reference time, as the VP sees it.
    pub(super) fn time_of(&self, vp: &Vp, state: &mut State) -> HvResult<u64> {
        let tsc = state.tsc(vp)?;
        Ok(self.interface.lock().clock.time(tsc))
    }

    fn write_msr(&self, state: &mut State, index: u32, value: u64) -> Result<(), Gp> {
        if index == msr::VP_ASSIST_PAGE {
            if let Some(gpa) = interface::page(value) {
                self.regions.lock().write(gpa, &[0]).ok_or(Gp)?;
            }
            state.local.vp_assist_page = value;
            return Ok(());
        }
        let mut interface = self.interface.lock();
        let mut changed = interface.registers;
        let page = changed
            .write(state.local.features, index, value)
            .and_then(Result::ok)
            .ok_or(Gp)?;
        if !interface.show(self, page) {
            return Err(Gp);
        }
        interface.registers = changed;
        Ok(())
    }

    /// The program sets the registers that the VPs share.
    pub(super) fn set_interface(&self, registers: Registers) -> HvResult {
        let mut interface = self.interface.lock();
        let before = interface.registers;
        let pages = [
            (registers.hypercall != before.hypercall)
                .then(|| interface::page(registers.hypercall).map(Page::Hypercall)),
            (registers.reference_tsc != before.reference_tsc)
                .then(|| interface::page(registers.reference_tsc).map(Page::ReferenceTsc)),
        ];
        for page in pages.into_iter().flatten().flatten() {
            if !interface.show(self, page) {
                return Err(HvStatus::INVALID_REGISTER_VALUE);
            }
        }
        interface.registers = registers;
        Ok(())
    }

    /// The TSC that reference time follows: VP 0's.
    fn reference_tsc(&self) -> HvResult<u64> {
        match self.vp(0) {
            Some(vp) => vp.lock().tsc(vp),
            None => Ok(0),
        }
    }

    /// The property REFERENCE_TIME.
    pub(super) fn reference_time(&self) -> HvResult<u64> {
        let tsc = self.reference_tsc()?;
        Ok(self.interface.lock().clock.time(tsc))
    }

    pub(super) fn set_reference_time(&self, time: u64) -> HvResult {
        let tsc = self.reference_tsc()?;
        let mut interface = self.interface.lock();
        interface.clock.set(tsc, time);
        if let Some(gpa) = interface::page(interface.registers.reference_tsc) {
            // A page that is no memory any more is nothing to the guest either.
            interface.show(self, Page::ReferenceTsc(gpa));
        }
        drop(interface);
        hvcall::each_vp(self, VP_INDEX_ANY, |vp| {
            vp.lock().local.look_at_timers = true;
            vp.notify();
            Ok(())
        })
    }
}
