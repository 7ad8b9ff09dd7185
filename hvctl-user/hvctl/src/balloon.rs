// SPDX-License-Identifier: GPL-2.0
//! `hvctl balloon`.

use anyhow::{Result, anyhow};
use vmm::device::virtio::balloon::PAGE;

use crate::args;
use crate::control::{self, Request};

/// Asks, or says what the guest gives; returns the exit status.
pub fn main(args: &args::Balloon) -> Result<u8> {
    let pages = match args.size {
        None => None,
        Some(size) => Some(
            u32::try_from(size / PAGE)
                .map_err(|_| anyhow!("{} MiB are more than any guest has", size >> 20))?,
        ),
    };
    let answer = control::ask(&args.name, Request::Balloon(pages))?;
    let kib = |pages: u32| u64::from(pages) * PAGE / 1024;
    println!(
        "{} KiB, of which the root has {} KiB",
        kib(answer.balloon),
        kib(answer.returned)
    );
    Ok(0)
}
