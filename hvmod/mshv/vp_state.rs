// SPDX-License-Identifier: GPL-2.0

//! MSHV_GET_VP_STATE and MSHV_SET_VP_STATE: the local APIC, the XSAVE area and the SynIC of a VP.

use super::{
    machine,
    partition::Partition,
    synic::with_synic,
    user,
    vp::{State, Vp},
};
use crate::{
    hvabi::state::{group, StateKind},
    sys::shared::Shared,
    tlfs::{
        fpu::XsaveArea,
        lapic::{self, LapicState},
        mshv::{vp_state, GetSetVpState},
        pod,
        status::{HvResult, HvStatus},
        PAGE_SIZE,
    },
};
use core::mem::offset_of;
use kernel::prelude::*;

/// Reads (`set` false) or writes state.
pub(super) fn ioctl(partition: &Partition, vp: &Vp, arg: usize, set: bool) -> Result<isize> {
    let args = user::read::<GetSetVpState>(arg)?;
    let page = PAGE_SIZE as u64;
    if args.type_ >= vp_state::COUNT
        || args.rsvd != [0; 3]
        || args.buf_sz == 0
        || u64::from(args.buf_sz) % page != 0
        || args.buf_ptr % page != 0
    {
        return Err(EINVAL);
    }
    user::check(args.buf_ptr, u64::from(args.buf_sz))?;
    let size = match args.type_ {
        vp_state::XSAVE => machine::get().xsave_size as u32,
        vp_state::SYNTHETIC_TIMERS => 200,
        _ => PAGE_SIZE as u32,
    };
    user::write(arg + offset_of!(GetSetVpState, buf_sz), &size)?;
    if size > args.buf_sz {
        return Err(EINVAL);
    }

    let buffer = args.buf_ptr as usize;
    let mut state = vp.lock();
    vp.take_page(&mut state)
        .map_err(|status| user::error(status.errno()))?;
    if set {
        // The APIC has CR8, for one.
        vp.register_page.invalidate();
    }
    let done = match (args.type_, set) {
        (vp_state::LAPIC, false) => {
            let mut bytes = user::buffer(PAGE_SIZE)?;
            get_lapic(vp, &mut state).map(|lapic| {
                bytes[..size_of::<LapicState>()].copy_from_slice(pod::bytes_of(&lapic));
                user::write_bytes(buffer, &bytes)
            })
        }
        (vp_state::LAPIC, true) => {
            let lapic = user::read(buffer)?;
            set_lapic(vp, &mut state, &lapic).map(Ok)
        }
        (vp_state::XSAVE, false) => {
            let loaded = state.load_xsave(vp);
            let mut compact = Shared::<XsaveArea>::new()?;
            loaded.map(|()| {
                machine::get().xsave.compact(&state.xsave, &mut compact);
                user::write_bytes(buffer, &compact[..size as usize])
            })
        }
        (vp_state::XSAVE, true) => {
            let mut scratch = Shared::<XsaveArea>::new()?;
            user::read_bytes(buffer, &mut state.xsave[..])?;
            let layout = machine::get().xsave;
            let expanded = layout.expand(&mut state.xsave, &mut scratch);
            expanded.and_then(|()| state.store_xsave(vp)).map(Ok)
        }
        (vp_state::SYNTHETIC_TIMERS, false) => {
            with_synic(&state).map(|()| user::write(buffer, &state.local.synic.timers_state()))
        }
        (vp_state::SYNTHETIC_TIMERS, true) => {
            let timers = user::read(buffer)?;
            state.local.look_at_timers = true;
            with_synic(&state).and_then(|()| state.local.set_timers_state(&timers).map(Ok))
        }
        (kind, _) => synic_page(partition, &state, kind, buffer, set),
    };
    done.map_err(|status| user::error(status.errno()))??;
    if set {
        vp.register_page.refresh(vp, &mut state);
        // A VP that is halted may have an interrupt now.
        vp.waiter.wake();
    }
    Ok(0)
}

/// Reads or writes a page of the SynIC, which is in the guest's memory. One that is not in use is
/// empty.
fn synic_page(
    partition: &Partition,
    state: &State,
    kind: u8,
    buffer: usize,
    set: bool,
) -> HvResult<Result> {
    with_synic(state)?;
    let synic = &state.local.synic;
    let page = match kind {
        vp_state::SIMP => synic.messages_page(),
        _ => synic.flags_page(),
    };
    let Ok(mut bytes) = user::buffer(PAGE_SIZE) else {
        return Err(HvStatus::INSUFFICIENT_MEMORY);
    };
    if !set {
        if let Some(gpa) = page {
            partition.regions.lock().read(gpa, &mut bytes);
        }
        return Ok(user::write_bytes(buffer, &bytes));
    }
    if let Err(error) = user::read_bytes(buffer, &mut bytes) {
        return Ok(Err(error));
    }
    if let Some(gpa) = page {
        let mut regions = partition.regions.lock();
        for at in (0..PAGE_SIZE).step_by(8) {
            let word = pod::read_at(&bytes, at).unwrap_or(0);
            regions
                .write(gpa + at as u64, &[word])
                .ok_or(HvStatus::INVALID_SYNIC_STATE)?;
        }
    }
    Ok(Ok(()))
}

/// Loads the APIC's page to where the XSAVE area otherwise goes.
fn load_lapic(vp: &Vp, state: &mut State) -> HvResult {
    vp.load(StateKind::Apic, state.xsave.spa(), 0)
}

fn get_lapic(vp: &Vp, state: &mut State) -> HvResult<LapicState> {
    load_lapic(vp, state)?;
    Ok(lapic::from_page(&state.xsave))
}

/// Sets the state. It does not hold IA32_TSC_DEADLINE: a timer that waits for that goes on to. If it
/// is not known until when, since the state is that of another VP, it fires now, which costs a
/// guest one interrupt too many, where none would leave it waiting for ever.
fn set_lapic(vp: &Vp, state: &mut State, lapic: &LapicState) -> HvResult {
    state.load_groups(vp, group::TIME)?;
    let deadline = state.registers.tsc_deadline;
    load_lapic(vp, state)?;
    lapic::to_page(lapic, &mut state.xsave);
    vp.store(StateKind::Apic, state.xsave.spa(), 0)?;
    if lapic.has_deadline() {
        state.load_groups(vp, group::TIME)?;
        match deadline {
            0 => state.expire_deadline(),
            deadline => state.registers.tsc_deadline = deadline,
        }
        state.store_groups(vp, group::TIME)?;
        state.set_clock();
    }
    Ok(())
}
