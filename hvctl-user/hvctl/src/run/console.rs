// SPDX-License-Identifier: GPL-2.0
//! The near end of the guest's serial line.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result};
use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};

use crate::args;

/// Where input comes from.
pub struct Input {
    file: File,
}

impl Input {
    pub fn as_fd_owner(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    pub fn into_file(self) -> File {
        self.file
    }
}

pub struct Console {
    pub out: Box<dyn Write + Send>,
    pub input: Option<Input>,
    /// The input is a terminal of the user's.
    pub is_terminal: bool,
}

/// A descriptor of our own for the same file.
fn duplicate(file: &impl AsFd) -> io::Result<File> {
    file.as_fd().try_clone_to_owned().map(File::from)
}

pub fn open(wanted: &args::Console) -> Result<Console> {
    match wanted {
        args::Console::Stdio => {
            let input = duplicate(&io::stdin()).context("standard input")?;
            let out = duplicate(&io::stdout()).context("standard output")?;
            let is_terminal = input.is_terminal();
            let input = Some(Input { file: input });
            Ok(Console {
                out: Box::new(out),
                input,
                is_terminal,
            })
        }
        args::Console::Pty => pty(),
        args::Console::File(path) => {
            let file = OpenOptions::new()
                .create(true)
                .truncate(true)
                .write(true)
                .open(path)
                .with_context(|| format!("cannot write the console to {}", path.display()))?;
            Ok(Console {
                out: Box::new(file),
                input: None,
                is_terminal: false,
            })
        }
        args::Console::Null => Ok(Console {
            out: Box::new(io::sink()),
            input: None,
            is_terminal: false,
        }),
    }
}

/// Output to a terminal that perhaps nobody reads: what does not fit is lost, as on a
/// line with nothing at its end.
struct Lossy {
    master: File,
    /// Kept open so that the master works before and after its users.
    _slave: OwnedFd,
}

impl Write for Lossy {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        match self.master.write(data) {
            Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => Ok(data.len()),
            result => result,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn pty() -> Result<Console> {
    const WHAT: &str = "cannot make a pseudo-terminal";
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let master = posix_openpt(flags).context(WHAT)?;
    grantpt(&master).context(WHAT)?;
    unlockpt(&master).context(WHAT)?;
    let name = ptsname_r(&master).context(WHAT)?;
    let slave = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&name)
        .context(WHAT)?;
    let mut modes = tcgetattr(&slave).context(WHAT)?;
    cfmakeraw(&mut modes);
    tcsetattr(&slave, SetArg::TCSANOW, &modes).context(WHAT)?;
    eprintln!("hvctl: the console is {name}");
    let input = duplicate(&master).context(WHAT)?;
    let master = duplicate(&master).context(WHAT)?;
    Ok(Console {
        out: Box::new(Lossy {
            master,
            _slave: slave.into(),
        }),
        input: Some(Input { file: input }),
        is_terminal: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_gets_the_output() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("console");
        let mut console = open(&args::Console::File(path.clone())).unwrap();
        console.out.write_all(b"hello").unwrap();
        assert_eq!(std::fs::read(path).unwrap(), b"hello");
        let error = open(&args::Console::File("/nonexistent/x".into()))
            .err()
            .unwrap();
        assert!(error.to_string().contains("/nonexistent/x"));
    }

    #[test]
    fn an_unread_terminal_does_not_block() {
        let mut console = open(&args::Console::Pty).unwrap();
        for _ in 0..1000 {
            console.out.write_all(&[b'x'; 1000]).unwrap();
        }
    }
}
