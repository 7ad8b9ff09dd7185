// SPDX-License-Identifier: GPL-2.0

//! What a VP does that its program wants to decide: CPUID, MSRs and exceptions.

use super::{
    hvcall::each_vp,
    partition::Partition,
    vp::{State, Vp},
};
use crate::{
    hvabi::{
        state::{group, StateKind},
        vp::{gpr, orders},
        MAX_VPS,
    },
    tlfs::{
        cpuid::{self, CpuidResult, MAX_RESULTS},
        hvcall::{intercept_type, InputInstallIntercept, InputInterceptResult},
        intercept::Intercepts,
        interface::{self, feature, Gp},
        message, pod,
        processor::Cpuid,
        property::unimplemented_msr,
        state::EVENT_GP,
        status::{HvResult, HvStatus},
        store::Mode,
    },
};
use kernel::{
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        Mutex,
    },
};

/// The intercepts of a partition, and what a VP looks at before it is entered.
#[pin_data]
pub(super) struct Installed {
    /// [`Intercepts::orders`].
    orders: Atomic<u64>,
    /// The property UNIMPLEMENTED_MSR_ACTION.
    msr_action: Atomic<u64>,
    #[pin]
    intercepts: Mutex<Intercepts>,
}

impl Installed {
    pub(super) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            orders: Atomic::new(0),
            msr_action: Atomic::new(unimplemented_msr::FAULT),
            intercepts <- kernel::new_mutex!(Intercepts::NONE),
        })
    }

    pub(super) fn set_msr_action(&self, action: u64) {
        self.msr_action.store(action, Relaxed);
    }
}

/// HVCALL_INSTALL_INTERCEPT.
pub(super) fn install(partition: &Partition, input: &InputInstallIntercept) -> HvResult {
    let installed = &partition.installed;
    let mut intercepts = installed.intercepts.lock();
    intercepts.install(input)?;
    installed.orders.store(intercepts.orders(), Relaxed);
    drop(intercepts);
    // A VP that runs looks again when it is entered next.
    partition.notify(u64::MAX);
    Ok(())
}

/// HVCALL_REGISTER_INTERCEPT_RESULT, of which only CPUID can be had.
pub(super) fn register_result(partition: &Partition, input: &InputInterceptResult) -> HvResult {
    if input.intercept_type != intercept_type::X64_CPUID {
        return Err(HvStatus::INVALID_PARAMETER);
    }
    let result = CpuidResult::from_input(input)?;
    each_vp(partition, input.vp_index, |vp| add_result(vp, result))
}

fn add_result(vp: &Vp, mut result: CpuidResult) -> HvResult {
    let mut state = vp.lock();
    let offered = native(vp, &mut state, result.leaf, result.subleaf.unwrap_or(0))?;
    result.limit(&offered);
    result.yield_dynamic();
    result.yield_presence(state.local.features);
    let results = &mut state.cpuid;
    match results.iter().position(|other| result.replaces(other)) {
        Some(index) => results[index] = result,
        None if results.len() >= MAX_RESULTS => return Err(HvStatus::NO_RESOURCES),
        None => results
            .push(result, GFP_KERNEL_ACCOUNT)
            .map_err(|_| HvStatus::INSUFFICIENT_MEMORY)?,
    }
    Ok(())
}

/// What CPUID says if the program has no say in it.
pub(super) fn native(vp: &Vp, state: &mut State, leaf: u32, subleaf: u32) -> HvResult<Cpuid> {
    let question = u64::from(leaf) | u64::from(subleaf) << 32;
    vp.load(StateKind::Cpuid, state.xsave.spa(), question)?;
    let mut values = pod::read_at(&state.xsave[..], 0).ok_or(HvStatus::OPERATION_FAILED)?;
    interface::cpuid(state.local.features, leaf, MAX_VPS as u32, &mut values);
    Ok(values)
}

/// What the VP is told by CPUID; `registered` says whether the program has a say in it.
pub(super) fn cpuid_values(
    vp: &Vp,
    state: &mut State,
    leaf: u32,
    subleaf: u32,
    registered: bool,
) -> HvResult<Cpuid> {
    let found = cpuid::find(&state.cpuid, leaf, subleaf).filter(|_| registered);
    match found.copied() {
        Some(result) if result.is_whole() => Ok(result.value),
        Some(result) => Ok(result.apply(&native(vp, state, leaf, subleaf)?)),
        None => native(vp, state, leaf, subleaf),
    }
}

impl Partition {
    /// What hvcore has to do for the program when the VP is entered.
    #[inline]
    pub(super) fn orders(&self, state: &State) -> u64 {
        let mut orders = self.installed.orders.load(Relaxed);
        let features = interface::offered(state.local.features);
        if !state.cpuid.is_empty() {
            orders |= orders::CPUID;
        }
        if features != 0 {
            orders |= orders::HYPERVISOR;
        }
        if features & feature::HYPERCALL != 0 {
            orders |= orders::HYPERCALL;
        }
        orders
    }

    /// CPUID: true if it was answered, false if the message for the program is in `state`.
    pub(super) fn answer_cpuid(&self, vp: &Vp, state: &mut State) -> HvResult<bool> {
        let (leaf, subleaf) = (state.run.gpr[gpr::RAX], state.run.gpr[gpr::RCX]);
        let values = cpuid_values(vp, state, leaf as u32, subleaf as u32, true)?;
        if self.installed.intercepts.lock().cpuid(leaf as u32) {
            let State { run, message, .. } = state;
            message::cpuid(message, vp.index(), run, &values);
            return Ok(false);
        }
        let registers = [gpr::RAX, gpr::RBX, gpr::RCX, gpr::RDX];
        for (register, value) in registers.into_iter().zip(values) {
            state.run.gpr[register] = u64::from(value);
        }
        state.retire();
        Ok(true)
    }

    /// An MSR that hvcore does not have: true if that was settled, false if the program is to be
    /// asked.
    pub(super) fn answer_msr(&self, vp: &Vp, state: &mut State) -> HvResult<bool> {
        let write = state.run.access & 2 != 0;
        let index = state.run.gpr[gpr::RCX] as u32;
        if let Some(answer) = self.synthetic_msr(vp, state, index, write)? {
            match answer {
                Ok(value) => state.finish_msr(write, value),
                Err(Gp) => state.inject(vp, EVENT_GP)?,
            }
            return Ok(true);
        }
        if self.installed.intercepts.lock().msr(index, write) {
            return Ok(false);
        }
        if self.installed.msr_action.load(Relaxed) == unimplemented_msr::FAULT {
            state.inject(vp, EVENT_GP)?;
        } else {
            state.finish_msr(write, 0);
        }
        Ok(true)
    }
}

impl State {
    /// Ends RDMSR, which read `value`, or WRMSR.
    fn finish_msr(&mut self, write: bool, value: u64) {
        if !write {
            self.run.gpr[gpr::RAX] = value & 0xffff_ffff;
            self.run.gpr[gpr::RDX] = value >> 32;
        }
        self.retire();
    }

    /// Has the next entry deliver a fault of the instruction that exited; its error code, if it has
    /// one, is 0.
    pub(super) fn inject(&mut self, vp: &Vp, event: u32) -> HvResult {
        self.load_groups(vp, group::EVENT)?;
        self.registers.event = event;
        self.registers.event_error = 0;
        self.store_groups(vp, group::EVENT)
    }

    /// The instruction that caused the last exit was executed, in effect.
    pub(super) fn retire(&mut self) {
        let length = self.run.instruction_len as u8;
        self.run.rip = Mode::of(&self.run).advance(self.run.rip, length);
        self.retired = true;
    }
}
