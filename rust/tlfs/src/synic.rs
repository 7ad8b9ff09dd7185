// SPDX-License-Identifier: GPL-2.0

//! The synthetic interrupt controller of a VP, and its timers (TLFS, chapters 11 and 12).
//!
//! Sixteen sources, each with a slot for a message, 2048 flags for events, and the interrupt that
//! tells the guest of either. What interrupts a guest without the guest's EOI (auto-EOI) is not
//! here.

use super::hvabi;
use super::interface::{self, feature, Gp};
use super::message::{message_type, Message};
use super::pod::{self, pod_struct};
use super::register::name;
use super::status::{HvResult, HvStatus};

/// Sources of a VP.
pub const SINTS: usize = 16;

/// Timers of a VP.
pub const TIMERS: usize = 4;

/// Flags of a source.
pub const FLAGS: u16 = 2048;

/// Bytes that each source has of the page of messages, and of the page of flags.
pub const SLOT: u64 = 256;

/// In the first word of a slot: the type of its message.
pub const SLOT_TYPE: u64 = 0xffff_ffff;

/// In the first word of a slot: that another message waits, so that the guest writes EOM.
pub const SLOT_PENDING: u64 = 1 << 40;

/// SVERSION.
const VERSION: u64 = 1;

/// Of SCONTROL, SIEFP and SIMP.
const ENABLE: u64 = 1;

/// Bits of a SINT.
mod sint {
    pub const VECTOR: u64 = 0xff;
    pub const MASKED: u64 = 1 << 16;
    /// Auto-EOI, messages as intercepts, and passed on to the parent: not here.
    pub const ABSENT: u64 = 1 << 17 | 1 << 19 | 1 << 20;
    /// The guest looks by itself.
    pub const POLLING: u64 = 1 << 18;
}

/// Bits of a timer's configuration.
mod config {
    pub const ENABLE: u64 = 1 << 0;
    pub const PERIODIC: u64 = 1 << 1;
    /// Writing the count enables the timer.
    pub const AUTO_ENABLE: u64 = 1 << 3;
    pub const VECTOR_SHIFT: u32 = 4;
    pub const VECTOR: u64 = 0xff << VECTOR_SHIFT;
    /// The timer is an interrupt itself, and tells no source.
    pub const DIRECT: u64 = 1 << 12;
    pub const SINT_SHIFT: u32 = 16;
    pub const SINT: u64 = 0xf << SINT_SHIFT;
    /// Lazy ones are as punctual as others.
    pub const VALID: u64 = ENABLE | PERIODIC | 1 << 2 | AUTO_ENABLE | VECTOR | DIRECT | SINT;
}

/// A register of the controller, by whatever number it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    Control,
    Version,
    /// SIEFP, the page of flags.
    Flags,
    /// SIMP, the page of messages.
    Messages,
    EndOfMessage,
    Sint(usize),
    TimerConfig(usize),
    TimerCount(usize),
}

impl Register {
    fn numbered(control: u32, sint: u32, timer: u32) -> Option<Register> {
        Some(match (control, sint, timer) {
            (0, ..) => Register::Control,
            (1, ..) => Register::Version,
            (2, ..) => Register::Flags,
            (3, ..) => Register::Messages,
            (4, ..) => Register::EndOfMessage,
            (_, 0..=15, _) => Register::Sint(sint as usize),
            (.., 0..=7) if timer % 2 == 0 => Register::TimerConfig(timer as usize / 2),
            (.., 0..=7) => Register::TimerCount(timer as usize / 2),
            _ => return None,
        })
    }

    /// That with this number as an MSR.
    pub fn of_msr(index: u32) -> Option<Register> {
        let from = |first: u32| index.wrapping_sub(first);
        Register::numbered(from(0x4000_0080), from(0x4000_0090), from(0x4000_00b0))
    }

