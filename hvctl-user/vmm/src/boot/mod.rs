// SPDX-License-Identifier: GPL-2.0
//! Getting a guest into memory and a processor to its first instruction.

pub mod acpi;
pub mod entry;
pub mod error;
pub mod firmware;
pub mod linux;
pub mod multiboot;

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

pub use error::Error;

use crate::hypervisor::CpuState;
use crate::memory::GuestMemory;

/// What to boot.
#[derive(Debug, Clone)]
pub struct Payload {
    pub kernel: PathBuf,
    pub initrd: Option<PathBuf>,
    /// `None`: what suits the kind of kernel.
    pub command_line: Option<String>,
}

impl Payload {
    /// The command line, of at most `limit` bytes; `usual` if nobody gave one.
    fn command_line<'a>(&'a self, usual: &'a str, limit: usize) -> Result<&'a str, Error> {
        let text = self.command_line.as_deref().unwrap_or(usual);
        let length = text.len();
        if length > limit {
            return Err(Error::CommandLineTooLong { length, limit });
        }
        if text.contains('\0') {
            return Err(Error::CommandLineNul);
        }
        Ok(text)
    }
}

/// The kinds of kernel that can be booted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    BzImage,
    Multiboot,
}

/// Linux's console, where nobody said otherwise.
pub const LINUX_COMMAND_LINE: &str = "console=ttyS0";

/// Opens a regular file; anything else would block, or never end.
fn open(path: &Path, what: &'static str) -> Result<File, Error> {
    let refused = |cause| Error::Open {
        what,
        path: path.to_owned(),
        cause,
    };
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .map_err(refused)?;
    let metadata = file.metadata().map_err(refused)?;
    if metadata.is_dir() {
        return Err(refused(ErrorKind::IsADirectory.into()));
    }
    if !metadata.is_file() {
        let cause = "it is not a regular file: give one";
        return Err(refused(std::io::Error::new(ErrorKind::InvalidInput, cause)));
    }
    Ok(file)
}

/// What a file holds, or only its size if that is more than `limit` bytes.
enum Content {
    Bytes(Vec<u8>),
    TooLarge(u64),
}

fn read_whole(path: &Path, what: &'static str, limit: u64) -> Result<Content, Error> {
    let refused = |cause| Error::Open {
        what,
        path: path.to_owned(),
        cause,
    };
    let file = open(path, what)?;
    let size = file.metadata().map_err(refused)?.len();
    if size > limit {
        return Ok(Content::TooLarge(size));
    }
    let mut bytes = Vec::new();
    // It may grow meanwhile.
    file.take(limit).read_to_end(&mut bytes).map_err(refused)?;
    Ok(Content::Bytes(bytes))
}

/// Reads the initrd, for which there are `room` bytes.
fn read_initrd(path: &Path, room: u64) -> Result<Vec<u8>, Error> {
    match read_whole(path, "initrd", room)? {
        Content::Bytes(bytes) => Ok(bytes),
        Content::TooLarge(size) => Err(Error::InitrdDoesNotFit {
            path: path.to_owned(),
            size,
            room,
        }),
    }
}

/// What kind of kernel the file begins like.
pub fn kind(path: &Path) -> Result<Kind, Error> {
    let file = open(path, "kernel")?;
    let mut start = [0; multiboot::SEARCH];
    let have = read_start(&file, &mut start).map_err(|cause| Error::Open {
        what: "kernel",
        path: path.to_owned(),
        cause,
    })?;
    let start = &start[..have];
    if is_elf(start) {
        Ok(Kind::Multiboot)
    } else if start.get(0x202..0x206) == Some(b"HdrS") {
        Ok(Kind::BzImage)
    } else if multiboot::is_flat(start) {
        Ok(Kind::Multiboot)
    } else {
        Err(Error::NotAKernel {
            path: path.to_owned(),
        })
    }
}

fn is_elf(start: &[u8]) -> bool {
    start.starts_with(b"\x7fELF")
}

fn read_start(file: &File, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], done as u64)? {
            0 => break,
            count => done += count,
        }
    }
    Ok(done)
}

/// Loads the payload into `size` bytes of RAM and says where its processor starts.
pub fn load(
    memory: &GuestMemory,
    size: u64,
    processors: u8,
    payload: &Payload,
) -> Result<CpuState, Error> {
    let kind = kind(&payload.kernel)?;
    let rsdp = acpi::install(memory, processors)?;
    firmware::install(memory)?;
    match kind {
        Kind::BzImage => linux::load(memory, size, rsdp, payload),
        Kind::Multiboot => multiboot::load(memory, size, payload),
    }
}
