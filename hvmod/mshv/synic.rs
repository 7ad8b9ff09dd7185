// SPDX-License-Identifier: GPL-2.0

//! The synthetic interrupt controller of a VP: messages and events for its guest, and its timers.
//!
//! Its pages are written to the guest's memory, as those of [`interface`](super::interface) are.

use super::{
    hvcall,
    partition::Partition,
    vp::{State, Vp},
};
use crate::tlfs::{
    hvcall::{interrupt_type, InputPostMessage, InputSignalEvent, Interrupt},
    interface::{feature, Gp},
    message::Message,
    pod,
    status::{HvResult, HvStatus},
    synic::{self, Effect, Notice, Register, Synic, SINTS, SLOT_PENDING, SLOT_TYPE},
    walk::GuestMemory,
    PAGE_SIZE,
};

/// A page of zeros.
static CLEAR: [u64; PAGE_SIZE / 8] = [0; PAGE_SIZE / 8];

impl State {
    /// Whether [`Partition::run_timers`] has something to do: somebody changed the VP's timers or
    /// its time, or the alarm of the next timer rang.
    #[inline]
    pub(super) fn timers_want_a_look(&self, vp: &Vp) -> bool {
        let local = &self.local;
        local.look_at_timers || local.offers(feature::TIMERS) && vp.waiter.rang()
    }
}

impl Partition {
    /// The guest writes a register of the controller.
    pub(super) fn write_synic(
        &self,
        state: &mut State,
        register: Register,
        value: u64,
    ) -> Result<(), Gp> {
        let local = &mut state.local;
        if !local.offers(register.feature_to_write(value)) {
            return Err(Gp);
        }
        let mut changed = local.synic;
        match changed.write(register, value)? {
            Effect::None => {}
            Effect::Clear(gpa) => self.regions.lock().write(gpa, &CLEAR).ok_or(Gp)?,
            Effect::Timers => local.look_at_timers = true,
        }
        local.synic = changed;
        Ok(())
    }

    /// Tells the guest of something new for a source, or of a timer.
    fn interrupt_with(&self, vp: &Vp, vector: Option<u8>) -> HvResult {
        let Some(vector) = vector else {
            return Ok(());
        };
        let destination = u64::from(vp.index());
        self.assert_interrupt(Interrupt::new(
            interrupt_type::FIXED,
            u32::from(vector),
            false,
            false,
            destination,
        )?)
    }

    /// Puts a message into the slot of source `sint`, if that is free.
    fn deliver(&self, vp: &Vp, synic: &Synic, sint: usize, message: &Message) -> HvResult {
        const UNUSABLE: HvStatus = HvStatus::INVALID_SYNIC_STATE;
        let target = synic.message(sint)?;
        let words = synic::slot_words(message);
        {
            let mut regions = self.regions.lock();
            let head = regions.read_u64(target.slot).ok_or(UNUSABLE)?;
            // The guest empties its slot at any time, also between these two.
            if head & SLOT_TYPE != 0
                && regions
                    .set_bits(target.slot, SLOT_PENDING)
                    .ok_or(UNUSABLE)?
                    & SLOT_TYPE
                    != 0
            {
                return Err(HvStatus::OBJECT_IN_USE);
            }
            regions
                .write(target.slot + 8, &words[1..])
                .and_then(|()| regions.write(target.slot, &words[..1]))
                .ok_or(UNUSABLE)?;
        }
        self.interrupt_with(vp, target.vector)
    }

    /// HVCALL_POST_MESSAGE_DIRECT.
    pub(super) fn post_message(&self, input: &InputPostMessage) -> HvResult {
        let (vp, sint) = (hvcall::vp(self, input.vp_index)?, input.sint as usize);
        let message: Message =
            pod::read_at(&input.message, 0).ok_or(HvStatus::INVALID_PARAMETER)?;
        if input.vtl & 0xf != 0 || sint >= SINTS {
            return Err(HvStatus::INVALID_PARAMETER);
        }
        let state = vp.lock();
        with_synic(&state)?;
        let synic = state.local.synic;
        self.deliver(vp, &synic, sint, &message)
    }

    /// HVCALL_SIGNAL_EVENT_DIRECT: whether the event is new.
    pub(super) fn signal_event(&self, input: &InputSignalEvent) -> HvResult<bool> {
        let vp = hvcall::vp(self, input.vp_index)?;
        let sint = usize::from(input.sint);
        if input.vtl & 0xf != 0 || sint >= SINTS || input.flag >= synic::FLAGS {
            return Err(HvStatus::INVALID_PARAMETER);
        }
        let state = vp.lock();
        with_synic(&state)?;
        // Nobody looks there: it is not an error.
        let Ok(target) = state.local.synic.event(sint) else {
            return Ok(false);
        };
        let word = target.slot + u64::from(input.flag / 64) * 8;
        let bit = 1 << (input.flag % 64);
        let Some(before) = self.regions.lock().set_bits(word, bit) else {
            return Ok(false);
        };
        if before & bit != 0 {
            return Ok(false);
        }
        self.interrupt_with(vp, target.vector)?;
        Ok(true)
    }

    /// Tells the guest of timers that have expired, and sees to it that this is done again when the
    /// next one does.
    pub(super) fn run_timers(&self, vp: &Vp, state: &mut State) -> HvResult {
        state.local.look_at_timers = false;
        if !state.local.synic.counts() {
            return Ok(());
        }
        let now = self.time_of(vp, state)?;
        let mut next = None;
        for index in 0..synic::TIMERS {
            let timer = &mut state.local.synic.timers()[index];
            let (expired, notice) = (timer.expired(now), timer.notice());
            next = next.into_iter().chain(timer.due()).min();
            let Some(expired) = expired else {
                continue;
            };
            let told = match notice {
                Notice::Interrupt(vector) => self.interrupt_with(vp, Some(vector)),
                Notice::Message(sint) => {
                    let message = synic::timer_message(index, expired, now);
                    let synic = state.local.synic;
                    self.deliver(vp, &synic, sint, &message)
                }
            };
            if told != Err(HvStatus::OBJECT_IN_USE) {
                state.local.synic.timers()[index].settled();
            }
        }
        if let Some(due) = next {
            // Reference time counts in 100 ns.
            vp.waiter.alarm((due - now).saturating_mul(100));
        }
        Ok(())
    }
}

/// That the VP has such a controller.
pub(super) fn with_synic(state: &State) -> HvResult {
    if state.local.offers(feature::SYNIC) {
        return Ok(());
    }
    Err(HvStatus::INVALID_HYPERCALL_CODE)
}
