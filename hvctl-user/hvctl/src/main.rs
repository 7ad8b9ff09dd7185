// SPDX-License-Identifier: GPL-2.0
//! hvctl: look after hvmod and run partitions on it.

use std::io;
use std::process::ExitCode;

use clap::Parser;
use hvctl::args::{Args, Command};
use hvctl::{balloon, check, devices, info, log, run, status, stop};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;

fn main() -> ExitCode {
    let args = Args::parse();
    let wanted = std::env::var("HVCTL_LOG").ok();
    let wanted = wanted.and_then(|text| text.parse().ok());
    let messages = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_target(false)
        .without_time()
        .with_filter(wanted.unwrap_or(Targets::new().with_default(LevelFilter::WARN)));
    tracing_subscriber::registry().with(messages).init();
    let result = match args.command {
        Command::Check(args) => check::main(&args),
        Command::Info(args) => info::main(&args),
        Command::Log(args) => log::main(&args),
        Command::Balloon(args) => balloon::main(&args),
        Command::Devices(args) => devices::main(&args),
        Command::Run(args) => return ExitCode::from(run::main(&args)),
        Command::Stop(args) => return ExitCode::from(stop::main(&args)),
    };
    ExitCode::from(result.unwrap_or_else(|cause| {
        // Whoever read our output has seen enough.
        if cause
            .downcast_ref()
            .is_some_and(|cause: &io::Error| cause.kind() == io::ErrorKind::BrokenPipe)
        {
            return 0;
        }
        eprintln!("hvctl: {cause:#}");
        status::FAILED
    }))
}
