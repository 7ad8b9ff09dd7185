// SPDX-License-Identifier: GPL-2.0

//! The timer of a local APIC (SDM vol. 3, 12.5.4).

use crate::policy::cpuid::Clock;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    OneShot,
    Periodic,
    Deadline,
}

#[derive(Debug)]
pub struct Timer {
    /// The LVT register.
    lvt: u32,
    /// TSC ticks of the machine for each tick of the crystal. Not 0.
    ratio: u64,
    /// Crystal ticks for each count.
    divide: u64,
    /// TSC of the machine at which the count reaches 0, or the deadline comes.
    expiry: Option<u64>,
    /// IA32_TSC_DEADLINE.
    deadline: u64,
}

impl Timer {
    pub fn new(clock: Clock) -> Timer {
        let ratio = clock.ratio().into();
        Timer { lvt: 1 << 16, ratio, divide: 2, expiry: None, deadline: 0 }
    }

    pub fn reset(&mut self) {
        *self = Timer { ratio: self.ratio, ..Timer::new(Clock::new(0)) };
    }

    /// TSC ticks for each count.
    fn unit(&self) -> u64 {
        self.ratio * self.divide
    }

    pub fn expiry(&self) -> Option<u64> {
        self.expiry
    }

    pub fn deadline(&self) -> u64 {
        self.deadline
    }

    /// Whether it counts down (and has an initial count), and does not wait for a deadline.
    pub fn counts(&self) -> bool {
        self.mode() != Mode::Deadline
    }

    pub fn lvt(&self) -> u32 {
        self.lvt
    }

    fn mode(&self) -> Mode {
        match self.lvt >> 17 & 3 {
            0 => Mode::OneShot,
            1 => Mode::Periodic,
            // 3 is reserved.
            _ => Mode::Deadline,
        }
    }

    /// The LVT register was written. Between counting and deadlines the timer is disarmed.
    pub fn set_lvt(&mut self, lvt: u32) {
        let counted = self.counts();
        self.lvt = lvt;
        if self.counts() != counted {
            self.expiry = None;
            self.deadline = 0;
        }
    }

    /// Starts to count down from `count`; 0 stops.
    pub fn start(&mut self, count: u32, now: u64) {
        if self.counts() {
            let ticks = self.unit() * u64::from(count);
            self.expiry = (count != 0).then(|| now.saturating_add(ticks));
        }
    }

    /// The divide register was written: what remains is counted at the new pace.
    pub fn set_divide(&mut self, value: u32, initial: u32, now: u64) {
        let left = self.current(initial, now);
        // Bits 0, 1, 3 are a number: 0 is 2, 1 is 4, ... 6 is 128, and 7 is 1.
        let code = value & 3 | (value & 8) >> 1;
        self.divide = 1 << ((code + 1) & 7);
        if self.expiry.is_some() {
            self.start(left, now);
        }
    }

    /// The current count, of `initial`.
    pub fn current(&self, initial: u32, now: u64) -> u32 {
        let Some(expiry) = self.expiry.filter(|_| self.counts()) else {
            return 0;
        };
        let left = match expiry.checked_sub(now) {
            Some(left) => left,
            // It expired and nobody came to see.
            None if self.mode() == Mode::Periodic => {
                let period = (self.unit() * u64::from(initial)).max(1);
                period - (now - expiry) % period
            }
            None => 0,
        };
        u32::try_from(left.div_ceil(self.unit())).unwrap_or(u32::MAX).min(initial)
    }

    /// Whether it is due; then it is armed for the next time, if there is one. Periods that were
    /// missed are one interrupt.
    pub fn expire(&mut self, initial: u32, now: u64) -> bool {
        let Some(expiry) = self.expiry.filter(|expiry| *expiry <= now) else {
            return false;
        };
        let period = self.unit() * u64::from(initial);
        self.expiry = (self.mode() == Mode::Periodic && period > 0)
            .then(|| now.saturating_add(period - (now - expiry) % period));
        self.deadline = 0;
        true
    }

    /// Arms a deadline in the VP's time, which is the machine's plus `offset`. 0 disarms; in the
    /// other modes nothing happens.
    pub fn set_deadline(&mut self, value: u64, offset: u64, now: u64) {
        if self.mode() != Mode::Deadline {
            return;
        }
        self.deadline = value;
        // In the past: now.
        let left = value.saturating_sub(now.wrapping_add(offset));
        self.expiry = (value != 0).then(|| now.saturating_add(left));
    }
}
