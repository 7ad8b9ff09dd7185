// SPDX-License-Identifier: GPL-2.0
//! `hvctl run`.

mod attach;
mod console;
mod control;
mod devices;
mod image;
mod interface;
mod preflight;
mod share;
mod terminal;

use std::io::{self, Write};
use std::sync::Arc;

use anyhow::{Context, Result};
use hvmod_ioctls::Client;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use vmm::boot::Payload;
use vmm::confine;
use vmm::hypervisor::mshv::{DEVICES, open_device};
use vmm::machine;
use vmm::outcome::Outcome;
use vmm::vm::{Config, StartError, Vm};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::{args, status};

/// Runs a guest; returns the exit status, having said what there is to say.
pub fn main(args: &args::Run) -> u8 {
    // Before the run: confined, nothing more can be opened.
    let client = Client::open();
    let status = run_and_tell(args);
    if status == status::HYPERVISOR && client.is_ok_and(|client| core_died(&client)) {
        eprintln!("hvctl: {}", crate::info::DEAD);
    }
    status
}

/// Whether hvmod says that hvcore is no more.
fn core_died(client: &Client) -> bool {
    client.info().is_ok_and(|info| info.dead != 0)
}

fn run_and_tell(args: &args::Run) -> u8 {
    match run(args) {
        Ok(outcome) => {
            if let Some(text) = status::explain(&outcome) {
                eprintln!("hvctl: {text}");
            }
            status::of(&outcome)
        }
        Err(cause) => {
            eprintln!("hvctl: {cause:#}");
            match cause.downcast_ref() {
                Some(StartError::Hypervisor(_) | StartError::System(_)) => status::HYPERVISOR,
                _ => status::CONFIGURATION,
            }
        }
    }
}

/// Each queue of a device has a handful of descriptors: takes as many as are allowed.
fn many_files() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most));
    if let Err(cause) = raised {
        tracing::info!("the limit of open files stays as it is: {cause}");
    }
}

/// What the partition is to be.
fn config(args: &args::Run) -> Config {
    Config {
        payload: Payload {
            kernel: args.kernel.clone(),
            initrd: args.initrd.clone(),
            command_line: args.cmdline.clone(),
        },
        memory: args.memory,
        processors: args.cpus,
        exit_port: args.exit_port,
        confine: !args.unconfined,
        private: args.private,
        plain: args.plain,
        shared_memory: !args.share.is_empty(),
    }
}

fn run(args: &args::Run) -> Result<Outcome> {
    let config = config(args);
    // What the user can put right without a hypervisor comes first.
    preflight::files(&config.payload)?;
    preflight::memory(config.memory)?;
    preflight::locked_memory(config.memory)?;
    preflight::devices(args)?;
    many_files();
    let listener = control::listen(args.name.as_deref())?;
    let balloon = args.balloon.then(Arc::default);
    let devices::Open { devices, servers } = devices::open(args, balloon.clone())?;
    let (path, device) = open_device(&DEVICES)?;
    tracing::info!("{} takes the calls", path.display());

    let drained = EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK).context("an eventfd")?;
    let far_end = drained.try_clone().context("an eventfd")?;
    let console = console::open(&args.console)?;
    // From here on the signals wait for us, in every thread.
    let signals = attach::Signals::block()?;
    let raw = match &console.input {
        Some(input) if console.is_terminal => terminal::Raw::enter(input.as_fd_owner())?,
        _ => None,
    };
    // In one piece, and before the guest has anything to say.
    if raw.is_some() && args.escape.0.is_some() {
        let hint = format!("hvctl: {} ends the run\n", args.escape);
        // Nobody to read it is no reason not to run.
        let _ = io::stderr().write_all(hint.as_bytes());
    }
    let vm = Vm::start(
        device,
        &config,
        devices,
        machine::Console {
            out: console.out,
            drained: far_end,
        },
    )?;
    control::serve(listener, control::Run::new(&vm, balloon, config.memory)).context("a thread")?;
    confine::thread(confine::Thread::Main);
    let escape = if raw.is_some() { args.escape.0 } else { None };
    let ended = attach::Attachment {
        machine: vm.machine(),
        // To read another job's terminal would stop us.
        input: console
            .input
            .filter(|_| raw.is_some() || !console.is_terminal)
            .map(console::Input::into_file),
        terminal: raw.is_some(),
        drained,
        signals,
        escape,
        timeout: args.timeout,
    }
    .wait();
    let outcome = match ended {
        Ok(outcome) => outcome,
        Err(cause) => Outcome::Hypervisor(format!("waiting for the guest: {cause}")),
    };
    let outcome = vm.stop(outcome);
    drop(raw);
    // After the last request of the guest.
    drop(servers);
    Ok(outcome)
}
