// SPDX-License-Identifier: GPL-2.0
//! A virtio device as a PCI function (virtio 1.2, section 4.1).

mod registers;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use virtio_bindings::virtio_config as bits;
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::counters::{QueueCounters, Watched};
use super::ring::{Broken, Place, Ring};
use super::{Activation, ActiveQueue, Health, Kind, VirtioDevice};
use crate::device::bytes;
use crate::device::pci::config::{ConfigSpace, Identity};
use crate::device::pci::msix::{self, Msix};
use crate::device::pci::routes::Routes;
use crate::device::pci::{Bus, Function};
use crate::hypervisor::Failure;
use crate::memory::GuestMemory;
use registers::{Capability, Common, ConfigAccess};

/// What is where in the function's memory.
mod area {
    use std::ops::Range;

    pub const COMMON: Range<u64> = 0x0000..0x1000;
    pub const ISR: Range<u64> = 0x1000..0x2000;
    pub const DEVICE: Range<u64> = 0x2000..0x3000;
    pub const NOTIFY: Range<u64> = 0x3000..0x4000;
    pub const TABLE: Range<u64> = 0x4000..0x5000;
    pub const PENDING: Range<u64> = 0x5000..0x6000;
    pub const SIZE: u64 = 0x8000;
}

/// Bytes from one queue's doorbell to the next.
const NOTIFY_STRIDE: u64 = 4;

const ACKNOWLEDGE: u8 = bits::VIRTIO_CONFIG_S_ACKNOWLEDGE as u8;
const DRIVER: u8 = bits::VIRTIO_CONFIG_S_DRIVER as u8;
const DRIVER_OK: u8 = bits::VIRTIO_CONFIG_S_DRIVER_OK as u8;
const FEATURES_OK: u8 = bits::VIRTIO_CONFIG_S_FEATURES_OK as u8;
const NEEDS_RESET: u8 = bits::VIRTIO_CONFIG_S_NEEDS_RESET as u8;

/// A queue as the driver sets it up.
struct Setup {
    max_size: u16,
    place: Place,
    enabled: bool,
    kick: Arc<EventFd>,
    counters: Arc<QueueCounters>,
}

struct State {
    device: Box<dyn VirtioDevice>,
    config: ConfigSpace,
    /// Where in it are the message control word and the window of [`ConfigAccess`].
    msix_capability: u8,
    access_capability: u8,
    msix: Msix,
    queues: Vec<Setup>,
    device_feature_select: u32,
    driver_feature_select: u32,
    driver_features: u64,
    queue_select: u16,
    /// Where doorbells are registered.
    doorbells: Option<u64>,
}

/// The function.
pub struct VirtioPci {
    health: Arc<Health>,
    offered: u64,
    memory: GuestMemory,
    routes: Arc<Routes>,
    counters: Vec<Arc<QueueCounters>>,
    /// Where its memory is, 0 while it is off: for looking without the lock.
    address: AtomicU64,
    state: Mutex<State>,
}

/// The class of a function, as Linux's `lspci` shows it.
fn class(kind: Kind) -> u32 {
    match kind {
        Kind::Network => 0x02_00_00,
        Kind::Block => 0x01_80_00,
        Kind::Console => 0x07_80_00,
        Kind::Entropy => 0x10_00_00,
        Kind::Balloon => 0x05_00_00,
        Kind::Socket => 0x02_80_00,
        Kind::FileSystem => 0x01_80_00,
    }
}

const VENDOR: u16 = 0x1af4;
const DEVICE_BASE: u16 = 0x1040;