    /// That with this name.
    pub fn of_name(index: u32) -> Option<Register> {
        let from = |first: u32| index.wrapping_sub(first);
        Register::numbered(
            from(name::SCONTROL),
            from(name::SINT0),
            from(name::STIMER0_CONFIG),
        )
    }

    /// The synthetic feature that it belongs to.
    pub fn feature(self) -> u64 {
        match self {
            Register::TimerConfig(_) | Register::TimerCount(_) => feature::TIMERS,
            _ => feature::SYNIC,
        }
    }

    /// The synthetic feature that writing `value` takes.
    pub fn feature_to_write(self, value: u64) -> u64 {
        match self {
            Register::TimerConfig(_) if value & config::DIRECT != 0 => feature::DIRECT_TIMERS,
            _ => self.feature(),
        }
    }
}

/// What a write asks for besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    None,
    /// The guest sees an empty page at this GPA from now on.
    Clear(u64),
    /// The timers are to be looked at again.
    Timers,
}

/// Where something for a source goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// GPA of the slot.
    pub slot: u64,
    /// The interrupt that tells of it.
    pub vector: Option<u8>,
}

/// How a timer tells that it expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// By a message for this source.
    Message(usize),
    /// By an interrupt with this vector.
    Interrupt(u8),
}

/// The controller of a VP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Synic {
    control: u64,
    flags: u64,
    messages: u64,
    sints: [u64; SINTS],
    timers: [Timer; TIMERS],
}

impl Default for Synic {
    fn default() -> Self {
        Synic {
            control: 0,
            flags: 0,
            messages: 0,
            sints: [sint::MASKED; SINTS],
            timers: [Timer::default(); TIMERS],
        }
    }
}

/// The GPA in SIEFP or SIMP, if it is in use.
fn page(value: u64) -> Option<u64> {
    (value & ENABLE != 0).then_some(value & !0xfff)
}

impl Synic {
    pub fn read(&self, register: Register) -> u64 {
        match register {
            Register::Control => self.control,
            Register::Version => VERSION,
            Register::Flags => self.flags,
            Register::Messages => self.messages,
            Register::EndOfMessage => 0,
            Register::Sint(n) => self.sints[n],
            Register::TimerConfig(n) => self.timers[n].config,
            Register::TimerCount(n) => self.timers[n].count,
        }
    }

    pub fn write(&mut self, register: Register, value: u64) -> Result<Effect, Gp> {
        match register {
            Register::Control => self.control = value,
            Register::Version => return Err(Gp),
            Register::Flags | Register::Messages => {
                let place = match register {
                    Register::Flags => &mut self.flags,
                    _ => &mut self.messages,
                };
                let before = core::mem::replace(place, value);
                return Ok(match page(value) {
                    Some(gpa) if page(before) != Some(gpa) => Effect::Clear(gpa),
                    _ => Effect::None,
                });
            }
            Register::EndOfMessage => return Ok(Effect::Timers),
            Register::Sint(n) => {
                let masked = value & sint::MASKED != 0;
                if value & sint::ABSENT != 0 || !masked && value & sint::VECTOR < 16 {
                    return Err(Gp);
                }
                self.sints[n] = value;
            }
            Register::TimerConfig(n) => {
                self.timers[n].set_config(value)?;
                return Ok(Effect::Timers);
            }
            Register::TimerCount(n) => {
                self.timers[n].set_count(value);
                return Ok(Effect::Timers);
            }
        }
        Ok(Effect::None)
    }

    fn target(&self, base: u64, n: usize) -> HvResult<Target> {
        let source = *self.sints.get(n).ok_or(HvStatus::INVALID_PARAMETER)?;
        let base = page(base).filter(|_| self.control & ENABLE != 0 && source & sint::MASKED == 0);
        Ok(Target {
            slot: base.ok_or(HvStatus::INVALID_SYNIC_STATE)? + n as u64 * SLOT,
            vector: (source & sint::POLLING == 0).then_some(source as u8),
        })
    }

