// SPDX-License-Identifier: GPL-2.0

//! Hypercalls of guests.

use super::{
    partition::Partition,
    vp::{State, Vp},
};
use crate::{
    hvabi::{vp::gpr, MAX_VPS},
    tlfs::{
        hvcall::{interrupt_type, Interrupt},
        interface::{Call, Control},
        state::EVENT_UD,
        status::{HvResult, HvStatus},
        store::Mode,
        walk::GuestMemory,
        PAGE_SIZE,
    },
};

/// Words of input that a call has at most: its head, and the VPs of 64 banks.
const INPUT: usize = 68;

impl Partition {
    /// Makes the hypercall that the VP's registers tell.
    pub(super) fn answer_hypercall(&self, vp: &Vp, state: &mut State) -> HvResult {
        if !self.interface.lock().registers().hypercalls() {
            return state.inject(vp, EVENT_UD);
        }
        let r = &state.run.gpr;
        let long = Mode::of(&state.run) == Mode::Bits64;
        let pair = |high: usize, low: usize| r[high] << 32 | r[low] & 0xffff_ffff;
        let (control, input) = if long {
            (r[gpr::RCX], [r[gpr::RDX], r[gpr::R8]])
        } else {
            (
                pair(gpr::RDX, gpr::RAX),
                [pair(gpr::RBX, gpr::RCX), pair(gpr::RDI, gpr::RSI)],
            )
        };
        let result = match Control::parse(control) {
            Ok(control) => control.result(self.call(state.local.features, &control, input)),
            Err(status) => u64::from(status.0),
        };
        state.run.gpr[gpr::RAX] = result;
        if !long {
            state.run.gpr[gpr::RAX] &= 0xffff_ffff;
            state.run.gpr[gpr::RDX] = result >> 32;
        }
        state.retire();
        Ok(())
    }

    fn call(&self, features: u64, control: &Control, parameters: [u64; 2]) -> HvResult {
        let mut words = [0; INPUT];
        let count = control.input_words();
        let input = if control.fast {
            &parameters[..]
        } else {
            let room = words
                .get_mut(..count)
                .ok_or(HvStatus::INVALID_HYPERCALL_INPUT)?;
            self.read_input(parameters[0], room)?;
            room
        };
        match control.call(features, input)? {
            Call::Flush(vps) => self.flush(vps),
            Call::SendIpi(vector, vps) => {
                let ipi = Interrupt::new(interrupt_type::FIXED, vector, false, false, 0)?;
                for index in each(vps).filter(|&index| self.vp(index).is_some()) {
                    let destination = u64::from(index);
                    self.assert_interrupt(Interrupt { destination, ..ipi })?;
                }
            }
        }
        Ok(())
    }

    /// Reads the input of a call that is no fast one: in one page, at a multiple of 8.
    fn read_input(&self, gpa: u64, words: &mut [u64]) -> HvResult {
        if gpa % 8 != 0 || gpa as usize % PAGE_SIZE + size_of_val(words) > PAGE_SIZE {
            return Err(HvStatus::INVALID_ALIGNMENT);
        }
        let regions = self.regions.lock();
        for (word, gpa) in words.iter_mut().zip((gpa..).step_by(8)) {
            *word = regions
                .read_u64(gpa)
                .ok_or(HvStatus::INVALID_HYPERCALL_INPUT)?;
        }
        Ok(())
    }

    /// Has VPs forget their translations: after this none uses one from before.
    fn flush(&self, vps: u64) {
        let named = || each(vps).filter_map(|index| self.vp(index));
        let mut running = 0;
        for vp in named() {
            running |= u64::from(vp.request_flush()) << vp.index();
        }
        // Those run on other CPUs, which leave at once.
        for vp in named().filter(|vp| running >> vp.index() & 1 != 0) {
            while !vp.has_left() {
                core::hint::spin_loop();
            }
        }
    }
}

/// The indices in a set of VPs.
fn each(vps: u64) -> impl Iterator<Item = u32> {
    (0..MAX_VPS as u32).filter(move |index| vps >> index & 1 != 0)
}