impl VirtioPci {
    /// `slot` counts from 0, `name` is for messages.
    pub fn new(
        slot: usize,
        name: String,
        device: Box<dyn VirtioDevice>,
        memory: GuestMemory,
        routes: Arc<Routes>,
    ) -> io::Result<Arc<Self>> {
        let sizes = device.queue_sizes();
        // One line for each queue, the last for changes of the configuration.
        let msix = Msix::new(routes.clone(), sizes.len() as u16 + 1)?;
        let setup = |&max_size: &u16| {
            Ok(Setup {
                max_size,
                place: Place {
                    size: max_size,
                    ..Place::default()
                },
                enabled: false,
                kick: Arc::new(EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)?),
                counters: Arc::default(),
            })
        };
        let queues: Vec<Setup> = sizes.iter().map(setup).collect::<io::Result<_>>()?;
        let mut config = ConfigSpace::new(Identity {
            vendor: VENDOR,
            device: DEVICE_BASE + device.kind() as u16,
            class: class(device.kind()),
            revision: 1,
            subsystem: (DEVICE_BASE as u32 + device.kind() as u32) << 16 | u32::from(VENDOR),
        });
        config.set_memory(Bus::place(slot, area::SIZE), area::SIZE);
        for capability in [
            Capability::new(Capability::COMMON, area::COMMON),
            Capability::new(Capability::ISR, area::ISR),
            Capability::new(Capability::DEVICE, area::DEVICE),
        ] {
            config.add_capability(Capability::ID, &capability.body(), &[]);
        }
        let notify = Capability::new(Capability::NOTIFY, area::NOTIFY);
        let stride = (NOTIFY_STRIDE as u32).to_le_bytes();
        config.add_capability(Capability::ID, &notify.body_with(&stride), &[]);
        let access = Capability::new(Capability::CONFIG_ACCESS, 0..0);
        let access_capability = config.add_capability(
            Capability::ID,
            &access.body_with(&[0; 4]),
            &ConfigAccess::WRITABLE,
        );
        let msix_capability = config.add_capability(
            msix::CAPABILITY,
            &[
                &msix.control_word().to_le_bytes()[..],
                &(area::TABLE.start as u32).to_le_bytes(),
                &(area::PENDING.start as u32).to_le_bytes(),
            ]
            .concat(),
            &(msix::CONTROL_ENABLE | msix::CONTROL_MASK).to_le_bytes(),
        );
        Ok(Arc::new(Self {
            health: Arc::new(Health::new(name, msix.line(sizes.len()))),
            offered: device.features(),
            memory,
            routes,
            counters: queues.iter().map(|queue| queue.counters.clone()).collect(),
            address: AtomicU64::new(0),
            state: Mutex::new(State {
                device,
                config,
                msix_capability,
                access_capability,
                msix,
                queues,
                device_feature_select: 0,
                driver_feature_select: 0,
                driver_features: 0,
                queue_select: 0,
                doorbells: None,
            }),
        }))
    }

    pub fn name(&self) -> &str {
        self.health.name()
    }

    /// By number of the queue.
    pub fn counters(&self) -> &[Arc<QueueCounters>] {
        &self.counters
    }

    pub fn watched(&self) -> Watched {
        Watched {
            name: self.name().to_owned(),
            queues: self.counters.clone(),
        }
    }

    /// Stops the device for good; nothing of it runs after this.
    pub fn stop(&self) {
        self.state().device.reset();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_common(&self, state: &State, offset: u64, data: &mut [u8]) {
        let half = |features: u64, select: u32| match select {
            0 => features as u32,
            1 => (features >> 32) as u32,
            _ => 0,
        };
        let config_line = state.queues.len();
        let mut common = Common {
            device_feature_select: state.device_feature_select,
            device_feature: half(self.offered, state.device_feature_select),
            driver_feature_select: state.driver_feature_select,
            driver_feature: half(state.driver_features, state.driver_feature_select),
            config_vector: state.msix.vector(config_line),
            queues: state.queues.len() as u16,
            status: self.health.status(),
            queue_select: state.queue_select,
            ..Common::default()
        };
        if let Some(queue) = state.queues.get(usize::from(state.queue_select)) {
            common.queue_size = queue.place.size;
            common.queue_vector = state.msix.vector(state.queue_select.into());
            common.queue_enable = queue.enabled.into();
            common.queue_notify_offset = state.queue_select;
            common.queue_descriptors = queue.place.descriptors;
            common.queue_available = queue.place.available;
            common.queue_used = queue.place.used;
        }
        common.read(offset, data);
    }

    fn write_common(&self, state: &mut State, offset: u64, data: &[u8]) {
        let value = bytes::u64(data);
        let index = usize::from(state.queue_select);
        match offset {
            Common::DEVICE_FEATURE_SELECT => state.device_feature_select = value as u32,
            Common::DRIVER_FEATURE_SELECT => state.driver_feature_select = value as u32,
            Common::DRIVER_FEATURE if self.health.status() & FEATURES_OK == 0 => {
                let shift = match state.driver_feature_select {
                    0 => 0,
                    1 => 32,
                    _ => return,
                };
                state.driver_features &= !(0xffff_ffff << shift);
                state.driver_features |= (value & 0xffff_ffff) << shift;
            }
            Common::CONFIG_VECTOR => {
                let line = state.queues.len();
                state.msix.set_vector(line, value as u16);
            }
            Common::STATUS => self.set_status(state, value as u8),
            Common::QUEUE_SELECT => state.queue_select = value as u16,
            Common::QUEUE_VECTOR if index < state.queues.len() => {
                state.msix.set_vector(index, value as u16);
            }
            _ => {
                let running = self.health.status() & DRIVER_OK != 0;
                if let Some(queue) = state.queues.get_mut(index) {
                    // What is in use stays as it is.
                    if !running && !queue.enabled {
                        queue.write(offset, data);
                    }
                }
            }
        }
    }

    fn set_status(&self, state: &mut State, status: u8) {
        let before = self.health.status();
        if status == 0 {
            self.reset(state);
            return;
        }
        // A driver sets bits one by one, and clears them all.
        let mut status = status & !NEEDS_RESET | before;
        if status & FEATURES_OK != 0 && before & FEATURES_OK == 0 {
            let wanted = state.driver_features;
            let version_1 = wanted & 1 << bits::VIRTIO_F_VERSION_1 != 0;
            if wanted & !self.offered != 0 || !version_1 {
                status &= !FEATURES_OK;
            }
        }
        let ready = ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK;
        if status & ready != ready {
            status &= !DRIVER_OK;
        }
        self.health.set_status(status);
        if status & DRIVER_OK != 0 && before & DRIVER_OK == 0 {
            if let Err(broken) = self.activate(state) {
                self.health.fail(&broken);
            }
        }
    }

    fn activate(&self, state: &mut State) -> Result<(), Broken> {
        let features = state.driver_features;
        let mut queues = Vec::with_capacity(state.queues.len());
        for (index, queue) in state.queues.iter().enumerate() {
            if !queue.enabled {
                queues.push(None);
                continue;
            }
            let ring = Ring::new(
                index,
                queue.place,
                self.memory.clone(),
                features & 1 << VIRTIO_RING_F_EVENT_IDX != 0,
                state.msix.line(index),
                queue.counters.clone(),
            )?;
            queues.push(Some(ActiveQueue {
                ring,
                kick: queue.kick.clone(),
            }));
        }
        let activation = Activation {
            memory: self.memory.clone(),
            features,
            queues,
            health: self.health.clone(),
        };
        let started = state.device.activate(activation);
        started.map_err(|cause| Broken::Backend(format!("it cannot be started: {cause}")))
    }

    fn reset(&self, state: &mut State) {
        state.device.reset();
        self.health.set_status(0);
        state.driver_features = 0;
        state.queue_select = 0;
        for queue in &mut state.queues {
            queue.enabled = false;
            queue.place = Place {
                size: queue.max_size,
                ..Place::default()
            };
            let _ = queue.kick.read();
        }
        state.msix.forget_vectors();
    }

    /// After a write to configuration space: the memory may be elsewhere now.
    fn follow_memory(&self, state: &mut State) {
        let memory = state.config.memory();
        let start = memory.map(|memory| memory.start);
        self.address.store(start.unwrap_or(0), Ordering::Release);
        if start == state.doorbells {
            return;
        }
        let at =
            |start: u64, index: usize| start + area::NOTIFY.start + NOTIFY_STRIDE * index as u64;
        let events = self.routes.events();
        let report = |result: Result<(), Failure>| {
            if let Err(cause) = result {
                // Its doorbells then come as intercepts.
                self.health.complain(&cause);
            }
        };
        if let Some(start) = state.doorbells {
            for (index, queue) in state.queues.iter().enumerate() {
                report(events.remove_doorbell(at(start, index), &queue.kick));
            }
        }
        if let Some(start) = start {
            for (index, queue) in state.queues.iter().enumerate() {
                report(events.add_doorbell(at(start, index), &queue.kick));
            }
        }
        state.doorbells = start;
    }

    fn read(&self, state: &State, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if area::COMMON.contains(&offset) {
            self.read_common(state, offset, data);
        } else if area::DEVICE.contains(&offset) {
            state.device.read_config(offset - area::DEVICE.start, data);
        } else if area::TABLE.contains(&offset) {
            state.msix.read_table(offset - area::TABLE.start, data);
        } else if area::PENDING.contains(&offset) {
            state.msix.read_pending(offset - area::PENDING.start, data);
        }
        // The interrupt status says nothing: there are no interrupts but by MSI-X.
    }

    fn write(&self, state: &mut State, offset: u64, data: &[u8]) {
        if area::COMMON.contains(&offset) {
            self.write_common(state, offset, data);
        } else if area::DEVICE.contains(&offset) {
            let device = &mut state.device;
            device.write_config(offset - area::DEVICE.start, data);
        } else if area::NOTIFY.contains(&offset) {
            let index = (offset - area::NOTIFY.start) / NOTIFY_STRIDE;
            if let Some(queue) = state.queues.get(index as usize) {
                queue.counters.intercepted.add(1);
                // The counter cannot overflow: whoever serves the queue empties it.
                let _ = queue.kick.write(1);
            }
        } else if area::TABLE.contains(&offset) {
            state.msix.write_table(offset - area::TABLE.start, data);
        }
    }

    /// What the window in configuration space shows now, if the driver has set it right.
    fn window(&self, state: &State) -> Option<(u64, usize)> {
        let access = ConfigAccess::read(&state.config, state.access_capability);
        access.target(area::SIZE)
    }
}

