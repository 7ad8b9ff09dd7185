// SPDX-License-Identifier: GPL-2.0
//! A partition with its machine around it, and the threads that run it.

use std::fs::File;
use std::io;
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use vmm_sys_util::signal::{Killable, SIGRTMIN, register_signal_handler};

use crate::boot::{self, Payload};
use crate::confine;
use crate::device::fw_cfg::FwCfg;
use crate::device::pci::routes::Routes;
use crate::device::pci::{self, BusFull};
use crate::device::virtio::VirtioDevice;
use crate::device::virtio::counters::Watched;
use crate::device::virtio::transport::VirtioPci;
use crate::hypervisor::mshv::Partition;
use crate::hypervisor::{Failure, Spare, Vp};
use crate::layout;
use crate::machine::{Console, Machine};
use crate::memory::{self, GuestMemory};
use crate::outcome::{Ending, Outcome};

/// What to make.
#[derive(Debug, Clone)]
pub struct Config {
    pub payload: Payload,
    /// Bytes of RAM: a multiple of 1 MiB.
    pub memory: u64,
    pub processors: u8,
    /// Whether writes to port 0xf4 end the run, and there is what else test kernels look for.
    pub exit_port: bool,
    /// Whether to give up, once all is set up, what is not needed any more.
    pub confine: bool,
    /// Whether the guest's memory is its own alone.
    pub private: bool,
    /// Whether a Linux is to find a plain processor, and no hypervisor's interface. Others find
    /// none, and with private memory nobody does: hvmod could not write its pages.
    pub plain: bool,
    /// Whether a device is served by another process, which needs the guest's memory.
    pub shared_memory: bool,
}

/// A device, and what to call it in messages.
pub struct Attached {
    pub name: String,
    pub make: Make,
}

pub type Make = Box<dyn FnOnce(&Host) -> io::Result<Box<dyn VirtioDevice>>>;

