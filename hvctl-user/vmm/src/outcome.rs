// SPDX-License-Identifier: GPL-2.0
//! How a run ends.

use std::sync::OnceLock;

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// Why the guest no longer runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The guest turned itself off.
    PowerOff,
    /// The guest asked for a reset.
    Reset,
    /// The guest wrote this to the exit port.
    ExitPort(u32),
    /// The guest is beyond help (a triple fault), or its registers are.
    Crash(String),
    /// The guest did something that cannot be emulated.
    Unsupported(String),
    /// The hypervisor failed us.
    Hypervisor(String),
    /// Somebody outside the guest ended the run.
    Stopped(Stopper),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopper {
    EscapeKey,
    Timeout,
    /// Another process that may, such as `hvctl stop`.
    Command,
    /// A signal, by its number.
    Signal(i32),
}

/// The place where the first reason to end is kept; later ones do not matter.
#[derive(Debug)]
pub struct Ending {
    outcome: OnceLock<Outcome>,
    event: EventFd,
}

impl Ending {
    pub fn new() -> std::io::Result<Self> {
        let event = EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)?;
        Ok(Self {
            outcome: OnceLock::new(),
            event,
        })
    }

    /// Ends the run, if it has not ended.
    pub fn end(&self, outcome: Outcome) {
        if self.outcome.set(outcome).is_ok() {
            if let Err(cause) = self.event.write(1) {
                tracing::error!("the end of the run could not be announced: {cause}");
            }
        }
    }

    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcome.get()
    }

    /// Becomes readable when the run ends.
    pub fn event(&self) -> &EventFd {
        &self.event
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_stays() {
        let ending = Ending::new().unwrap();
        assert_eq!(ending.outcome(), None);
        ending.end(Outcome::Reset);
        ending.end(Outcome::PowerOff);
        assert_eq!(ending.outcome(), Some(&Outcome::Reset));
        assert_eq!(ending.event().read().unwrap(), 1);
    }
}