impl Setup {
    fn write(&mut self, offset: u64, data: &[u8]) {
        let value = bytes::u64(data);
        let place = &mut self.place;
        match offset {
            Common::QUEUE_SIZE => {
                let size = value as u16;
                if size.is_power_of_two() && size <= self.max_size {
                    place.size = size;
                }
            }
            Common::QUEUE_ENABLE => self.enabled = value as u16 == 1,
            _ => {
                for (start, address) in [
                    (Common::QUEUE_DESCRIPTORS, &mut place.descriptors),
                    (Common::QUEUE_AVAILABLE, &mut place.available),
                    (Common::QUEUE_USED, &mut place.used),
                ] {
                    if (start..start + 8).contains(&offset) {
                        let mut register = address.to_le_bytes();
                        bytes::write(&mut register, offset - start, data);
                        *address = u64::from_le_bytes(register);
                    }
                }
            }
        }
    }
}

impl Function for VirtioPci {
    fn config_read(&self, offset: u8, data: &mut [u8]) {
        let mut state = self.state();
        if offset == state.access_capability + ConfigAccess::DATA {
            if let Some((target, size)) = self.window(&state) {
                let mut window = [0; 4];
                self.read(&state, target, &mut window[..size]);
                let at = offset;
                state.config.set(at, &window);
            }
        }
        state.config.read(offset, data);
    }

    fn config_write(&self, offset: u8, data: &[u8]) {
        let mut state = self.state();
        state.config.write(offset, data);
        if offset == state.access_capability + ConfigAccess::DATA {
            if let Some((target, size)) = self.window(&state) {
                let data = &data[..data.len().min(size)];
                self.write(&mut state, target, data);
            }
            return;
        }
        let control = state.config.u16(state.msix_capability + 2);
        state.msix.set_control(control);
        self.follow_memory(&mut state);
    }

    fn memory(&self) -> Option<std::ops::Range<u64>> {
        let start = self.address.load(Ordering::Acquire);
        (start != 0).then(|| start..start + area::SIZE)
    }

    fn memory_read(&self, offset: u64, data: &mut [u8]) {
        self.read(&self.state(), offset, data);
    }

    fn memory_write(&self, offset: u64, data: &[u8]) {
        self.write(&mut self.state(), offset, data);
    }
}

#[cfg(test)]
mod tests;