    /// Where messages for a source go.
    pub fn message(&self, n: usize) -> HvResult<Target> {
        self.target(self.messages, n)
    }

    /// Where flags of a source are.
    pub fn event(&self, n: usize) -> HvResult<Target> {
        self.target(self.flags, n)
    }

    /// GPA of the page of messages, if it is in use.
    pub fn messages_page(&self) -> Option<u64> {
        page(self.messages)
    }

    /// GPA of the page of flags, if it is in use.
    pub fn flags_page(&self) -> Option<u64> {
        page(self.flags)
    }

    /// The timers.
    pub fn timers(&mut self) -> &mut [Timer; TIMERS] {
        &mut self.timers
    }

    /// The guest is of another time now, and what its timers waited for has no meaning there: they
    /// expire, and periods begin anew.
    pub fn move_time(&mut self) {
        for timer in &mut self.timers {
            timer.move_time();
        }
    }

    /// Whether a timer is to be looked at, now or later.
    pub fn counts(&self) -> bool {
        self.timers
            .iter()
            .any(|t| t.stale || t.due.is_some() || t.undelivered.is_some())
    }

    /// State of the timers, to be saved.
    pub fn timers_state(&self) -> TimersState {
        TimersState {
            timers: self.timers.map(|timer| timer.state()),
            reserved: [0; 5],
        }
    }

    /// Takes over state that was saved, in a partition with these features.
    pub fn set_timers_state(&mut self, features: u64, state: &TimersState) -> HvResult {
        let mut timers = [Timer::default(); TIMERS];
        for (timer, state) in timers.iter_mut().zip(&state.timers) {
            if state.config & config::DIRECT != 0
                && interface::offered(features) & feature::DIRECT_TIMERS == 0
            {
                return Err(HvStatus::INVALID_PARAMETER);
            }
            *timer = Timer::from_state(state).map_err(|Gp| HvStatus::INVALID_PARAMETER)?;
        }
        self.timers = timers;
        Ok(())
    }
}

/// A timer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timer {
    config: u64,
    /// When it expires, or its period, in reference time.
    count: u64,
    /// When it expires next, if that is known.
    due: Option<u64>,
    /// It was written to, so that `due` is not known.
    stale: bool,
    /// When it expired, while its message waits for room.
    undelivered: Option<u64>,
}

impl Timer {
    fn set_config(&mut self, value: u64) -> Result<(), Gp> {
        let vector = (value & config::VECTOR) >> config::VECTOR_SHIFT;
        if value & !config::VALID != 0 || value & config::DIRECT != 0 && vector < 16 {
            return Err(Gp);
        }
        self.config = value;
        if !self.is_heard() {
            self.config &= !config::ENABLE;
        }
        self.restart();
        Ok(())
    }

    /// Whether it tells anybody: source 0 is the hypervisor's own.
    fn is_heard(&self) -> bool {
        self.config & (config::DIRECT | config::SINT) != 0
    }

    fn set_count(&mut self, value: u64) {
        self.count = value;
        if value == 0 {
            self.config &= !config::ENABLE;
        } else if self.config & config::AUTO_ENABLE != 0 && self.is_heard() {
            self.config |= config::ENABLE;
        }
        self.restart();
    }

    fn restart(&mut self) {
        self.stale = true;
        self.due = None;
        self.undelivered = None;
    }

    fn move_time(&mut self) {
        let periodic = self.config & config::PERIODIC != 0;
        if self.config & config::ENABLE != 0 && self.count != 0 {
            self.stale = periodic;
            self.due = (!periodic).then_some(0);
        }
    }

    /// How it tells that it expired.
    pub fn notice(&self) -> Notice {
        if self.config & config::DIRECT != 0 {
            Notice::Interrupt(((self.config & config::VECTOR) >> config::VECTOR_SHIFT) as u8)
        } else {
            Notice::Message(((self.config & config::SINT) >> config::SINT_SHIFT) as usize)
        }
    }

