// SPDX-License-Identifier: GPL-2.0

//! Registers of a VP, by the names of the TLFS.

use super::vp::{hv_status, State, Vp};
use crate::{
    hvabi::{
        call::Status,
        state::{group, StateKind},
        vp::RunPage,
    },
    tlfs::{
        register::{RegisterAssoc, RegisterValue},
        state::{home, pending_page_fault, Home, View},
        status::{HvResult, HvStatus},
    },
};
use core::ops::Range;

/// What has to be loaded for some registers, and stored after they were changed.
#[derive(Clone, Copy, Default)]
struct Needs {
    groups: u64,
    xsave: bool,
}

impl Needs {
    fn add(&mut self, home: Home) {
        match home {
            Home::Run | Home::Local => {}
            Home::Group(group) => self.groups |= group,
            Home::Xsave => self.xsave = true,
        }
    }
}

impl State {
    pub(super) fn view(&mut self) -> View<'_> {
        View {
            run: &mut self.run,
            registers: &mut self.registers,
            xsave: &mut self.xsave,
            local: &mut self.local,
        }
    }

    /// Loads groups of registers.
    pub(super) fn load_groups(&mut self, vp: &Vp, groups: u64) -> HvResult {
        vp.load(StateKind::Registers, self.registers.spa(), groups)?;
        if groups & group::TIME != 0 {
            self.show_clock();
        }
        Ok(())
    }

    /// Stores groups of registers.
    pub(super) fn store_groups(&mut self, vp: &Vp, groups: u64) -> HvResult {
        vp.store(StateKind::Registers, self.registers.spa(), groups)
    }

    /// Loads the XSAVE area.
    pub(super) fn load_xsave(&mut self, vp: &Vp) -> HvResult {
        vp.load(StateKind::Xsave, self.xsave.spa(), 0)
    }

    /// Stores the XSAVE area.
    pub(super) fn store_xsave(&mut self, vp: &Vp) -> HvResult {
        vp.store(StateKind::Xsave, self.xsave.spa(), 0)
    }

    fn load(&mut self, vp: &Vp, needs: Needs) -> HvResult {
        if needs.groups != 0 {
            self.load_groups(vp, needs.groups)?;
        }
        if needs.xsave {
            self.load_xsave(vp)?;
        }
        Ok(())
    }
}

/// Reads the registers that `name(0)` to `name(count - 1)` name, and gives each to `put`.
///
/// Gives how many were read, and why no more.
pub(super) fn get(
    vp: &Vp,
    state: &mut State,
    count: u16,
    name: impl Fn(u16) -> HvResult<u32>,
    mut put: impl FnMut(u16, RegisterValue),
) -> (u16, HvResult) {
    if let Err(status) = vp.take_page(state) {
        return (0, Err(status));
    }
    let mut needs = Needs::default();
    for index in 0..count {
        // A name that does not exist is found again below, behind those that do.
        if let Ok(Some(home)) = name(index).map(home) {
            needs.add(home);
        }
    }
    if let Err(status) = state.load(vp, needs) {
        return (0, Err(status));
    }
    let mut view = state.view();
    for index in 0..count {
        match name(index).and_then(|name| view.get(name)) {
            Ok(value) => put(index, value),
            Err(status) => return (index, Err(status)),
        }
    }
    (count, Ok(()))
}

/// Writes the registers that `assoc(0)` to `assoc(count - 1)` say.
///
/// Hyper-V writes one after the other and stops at the first that it does not like; so does this,
/// but that values are judged together: those before the one at fault are written.
#[inline]
pub(super) fn set(
    vp: &Vp,
    state: &mut State,
    count: u16,
    assoc: impl Fn(u16) -> HvResult<RegisterAssoc>,
) -> (u16, HvResult) {
    if let Err(status) = vp.take_page(state) {
        return (0, Err(status));
    }
    let done = set_some(vp, state, count, assoc);
    vp.register_page.show_general(state);
    done
}

