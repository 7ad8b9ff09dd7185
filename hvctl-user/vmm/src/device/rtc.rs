// SPDX-License-Identifier: GPL-2.0
//! The clock and the memory of an MC146818: time of day in UTC, no interrupts.

use std::sync::{Mutex, PoisonError};

use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, Time};

use super::Device;

const SECONDS: usize = 0x00;
const MINUTES: usize = 0x02;
const HOURS: usize = 0x04;
const WEEKDAY: usize = 0x06;
const DAY: usize = 0x07;
const MONTH: usize = 0x08;
const YEAR: usize = 0x09;
const STATUS_A: usize = 0x0a;
const STATUS_B: usize = 0x0b;
const STATUS_C: usize = 0x0c;
const STATUS_D: usize = 0x0d;
/// Where the FADT says that the century is.
pub const CENTURY: usize = 0x32;

/// 32.768 kHz time base, 1024 Hz rate.
const A_DEFAULT: u8 = 0x26;
const A_UPDATING: u8 = 0x80;
const B_HOURS_24: u8 = 0x02;
const B_BINARY: u8 = 0x04;
const B_SET: u8 = 0x80;
const D_VALID: u8 = 0x80;
const PM: u8 = 0x80;

type Now = Box<dyn Fn() -> OffsetDateTime + Send>;

struct State {
    index: usize,
    memory: [u8; 128],
    /// Seconds by which the guest has set the clock off ours.
    offset: i64,
    now: Now,
}

pub struct Rtc {
    state: Mutex<State>,
}

impl Rtc {
    pub fn new() -> Self {
        Self::with_clock(Box::new(OffsetDateTime::now_utc))
    }

    fn with_clock(now: Now) -> Self {
        let mut memory = [0; 128];
        memory[STATUS_A] = A_DEFAULT;
        memory[STATUS_B] = B_HOURS_24;
        memory[STATUS_D] = D_VALID;
        Self {
            state: Mutex::new(State {
                index: 0,
                memory,
                offset: 0,
                now,
            }),
        }
    }
}

impl Default for Rtc {
    fn default() -> Self {
        Self::new()
    }
}

fn is_time(index: usize) -> bool {
    matches!(
        index,
        SECONDS | MINUTES | HOURS | WEEKDAY | DAY | MONTH | YEAR | CENTURY
    )
}

impl State {
    fn guest_now(&self) -> OffsetDateTime {
        let now = (self.now)();
        now.checked_add(time::Duration::seconds(self.offset))
            .unwrap_or(now)
    }

    fn encode(&self, value: u8) -> u8 {
        if self.memory[STATUS_B] & B_BINARY != 0 {
            value
        } else {
            ((value / 10) << 4) | (value % 10)
        }
    }

    fn decode(&self, value: u8) -> u8 {
        if self.memory[STATUS_B] & B_BINARY != 0 {
            value
        } else {
            (value >> 4).wrapping_mul(10).wrapping_add(value & 0xf)
        }
    }

    /// Copies the clock into the time registers, as the chip does each second.
    fn update(&mut self) {
        if self.memory[STATUS_B] & B_SET != 0 {
            return;
        }
        let now = self.guest_now();
        let hour = now.hour();
        let hours = if self.memory[STATUS_B] & B_HOURS_24 != 0 {
            self.encode(hour)
        } else {
            self.encode((hour + 11) % 12 + 1) | if hour >= 12 { PM } else { 0 }
        };
        for (index, value) in [
            (SECONDS, self.encode(now.second())),
            (MINUTES, self.encode(now.minute())),
            (HOURS, hours),
            (WEEKDAY, self.encode(now.weekday().number_from_sunday())),
            (DAY, self.encode(now.day())),
            (MONTH, self.encode(now.month().into())),
            (YEAR, self.encode((now.year().rem_euclid(100)) as u8)),
            (CENTURY, self.encode((now.year() / 100) as u8)),
        ] {
            self.memory[index] = value;
        }
    }

    /// Sets the clock by the time registers, if they hold a time.
    fn set_clock(&mut self) {
        let field = |index: usize| self.decode(self.memory[index]);
        let hours = self.memory[HOURS];
        let hour = if self.memory[STATUS_B] & B_HOURS_24 != 0 {
            self.decode(hours)
        } else {
            self.decode(hours & !PM) % 12 + if hours & PM != 0 { 12 } else { 0 }
        };
        let year = i32::from(field(CENTURY)) * 100 + i32::from(field(YEAR));
        let set = || {
            let month = Month::try_from(field(MONTH)).ok()?;
            let date = Date::from_calendar_date(year, month, field(DAY)).ok()?;
            let time = Time::from_hms(hour, field(MINUTES), field(SECONDS)).ok()?;
            Some(PrimitiveDateTime::new(date, time).assume_utc())
        };
        if let Some(wanted) = set() {
            self.offset = (wanted - (self.now)()).whole_seconds();
        }
    }