    /// When it expires next, as far as [`expired`](Self::expired) knows.
    pub fn due(&self) -> Option<u64> {
        self.due
    }

    /// If it expired by `now`, and that was not told yet: when it did.
    pub fn expired(&mut self, now: u64) -> Option<u64> {
        let periodic = self.config & config::PERIODIC != 0;
        if core::mem::take(&mut self.stale) && self.config & config::ENABLE != 0 && self.count != 0
        {
            self.due = Some(if periodic {
                now.saturating_add(self.count)
            } else {
                self.count
            });
        }
        if let Some(due) = self.due.filter(|&due| due <= now) {
            // Of periods that passed meanwhile there is one message.
            self.undelivered = self.undelivered.or(Some(due));
            if periodic {
                let last = now - (now - due) % self.count;
                self.due = Some(last.saturating_add(self.count));
            } else {
                self.due = None;
                self.config &= !config::ENABLE;
            }
        }
        self.undelivered
    }

    /// That it expired was told, or can not be.
    pub fn settled(&mut self) {
        self.undelivered = None;
    }

    fn state(&self) -> TimerState {
        TimerState {
            flags: u32::from(self.undelivered.is_some()),
            reserved: 0,
            config: self.config,
            count: self.count,
            adjustment: self.due.unwrap_or(0),
            undelivered_exp_time: self.undelivered.unwrap_or(0),
        }
    }

    fn from_state(state: &TimerState) -> Result<Timer, Gp> {
        let mut timer = Timer {
            count: state.count,
            ..Timer::default()
        };
        timer.set_config(state.config)?;
        if state.adjustment != 0 && timer.config & config::ENABLE != 0 && timer.count != 0 {
            timer.due = Some(state.adjustment);
            timer.stale = false;
        }
        timer.undelivered = (state.flags & 1 != 0).then_some(state.undelivered_exp_time);
        Ok(timer)
    }
}

pod_struct! {
    /// `struct hv_stimer_state`.
    pub struct TimerState {
        /// Bit 0: a message waits.
        pub flags: u32,
        pub reserved: u32,
        pub config: u64,
        pub count: u64,
        /// When it expires next, 0 if it does not.
        pub adjustment: u64,
        pub undelivered_exp_time: u64,
    }
    /// `struct hv_synthetic_timers_state`.
    pub struct TimersState {
        pub timers: [TimerState; TIMERS],
        pub reserved: [u64; 5],
    }
    /// `struct hv_timer_message_payload`.
    pub struct TimerPayload {
        pub timer_index: u32,
        pub reserved: u32,
        pub expiration_time: u64,
        pub delivery_time: u64,
    }
}

/// What a timer that expired tells the guest.
pub fn timer_message(index: usize, expired: u64, now: u64) -> Message {
    let payload = TimerPayload {
        timer_index: index as u32,
        reserved: 0,
        expiration_time: expired,
        delivery_time: now,
    };
    let mut message = pod::zeroed::<Message>();
    message.message_type = message_type::TIMER_EXPIRED;
    message.payload_size = core::mem::size_of::<TimerPayload>() as u8;
    let bytes = pod::bytes_of(&payload);
    message.payload[..bytes.len()].copy_from_slice(bytes);
    message
}

/// The words of a slot that hold `message`, with no other one waiting.
pub fn slot_words(message: &Message) -> [u64; SLOT as usize / 8] {
    let mut words = [0; SLOT as usize / 8];
    for (at, word) in words.iter_mut().enumerate() {
        *word = pod::read_at(pod::bytes_of(message), 8 * at).unwrap_or(0);
    }
    words[0] &= !SLOT_PENDING;
    words
}

const _: () = assert!(core::mem::size_of::<Message>() == SLOT as usize);
const _: () = assert!(core::mem::size_of::<TimersState>() == 200);
const _: () = assert!(hvabi::PAGE_SIZE == SINTS * SLOT as usize);
