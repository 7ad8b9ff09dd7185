// SPDX-License-Identifier: GPL-2.0
//! `hvctl stop`.

use std::io::{ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use crate::control::{self, Reply, Request};
use crate::{args, status};

/// How long until the button is pressed again. A guest that is still starting hears nothing: a
/// Debian listens some time after its login prompt. One that is shutting down ignores it.
const AGAIN: Duration = Duration::from_secs(15);

/// Stops a run; returns the exit status, having said what there is to say.
pub fn main(args: &args::Stop) -> u8 {
    stop(args).unwrap_or_else(|cause| {
        eprintln!("hvctl: {cause:#}");
        status::CONFIGURATION
    })
}

fn stop(args: &args::Stop) -> Result<u8> {
    let name = &args.name;
    let mut run = control::connect(name)?;
    if !args.force {
        if presses_until_it_ends(&mut run, args.timeout)? {
            return Ok(status::POWER_OFF);
        }
        eprintln!("hvctl: the guest did not power off; its run is ended");
    }
    ask(&mut run, Request::End)?;
    // A kernel that is ending processes is not waited for without end.
    if has_ended(&mut run, Duration::from_secs(60))? {
        return Ok(status::COMMAND);
    }
    bail!("the run {name} does not end: kill its hvctl")
}

fn presses_until_it_ends(run: &mut UnixStream, limit: Duration) -> Result<bool> {
    let began = Instant::now();
    loop {
        ask(run, Request::PowerButton)?;
        // No time at all would be no limit to the socket.
        let left = limit.saturating_sub(began.elapsed());
        if left.is_zero() || has_ended(run, left.min(AGAIN))? {
            return Ok(!left.is_zero());
        }
    }
}

fn ask(run: &mut UnixStream, request: Request) -> Result<()> {
    run.set_read_timeout(Some(Duration::from_secs(30)))?;
    // A run that ends meanwhile has what was wanted.
    if control::send(run, &request).is_err() {
        return Ok(());
    }
    match control::receive::<Reply>(run) {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(cause)) => Err(anyhow!(cause)).context("the run refuses"),
        Err(cause) if cause.kind() == ErrorKind::WouldBlock => bail!("the run does not answer"),
        Err(_) => Ok(()),
    }
}

/// Waits for the end of the connection, which is that of the run.
fn has_ended(run: &mut UnixStream, limit: Duration) -> Result<bool> {
    run.set_read_timeout(Some(limit))?;
    match run.read(&mut [0]) {
        Err(cause) if cause.kind() == ErrorKind::WouldBlock => Ok(false),
        _ => Ok(true),
    }
}