    fn read(&mut self) -> u8 {
        let index = self.index;
        if is_time(index) {
            self.update();
        }
        self.memory[index]
    }

    fn write(&mut self, value: u8) {
        let index = self.index;
        match index {
            STATUS_A => self.memory[index] = value & !A_UPDATING,
            STATUS_B => {
                self.update();
                let ends = self.memory[index] & B_SET != 0 && value & B_SET == 0;
                self.memory[index] = value;
                if ends {
                    self.set_clock();
                }
            }
            STATUS_C | STATUS_D => {}
            index if is_time(index) => {
                self.update();
                self.memory[index] = value;
                if self.memory[STATUS_B] & B_SET == 0 {
                    self.set_clock();
                }
            }
            index => self.memory[index] = value,
        }
    }
}

impl Device for Rtc {
    fn read(&self, offset: u64, data: &mut [u8]) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        data.fill(0xff);
        data[0] = if offset == 0 {
            state.index as u8
        } else {
            state.read()
        };
    }

    fn write(&self, offset: u64, data: &[u8]) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if offset == 0 {
            // Bit 7 is the NMI mask of old.
            state.index = usize::from(data[0] & 0x7f);
        } else {
            state.write(data[0]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(year: i32, month: Month, day: u8, hour: u8, minute: u8, second: u8) -> OffsetDateTime {
        let date = Date::from_calendar_date(year, month, day).unwrap();
        PrimitiveDateTime::new(date, Time::from_hms(hour, minute, second).unwrap()).assume_utc()
    }

    fn get(rtc: &Rtc, index: usize) -> u8 {
        rtc.write(0, &[index as u8 | 0x80]);
        let mut data = [0];
        rtc.read(1, &mut data);
        data[0]
    }

    fn put(rtc: &Rtc, index: usize, value: u8) {
        rtc.write(0, &[index as u8]);
        rtc.write(1, &[value]);
    }

    fn clock(rtc: &Rtc) -> [u8; 7] {
        [CENTURY, YEAR, MONTH, DAY, HOURS, MINUTES, SECONDS].map(|index| get(rtc, index))
    }

    #[test]
    fn it_tells_the_time_in_bcd() {
        let rtc = Rtc::with_clock(Box::new(|| at(2026, Month::November, 22, 13, 59, 7)));
        assert_eq!(clock(&rtc), [0x20, 0x26, 0x11, 0x22, 0x13, 0x59, 0x07]);
        assert_eq!(get(&rtc, WEEKDAY), 1, "a Sunday");
        assert_eq!(get(&rtc, STATUS_D), D_VALID);
        assert_eq!(get(&rtc, STATUS_A) & A_UPDATING, 0);
        assert_eq!(get(&rtc, STATUS_B), B_HOURS_24);
    }

    #[test]
    fn hours_of_both_kinds() {
        for (hour, twelve) in [(0, 0x12), (1, 0x01), (12, 0x92), (13, 0x81), (23, 0x91)] {
            let rtc = Rtc::with_clock(Box::new(move || at(2026, Month::May, 1, hour, 0, 0)));
            put(&rtc, STATUS_B, 0);
            assert_eq!(get(&rtc, HOURS), twelve, "{hour}");
        }
    }

    #[test]
    fn the_guest_can_set_it() {
        let rtc = Rtc::with_clock(Box::new(|| at(2026, Month::May, 1, 0, 0, 0)));
        put(&rtc, STATUS_B, B_HOURS_24 | B_SET);
        for (index, value) in [
            (CENTURY, 0x19),
            (YEAR, 0x99),
            (MONTH, 0x12),
            (DAY, 0x31),
            (HOURS, 0x23),
            (MINUTES, 0x59),
            (SECONDS, 0x58),
        ] {
            put(&rtc, index, value);
        }
        put(&rtc, STATUS_B, B_HOURS_24);
        assert_eq!(clock(&rtc), [0x19, 0x99, 0x12, 0x31, 0x23, 0x59, 0x58]);
    }

    #[test]
    fn memory_keeps_what_is_written() {
        let rtc = Rtc::new();
        put(&rtc, 0x40, 0xa5);
        assert_eq!(get(&rtc, 0x40), 0xa5);
    }

    proptest! {
        #[test]
        fn any_writes_leave_a_clock(writes in prop::collection::vec((0usize..128, any::<u8>()), 0..200)) {
            let rtc = Rtc::new();
            for (index, value) in writes {
                put(&rtc, index, value);
            }
            put(&rtc, STATUS_B, B_HOURS_24);
            prop_assert!(get(&rtc, SECONDS) <= 0x59);
        }
    }
}
