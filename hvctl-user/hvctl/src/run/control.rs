// SPDX-License-Identifier: GPL-2.0
//! The run's end of [`crate::control`].

use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use vmm::confine;
use vmm::device::virtio::balloon::{Account, PAGE};
use vmm::device::virtio::counters::Watched;
use vmm::machine::Machine;
use vmm::outcome::{Outcome, Stopper};
use vmm::vm::Vm;

use crate::control::{self, Answer, Device, Reply, Request};

/// Takes the name for this run.
pub fn listen(name: Option<&str>) -> Result<UnixListener> {
    let own = std::process::id().to_string();
    let name = name.unwrap_or(&own);
    control::listen(name)
}

/// What requests are about.
#[derive(Clone)]
pub struct Run {
    machine: Weak<Machine>,
    balloon: Option<Arc<Account>>,
    /// Bytes of the guest's memory.
    memory: u64,
    counters: Vec<Watched>,
}

impl Run {
    pub fn new(vm: &Vm, balloon: Option<Arc<Account>>, memory: u64) -> Self {
        Self {
            machine: Arc::downgrade(vm.machine()),
            balloon,
            memory,
            counters: vm.counters(),
        }
    }
}

/// Serves requests until the process ends.
pub fn serve(listener: UnixListener, run: Run) -> io::Result<()> {
    thread::Builder::new()
        .name("control".into())
        .spawn(move || {
            confine::thread(confine::Thread::Control);
            // They stay open: their end is how others see that of the run.
            let mut open = Vec::new();
            for stream in listener.incoming().flatten() {
                let run = run.clone();
                if !is_allowed(&stream) {
                    continue;
                }
                let Ok(kept) = stream.try_clone() else {
                    continue;
                };
                open.push(kept);
                // One that says nothing holds up nobody else.
                let served = thread::Builder::new()
                    .name("control-client".into())
                    .spawn(move || answer(stream, &run));
                if let Err(cause) = served {
                    tracing::warn!("a request could not be served: {cause}");
                }
                if open.len() > MAX_OPEN {
                    open.remove(0);
                }
            }
        })?;
    Ok(())
}

/// So many are told of the end of the run.
const MAX_OPEN: usize = 16;

/// Root and whoever started the run may.
fn is_allowed(stream: &UnixStream) -> bool {
    control::peer(stream).is_ok_and(|peer| control::is_trusted(&peer))
}

fn answer(mut stream: UnixStream, run: &Run) {
    // Long enough for two requests with the longest wait of 'hvctl stop' between them.
    let _ = stream.set_read_timeout(Some(Duration::from_secs(24 * 3600)));
    while let Ok(request) = control::receive::<Request>(&stream) {
        let reply = obey(request, run);
        if control::send(&mut stream, &reply).is_err() {
            return;
        }
    }
}

fn device(watched: &Watched) -> Device {
    Device {
        name: watched.name.clone(),
        queues: watched.queues.iter().map(|queue| queue.read()).collect(),
    }
}

fn obey(request: Request, run: &Run) -> Reply {
    let Some(machine) = run.machine.upgrade() else {
        return match request {
            // What was wanted.
            Request::PowerButton | Request::End => Ok(Answer::default()),
            Request::Balloon(_) | Request::Devices => Err("it has ended".to_owned()),
        };
    };
    let mut answer = Answer::default();
    match request {
        Request::PowerButton => {
            let pressed = machine.press_power_button();
            pressed.map_err(|cause| cause.to_string())?;
        }
        Request::End => machine.ending().end(Outcome::Stopped(Stopper::Command)),
        Request::Balloon(pages) => {
            let account = run.balloon.as_ref().ok_or("it has no --balloon")?;
            if let Some(pages) = pages {
                if u64::from(pages) * PAGE >= run.memory {
                    let mib = run.memory >> 20;
                    return Err(format!("the guest has {mib} MiB in all: ask for less"));
                }
                account.ask(pages);
            }
            answer.balloon = account.given();
            answer.returned = account.returned();
        }
        Request::Devices => answer.devices = run.counters.iter().map(device).collect(),
    }
    Ok(answer)
}
