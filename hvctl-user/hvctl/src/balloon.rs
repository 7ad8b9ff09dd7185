// SPDX-License-Identifier: GPL-2.0
//! `hvctl balloon`.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use vmm::device::virtio::balloon::PAGE;

use crate::args;
use crate::control::{self, Reply, Request};

/// Asks, or says what the guest gives; returns the exit status.
pub fn main(args: &args::Balloon) -> Result<u8> {
    let pages = match args.size {
        None => None,
        Some(size) => Some(u32::try_from(size / PAGE).map_err(|_| anyhow!("it is too much"))?),
    };
    let mut run = control::connect(&args.name)?;
    run.set_read_timeout(Some(Duration::from_secs(30)))?;
    control::send(&mut run, &Request::Balloon(pages))?;
    let reply: Reply = control::receive(&run).context("the run does not answer")?;
    match reply {
        Ok(answer) => {
            let kib = |pages: u32| u64::from(pages) * PAGE / 1024;
            println!(
                "{} KiB, of which the root has {} KiB",
                kib(answer.balloon),
                kib(answer.returned)
            );
        }
        Err(cause) => bail!("the run {} refuses: {cause}", args.name),
    }
    Ok(0)
}
