// SPDX-License-Identifier: GPL-2.0
//! Exit statuses. Those of `hvctl run` are even, but for signals', so that they are
//! never mistaken for an exit port's, which are odd.

use vmm::outcome::{Outcome, Stopper};

/// `check` found something missing, or `info` or `log` could not be had.
pub const FAILED: u8 = 1;

pub const POWER_OFF: u8 = 0;
pub const CONFIGURATION: u8 = 2;
pub const RESET: u8 = 4;
pub const CRASH: u8 = 6;
pub const UNSUPPORTED: u8 = 8;
pub const HYPERVISOR: u8 = 10;
pub const ESCAPE: u8 = 12;
pub const COMMAND: u8 = 14;
pub const TIMEOUT: u8 = 124;
const SIGNAL_BASE: u8 = 128;

/// The exit status that stands for an outcome.
pub fn of(outcome: &Outcome) -> u8 {
    match outcome {
        Outcome::PowerOff => POWER_OFF,
        Outcome::Reset => RESET,
        // As QEMU's isa-debug-exit has it: the system keeps the low 8 bits.
        Outcome::ExitPort(value) => (value << 1 | 1) as u8,
        Outcome::Crash(_) => CRASH,
        Outcome::Unsupported(_) => UNSUPPORTED,
        Outcome::Hypervisor(_) => HYPERVISOR,
        Outcome::Stopped(Stopper::EscapeKey) => ESCAPE,
        Outcome::Stopped(Stopper::Command) => COMMAND,
        Outcome::Stopped(Stopper::Timeout) => TIMEOUT,
        Outcome::Stopped(Stopper::Signal(number)) => SIGNAL_BASE.wrapping_add(*number as u8),
    }
}

/// What to tell the user, where the status alone would be too little.
pub fn explain(outcome: &Outcome) -> Option<String> {
    match outcome {
        Outcome::PowerOff | Outcome::ExitPort(_) => None,
        Outcome::Reset => Some("the guest asked for a reset; the run ends here".into()),
        Outcome::Crash(cause) | Outcome::Unsupported(cause) => Some(cause.clone()),
        Outcome::Hypervisor(cause) => Some(format!("the hypervisor failed: {cause}")),
        Outcome::Stopped(Stopper::EscapeKey) => Some("ended by the escape key".into()),
        Outcome::Stopped(Stopper::Command) => Some("ended by hvctl stop".into()),
        Outcome::Stopped(Stopper::Timeout) => Some("ended by the time limit".into()),
        Outcome::Stopped(Stopper::Signal(number)) => Some(format!("ended by signal {number}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_outcome_has_its_own_status() {
        let text = String::new;
        for (outcome, status) in [
            (Outcome::PowerOff, 0),
            (Outcome::Reset, 4),
            (Outcome::Crash(text()), 6),
            (Outcome::Unsupported(text()), 8),
            (Outcome::Hypervisor(text()), 10),
            (Outcome::Stopped(Stopper::EscapeKey), 12),
            (Outcome::Stopped(Stopper::Command), 14),
            (Outcome::Stopped(Stopper::Timeout), 124),
            (Outcome::Stopped(Stopper::Signal(2)), 130),
            (Outcome::Stopped(Stopper::Signal(15)), 143),
        ] {
            assert_eq!(of(&outcome), status, "{outcome:?}");
        }
    }

    #[test]
    fn the_exit_port_is_twice_the_value_and_one() {
        for (value, status) in [
            (0, 1),
            (1, 3),
            (0x10, 33),
            (0x7f, 255),
            (0x80, 1),
            (u32::MAX, 255),
        ] {
            assert_eq!(of(&Outcome::ExitPort(value)), status, "{value:#x}");
        }
    }
}
