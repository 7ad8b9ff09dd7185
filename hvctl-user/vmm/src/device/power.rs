// SPDX-License-Identifier: GPL-2.0
//! The ways to turn a machine off or to reset it.

use std::sync::Arc;

use super::Device;
use crate::outcome::{Ending, Outcome};

/// SLP_TYP of the state S5, as the DSDT's `_S5` says.
pub const S5: u8 = 5;
/// What the FADT tells the guest to write to the reset register.
pub const RESET_VALUE: u8 = 1;

/// ACPI's sleep control and status registers, then the reset register.
pub struct AcpiPower {
    ending: Arc<Ending>,
}

impl AcpiPower {
    const SLEEP_ENABLE: u8 = 1 << 5;

    pub fn new(ending: Arc<Ending>) -> Self {
        Self { ending }
    }
}

impl Device for AcpiPower {
    fn read(&self, _: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn write(&self, offset: u64, data: &[u8]) {
        match (offset, data[0]) {
            (0, value) if value & Self::SLEEP_ENABLE != 0 && (value >> 2) & 7 == S5 => {
                self.ending.end(Outcome::PowerOff);
            }
            (2, RESET_VALUE) => self.ending.end(Outcome::Reset),
            _ => {}
        }
    }
}

/// The keyboard controller, as far as it resets the machine. It reads as idle.
pub struct KeyboardReset {
    ending: Arc<Ending>,
}

impl KeyboardReset {
    pub const PULSE_RESET: u8 = 0xfe;

    pub fn new(ending: Arc<Ending>) -> Self {
        Self { ending }
    }
}

impl Device for KeyboardReset {
    fn read(&self, _: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn write(&self, _: u64, data: &[u8]) {
        if data[0] == Self::PULSE_RESET {
            self.ending.end(Outcome::Reset);
        }
    }
}

/// The chipset's reset control register at 0xcf9.
pub struct ResetControl {
    ending: Arc<Ending>,
}

impl ResetControl {
    const RESET_CPU: u8 = 1 << 2;

    pub fn new(ending: Arc<Ending>) -> Self {
        Self { ending }
    }
}

impl Device for ResetControl {
    fn read(&self, _: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn write(&self, _: u64, data: &[u8]) {
        if data[0] & Self::RESET_CPU != 0 {
            self.ending.end(Outcome::Reset);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(write: impl FnOnce(Arc<Ending>)) -> Option<Outcome> {
        let ending = Arc::new(Ending::new().unwrap());
        write(ending.clone());
        ending.outcome().cloned()
    }

    #[test]
    fn only_s5_with_the_enable_bit_turns_off() {
        let write = |value: u8| after(|ending| AcpiPower::new(ending).write(0, &[value]));
        assert_eq!(write(S5 << 2 | 1 << 5), Some(Outcome::PowerOff));
        assert_eq!(write(S5 << 2), None);
        assert_eq!(write(1 << 5), None);
    }

    #[test]
    fn each_reset_resets() {
        let reset = Some(Outcome::Reset);
        assert_eq!(
            after(|ending| AcpiPower::new(ending).write(2, &[RESET_VALUE])),
            reset
        );
        assert_eq!(
            after(|ending| KeyboardReset::new(ending).write(0, &[0xfe])),
            reset
        );
        assert_eq!(
            after(|ending| ResetControl::new(ending).write(0, &[6])),
            reset
        );
        // Linux first announces a full reset, then does it.
        assert_eq!(
            after(|ending| ResetControl::new(ending).write(0, &[2])),
            None
        );
        assert_eq!(
            after(|ending| KeyboardReset::new(ending).write(0, &[0xd1])),
            None
        );
    }
}
