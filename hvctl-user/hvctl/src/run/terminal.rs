// SPDX-License-Identifier: GPL-2.0
//! The user's terminal in raw mode, and back.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::sys::prctl::set_name;
use nix::sys::termios::{OutputFlags, SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::{ForkResult, Pid, fork, getpgrp, pipe2, read, setsid, tcgetpgrp};

/// A terminal that passes every key. Dropped, it is as it was.
pub struct Raw {
    terminal: OwnedFd,
    before: Termios,
    /// Closed when this process ends, however it does: see [`keep`].
    _alive: Option<OwnedFd>,
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
        // As the terminal has taken it.
        let raw = tcgetattr(terminal).context("the terminal's modes")?;
        let terminal = terminal.try_clone_to_owned().context("the terminal")?;
        // Without it only a SIGKILL is worse.
        let alive = keep(&terminal, &before, &raw)
            .inspect_err(|cause| tracing::warn!("after a SIGKILL the terminal stays raw: {cause}"))
            .ok();
        Ok(Some(Self {
            terminal,
            before,
            _alive: alive.map(|(alive, _)| alive),
        }))
    }
}

/// Starts a process that outlives this one, only to put the terminal back if that is still raw
/// then: after a SIGKILL. The descriptor that is returned keeps it waiting.
fn keep(terminal: &OwnedFd, before: &Termios, raw: &Termios) -> Result<(OwnedFd, Pid), Errno> {
    let (waits, alive) = pipe2(OFlag::O_CLOEXEC)?;
    // SAFETY: the child makes system calls only, and never returns from here.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok((alive, child)),
        ForkResult::Child => {
            restore_at_end(terminal, &waits, before, raw);
            // SAFETY: ends this process, as it is.
            unsafe { libc::_exit(0) }
        }
    }
}

/// In the process that [`keep`] starts. Whatever fails, there is nobody to tell.
fn restore_at_end(terminal: &OwnedFd, waits: &OwnedFd, before: &Termios, raw: &Termios) {
    const TERMINAL: i32 = 0;
    const WAITS: i32 = 1;
    // What ends the job of this terminal does not end this, nor does a `killall hvctl`.
    let _ = setsid();
    let _ = set_name(c"terminal");
    // SAFETY: this process has no other use for its descriptors than these two, and a pipe or an
    // eventfd that it kept open would keep others waiting.
    unsafe {
        libc::dup2(terminal.as_raw_fd(), TERMINAL);
        libc::dup2(waits.as_raw_fd(), WAITS);
        libc::close_range(WAITS as u32 + 1, u32::MAX, 0);
    }
    // SAFETY: they are open for as long as this process lives.
    let (terminal, waits) = unsafe {
        (
            BorrowedFd::borrow_raw(TERMINAL),
            BorrowedFd::borrow_raw(WAITS),
        )
    };
    while read(waits, &mut [0]) == Err(Errno::EINTR) {}
    // A shell may have been quicker.
    if tcgetattr(terminal).is_ok_and(|now| now == *raw) {
        let _ = tcsetattr(terminal, SetArg::TCSANOW, before);
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

    #[test]
    fn the_end_of_the_process_puts_it_back() {
        let pair = openpty(None, None).unwrap();
        let before = tcgetattr(&pair.slave).unwrap();
        let mut modes = before.clone();
        cfmakeraw(&mut modes);
        let is = |modes: &Termios| tcgetattr(&pair.slave).unwrap() == *modes;
        for is_raw in [true, false] {
            tcsetattr(&pair.slave, SetArg::TCSANOW, &modes).unwrap();
            let raw = tcgetattr(&pair.slave).unwrap();
            let (alive, child) = keep(&pair.slave, &before, &raw).unwrap();
            // Somebody else's modes stay.
            let mut others = raw.clone();
            others.local_flags.insert(LocalFlags::ECHO);
            if !is_raw {
                tcsetattr(&pair.slave, SetArg::TCSANOW, &others).unwrap();
            }
            drop(alive);
            nix::sys::wait::waitpid(child, None).unwrap();
            assert!(is(if is_raw { &before } else { &others }));
        }
    }
}
