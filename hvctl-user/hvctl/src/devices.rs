// SPDX-License-Identifier: GPL-2.0
//! `hvctl devices`.

use std::io::{self, Write};

use anyhow::Result;

use crate::args;
use crate::control::{self, Request};

/// Says what a run's devices counted; returns the exit status.
pub fn main(args: &args::Devices) -> Result<u8> {
    let answer = control::ask(&args.name, Request::Devices)?;
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&answer.devices)?)?;
        return Ok(0);
    }
    for device in &answer.devices {
        writeln!(out, "{}", device.name)?;
        for (number, queue) in device.queues.iter().enumerate() {
            writeln!(out, "  queue {number}: {queue}")?;
        }
    }
    Ok(0)
}
