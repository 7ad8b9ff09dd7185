// SPDX-License-Identifier: GPL-2.0
//! The user's terminal in raw mode, and back.

use std::os::fd::{BorrowedFd, OwnedFd};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::termios::{OutputFlags, SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::{getpgrp, tcgetpgrp};

/// A terminal that passes every key. Dropped, it is as it was.
pub struct Raw {
    terminal: OwnedFd,
    before: Termios,
}

impl Raw {
    /// `None` where the terminal is another job's: we are in the background.
    pub fn enter(terminal: BorrowedFd<'_>) -> Result<Option<Self>> {
        match tcgetpgrp(terminal) {
            Ok(foreground) if foreground != getpgrp() => return Ok(None),
            // No controlling terminal (as under a plain init): then there are no jobs.
            Ok(_) | Err(Errno::ENOTTY) => {}
            Err(cause) => return Err(cause).context("the terminal's foreground job"),
        }
        let before = tcgetattr(terminal).context("the terminal's modes")?;
        let mut raw = before.clone();
        let output = raw.output_flags;
        cfmakeraw(&mut raw);
        // Our own messages have line ends of one character.
        raw.output_flags = output | OutputFlags::OPOST;
        tcsetattr(terminal, SetArg::TCSANOW, &raw).context("the terminal's modes")?;
        let terminal = terminal.try_clone_to_owned().context("the terminal")?;
        Ok(Some(Self { terminal, before }))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // Nothing can be done where this fails; the terminal may be gone.
        let _ = tcsetattr(&self.terminal, SetArg::TCSADRAIN, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::pty::openpty;
    use nix::sys::termios::LocalFlags;
    use std::os::fd::AsFd;

    #[test]
    fn raw_and_back() {
        let pair = openpty(None, None).unwrap();
        let cooked = || {
            tcgetattr(&pair.slave)
                .unwrap()
                .local_flags
                .contains(LocalFlags::ICANON)
        };
        assert!(cooked());
        let raw = Raw::enter(pair.slave.as_fd()).unwrap().unwrap();
        assert!(!cooked());
        drop(raw);
        assert!(cooked());
    }
}
