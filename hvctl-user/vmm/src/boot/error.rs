// SPDX-License-Identifier: GPL-2.0
//! Why something cannot be booted: what, where, and what to do about it.

use std::io;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read the {what} {}: {cause}", path.display())]
    Open {
        what: &'static str,
        path: PathBuf,
        cause: io::Error,
    },
    #[error(
        "{} is not a kernel: neither a Linux bzImage nor a 32-bit ELF with a Multiboot 1 header",
        path.display()
    )]
    NotAKernel { path: PathBuf },
    #[error("the kernel {} is damaged, or of a kind not supported: {cause}", path.display())]
    BadKernel { path: PathBuf, cause: String },
    #[error(
        "the kernel {} needs {need} MiB of memory and the guest has {have} MiB: give it more \
         with --memory",
        path.display()
    )]
    KernelDoesNotFit { path: PathBuf, need: u64, have: u64 },
    #[error(
        "the initrd {} ({size} bytes) does not fit: {room} bytes of memory are free for it \
         beside the kernel. Give the guest more with --memory, or make it smaller",
        path.display()
    )]
    InitrdDoesNotFit { path: PathBuf, size: u64, room: u64 },
    #[error("the command line has {length} bytes and this kernel takes {limit}: shorten --cmdline")]
    CommandLineTooLong { length: usize, limit: usize },
    #[error("the command line holds a NUL byte")]
    CommandLineNul,
    #[error("boot data does not fit into guest memory at {address:#x}: {cause}")]
    Place { address: u64, cause: String },
}

/// Rounds up to whole MiB, for people.
pub fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}