#[inline]
fn set_some(
    vp: &Vp,
    state: &mut State,
    count: u16,
    assoc: impl Fn(u16) -> HvResult<RegisterAssoc>,
) -> (u16, HvResult) {
    // The usual end of an intercept is a few general registers: no hypercall is needed.
    let mut view = state.view();
    for index in 0..count {
        let entry = match assoc(index) {
            Ok(entry) => entry,
            Err(status) => return (index, Err(status)),
        };
        if home(entry.name) != Some(Home::Run) {
            return set_rest(vp, state, index, count, &assoc);
        }
        if let Err(status) = view.set(entry.name, entry.value) {
            return (index, Err(status));
        }
    }
    (count, Ok(()))
}

/// Writes the registers from `start` on.
fn set_rest(
    vp: &Vp,
    state: &mut State,
    start: u16,
    count: u16,
    assoc: &dyn Fn(u16) -> HvResult<RegisterAssoc>,
) -> (u16, HvResult) {
    vp.register_page.invalidate();
    let mut limit = count;
    let mut result = Ok(());
    while limit > start {
        match set_all(vp, state, start..limit, assoc) {
            Ok(()) => {
                // A VP that is halted may have something to do now.
                vp.waiter.wake();
                break;
            }
            Err((index, status)) => {
                limit = index.min(limit - 1);
                result = Err(status);
            }
        }
    }
    vp.register_page.refresh(vp, state);
    (limit, result)
}

/// Writes the registers of `range`, all or none. An error tells the one at fault.
fn set_all(
    vp: &Vp,
    state: &mut State,
    range: Range<u16>,
    assoc: &dyn Fn(u16) -> HvResult<RegisterAssoc>,
) -> Result<(), (u16, HvStatus)> {
    let mut needs = Needs::default();
    for index in range.clone() {
        let entry = assoc(index).map_err(|status| (index, status))?;
        let home = home(entry.name).ok_or((index, HvStatus::INVALID_PARAMETER))?;
        needs.add(home);
        if pending_page_fault(entry.name, entry.value).is_some() {
            needs.groups |= group::CONTROL;
        }
    }

    let before: RunPage = *state.run;
    let local = state.local;
    state
        .load(vp, needs)
        .map_err(|status| (range.start, status))?;
    let tsc = state.registers.tsc;
    let written = apply(state, range.clone(), assoc).and_then(|()| {
        if needs.groups & group::TIME != 0 {
            state.move_time(tsc);
        }
        store(vp, state, range, needs, assoc)
    });
    if written.is_err() {
        state.run.gpr = before.gpr;
        state.run.rip = before.rip;
        state.run.rflags = before.rflags;
        state.local = local;
    }
    written
}

/// Writes the registers where they were loaded to.
fn apply(
    state: &mut State,
    range: Range<u16>,
    assoc: &dyn Fn(u16) -> HvResult<RegisterAssoc>,
) -> Result<(), (u16, HvStatus)> {
    let mut view = state.view();
    for index in range {
        assoc(index)
            .and_then(|entry| {
                if let Some(address) = pending_page_fault(entry.name, entry.value) {
                    view.registers.cr2 = address;
                }
                view.set(entry.name, entry.value)
            })
            .map_err(|status| (index, status))?;
    }
    Ok(())
}

/// Hands what was changed to hvcore.
fn store(
    vp: &Vp,
    state: &mut State,
    range: Range<u16>,
    needs: Needs,
    assoc: &dyn Fn(u16) -> HvResult<RegisterAssoc>,
) -> Result<(), (u16, HvStatus)> {
    let first = |wanted: &dyn Fn(Home) -> bool| {
        range
            .clone()
            .find(|&index| assoc(index).is_ok_and(|entry| home(entry.name).is_some_and(wanted)))
            .unwrap_or(range.start)
    };
    // The FPU's first: which of its parts may be in use does not depend on other registers.
    if needs.xsave {
        state
            .store_xsave(vp)
            .map_err(|status| (first(&|home| home == Home::Xsave), status))?;
    }
    if needs.groups == 0 {
        return Ok(());
    }
    let moved = vp.state_by(StateKind::Registers, state.registers.spa(), needs.groups);
    let (status, fault) = moved.set();
    if status == Status::Ok {
        if needs.groups & group::TIME != 0 {
            state.set_clock();
        }
        return Ok(());
    }
    let group = 1u64.checked_shl(fault as u32).unwrap_or(0);
    let status = hv_status(status)
        .err()
        .unwrap_or(HvStatus::OPERATION_FAILED);
    Err((first(&|home| home == Home::Group(group)), status))
}
