// SPDX-License-Identifier: GPL-2.0

//! The register page of a VP: its registers in memory that the program has mapped.

use super::vp::{State, Vp};
use crate::{
    hvabi::state::group,
    sys::shared::SharedWords,
    tlfs::{
        register::name,
        register_page::{self as page, dirty},
        status::HvResult,
    },
};
use core::ptr::NonNull;
use kernel::{
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};

/// The page, and whether anybody looks at it.
///
/// It is used under the lock of the VP's state.
pub(super) struct RegisterPage {
    words: SharedWords,
    mapped: Atomic<bool>,
}

impl RegisterPage {
    pub(super) fn new() -> Result<Self> {
        let words = SharedWords::new()?;
        words.set(page::HEAD, page::head(false));
        Ok(Self {
            words,
            mapped: Atomic::new(false),
        })
    }

    /// Somebody maps it: where it is.
    pub(super) fn map(&self) -> NonNull<u8> {
        self.mapped.store(true, Relaxed);
        self.words.address()
    }

    fn is_mapped(&self) -> bool {
        self.mapped.load(Relaxed)
    }

    /// Shows the registers at an intercept.
    #[inline]
    pub(super) fn show(&self, state: &State) {
        if self.is_mapped() {
            page::show(&state.run, |index, value| self.words.set(index, value));
            self.words.set(page::HEAD, page::head(true));
        }
    }

    /// Shows the general registers again, since they were changed by a hypercall.
    #[inline]
    pub(super) fn show_general(&self, state: &State) {
        if self.is_mapped() {
            page::show_general(&state.run, |index, value| self.words.set(index, value));
        }
    }

    /// Shows the registers as they are, now that some were set.
    pub(super) fn refresh(&self, vp: &Vp, state: &mut State) {
        // If they can not be had, the page stays not valid.
        if self.is_mapped() && state.load_groups(vp, page::GROUPS).is_ok() {
            let State { run, registers, .. } = &mut *state;
            page::load(run, registers);
            self.show(state);
        }
    }

    /// Says that the VP's registers are not these any more.
    #[inline]
    pub(super) fn invalidate(&self) {
        if self.is_mapped() {
            self.words.set(page::HEAD, page::head(false));
        }
    }
}

impl Vp {
    /// Takes over what the program wrote to the register page. Before the VP runs, and before its
    /// registers are read or written in another way.
    #[inline]
    pub(super) fn take_page(&self, state: &mut State) -> HvResult {
        let page = &self.register_page;
        if !page.is_mapped() {
            return Ok(());
        }
        let head = page.words.get(page::HEAD);
        let dirty = page::dirty_of(head);
        if dirty == 0 {
            return Ok(());
        }
        page.words.set(page::HEAD, head & 0xffff_ffff);
        let get = |index| page.words.get(index);
        page::take_general(dirty, get, &mut state.run);
        if dirty & (dirty::SEGMENT | dirty::XMM) != 0 {
            self.take_rest(state, dirty)?;
        }
        Ok(())
    }

    /// Takes over segments and XMM registers, for which hvcore is needed.
    #[cold]
    fn take_rest(&self, state: &mut State, dirty: u32) -> HvResult {
        let words = &self.register_page.words;
        if dirty & dirty::SEGMENT != 0 {
            state.load_groups(self, group::SEGMENTS)?;
            let [es, cs, ss, ds, fs, gs] = page::take_segments(|index| words.get(index));
            let registers = &mut *state.registers;
            (registers.es, registers.cs, registers.ss) = (es, cs, ss);
            (registers.ds, registers.fs, registers.gs) = (ds, fs, gs);
            state.store_groups(self, group::SEGMENTS)?;
        }
        if dirty & dirty::XMM != 0 {
            state.load_xsave(self)?;
            let values = page::take_xmm(|index| words.get(index));
            let mut view = state.view();
            for (index, value) in values.into_iter().enumerate() {
                view.set(name::XMM0 + index as u32, value)?;
            }
            state.store_xsave(self)?;
        }
        Ok(())
    }
}