/// What a device can make use of.
pub struct Host {
    pub memory: GuestMemory,
    pub spare: Arc<dyn Spare>,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    TooMany(#[from] BusFull),
    #[error("{0}")]
    Device(String, #[source] io::Error),
    #[error(transparent)]
    Boot(#[from] boot::Error),
    #[error("cannot get {0} MiB of memory for the guest")]
    Memory(u64, #[source] io::Error),
    #[error("cannot give the guest {0} MiB of memory")]
    Give(u64, #[source] Failure),
    #[error("the hypervisor refused")]
    Hypervisor(#[from] Failure),
    #[error("the system refused")]
    System(#[from] io::Error),
}

/// A running guest.
pub struct Vm {
    threads: Vec<JoinHandle<()>>,
    machine: Arc<Machine>,
    devices: Vec<Arc<VirtioPci>>,
}

/// The signal that makes RUN_VP return.
extern "C" fn nothing(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}

/// Ends the run if a processor's thread dies by itself.
struct Watch(Arc<Machine>);

impl Drop for Watch {
    fn drop(&mut self) {
        let message = "a processor's thread ended before the run";
        self.0.ending().end(Outcome::Hypervisor(message.into()));
    }
}

/// A device with its name.
type Made = (String, Box<dyn VirtioDevice>);

/// Makes the devices, in this order.
fn make(devices: Vec<Attached>, host: &Host) -> Result<Vec<Made>, StartError> {
    let make = |Attached { name, make }| match make(host) {
        Ok(device) => Ok((name, device)),
        Err(cause) => Err(StartError::Device(name, cause)),
    };
    devices.into_iter().map(make).collect()
}

/// Makes functions of the bus of them.
fn functions(
    devices: Vec<Made>,
    memory: &GuestMemory,
    partition: Arc<Partition>,
) -> io::Result<Vec<Arc<VirtioPci>>> {
    let routes = Routes::new(partition);
    let place = |(slot, (name, device)): (usize, Made)| {
        VirtioPci::new(slot, name, device, memory.clone(), routes.clone())
    };
    devices.into_iter().enumerate().map(place).collect()
}

/// The partition, for devices, which are made before it. They have no use for it until it runs.
#[derive(Default)]
struct Later(OnceLock<Arc<Partition>>);

impl Spare for Later {
    fn discard(&self, gpa: u64, size: u64) -> Result<bool, Failure> {
        match self.0.get() {
            Some(partition) => partition.discard(gpa, size),
            None => Ok(false),
        }
    }
}

impl Vm {
    /// Builds everything and lets the guest go.
    pub fn start(
        device: File,
        config: &Config,
        devices: Vec<Attached>,
        console: Console,
    ) -> Result<Self, StartError> {
        let mut stretches = layout::ram(config.memory);
        stretches.extend(config.exit_port.then_some(layout::TEST_MEMORY));
        stretches.sort_unstable();
        let allocate = match config.shared_memory {
            true => memory::allocate_shared,
            false => memory::allocate,
        };
        let memory =
            allocate(&stretches).map_err(|cause| StartError::Memory(config.memory >> 20, cause))?;
        // What the user got wrong comes before what the hypervisor thinks of it.
        let entry = boot::load(&memory, config.memory, config.processors, &config.payload)?;
        let later = Arc::new(Later::default());
        let host = Host {
            memory: memory.clone(),
            spare: later.clone(),
        };
        let devices = make(devices, &host)?;
        let linux = boot::kind(&config.payload.kernel)? == boot::Kind::BzImage;
        let hyper_v = linux && !config.plain && !config.private;
        let partition = Partition::create(device, hyper_v)?;
        let refused = |cause| StartError::Give(config.memory >> 20, cause);
        let memory = if config.private {
            memory::give_private(&memory, &partition).map_err(refused)?;
            // The guest has a copy; what was here is of no use any more.
            GuestMemory::new()
        } else {
            memory::give(&memory, &partition).map_err(refused)?;
            memory
        };
        let mut vps = Vec::new();
        for index in 0..config.processors {
            vps.push(partition.create_vp(index)?);
        }
        if let Some(first) = vps.first_mut() {
            first.load(&entry)?;
        }
        register_signal_handler(SIGRTMIN(), nothing).map_err(io::Error::from)?;
        let ending = Arc::new(Ending::new()?);
        let partition = later.0.get_or_init(|| Arc::new(partition)).clone();
        let devices = functions(devices, &memory, partition.clone())?;
        let on_bus = devices.iter().map(|device| device.clone() as _);
        let pci = pci::Bus::new(on_bus.collect())?;
        let machine = Arc::new(Machine::new(
            memory,
            partition,
            console,
            pci,
            config
                .exit_port
                .then(|| FwCfg::new(config.memory, config.processors)),
            ending,
        ));
        if config.confine {
            confine::process()?;
        }
        let mut vm = Self {
            threads: Vec::new(),
            machine,
            devices,
        };
        for (index, mut vp) in vps.into_iter().enumerate() {
            let machine = vm.machine.clone();
            let thread = thread::Builder::new()
                .name(format!("vp{index}"))
                .spawn(move || {
                    let watch = Watch(machine);
                    confine::thread(confine::Thread::Processor);
                    watch.0.run(&mut vp);
                })?;
            vm.threads.push(thread);
        }
        Ok(vm)
    }

    pub fn machine(&self) -> &Arc<Machine> {
        &self.machine
    }

    /// What its devices count.
    pub fn counters(&self) -> Vec<Watched> {
        self.devices.iter().map(|device| device.watched()).collect()
    }

    /// Waits for the threads, which the end of the run (that must have come) makes
    /// return, and destroys the partition.
    fn join(&mut self) {
        for thread in self.threads.drain(..) {
            // A signal that comes just before RUN_VP is lost, so send it until it took.
            while !thread.is_finished() {
                let _ = thread.kill(SIGRTMIN());
                thread::sleep(Duration::from_millis(1));
            }
            // A panic has been reported by its thread, and the run ended by `Watch`.
            let _ = thread.join();
        }
        for device in self.devices.drain(..) {
            device.stop();
            for (index, counters) in device.counters().iter().enumerate() {
                tracing::info!("{}: queue {index}: {}", device.name(), counters.read());
            }
        }
    }

    /// Ends the run, if it has not ended, and says how it did.
    pub fn stop(mut self, outcome: Outcome) -> Outcome {
        self.machine.ending().end(outcome.clone());
        self.join();
        self.machine.ending().outcome().cloned().unwrap_or(outcome)
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        if !self.threads.is_empty() {
            self.machine
                .ending()
                .end(Outcome::Hypervisor("the run was abandoned".into()));
            self.join();
        }
    }
}
