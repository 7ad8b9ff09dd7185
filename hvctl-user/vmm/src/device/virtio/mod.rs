// SPDX-License-Identifier: GPL-2.0
//! virtio 1.x devices on PCI.
//!
//! | module | what |
//! |---|---|
//! | [`transport`] | a device as a PCI function: the registers that drivers know it by |
//! | [`ring`] | a queue, and the checked chains of buffers in it |
//! | [`worker`] | a thread that serves queues |
//! | [`vhost`] | queues that the root's kernel serves |
//! | [`block`] | disks |
//! | [`net`] | network interfaces |
//! | [`socket`] | sockets between root and guest |
//! | [`fs`] | folders of the root's |
//! | [`console`] | a second console |
//! | [`entropy`] | random numbers |
//! | [`balloon`] | asking the guest for memory |
//!
//! A queue is memory that the guest writes at any time. Whatever is wrong with one becomes
//! [`ring::Broken`]: the device stops, says so in its status and to us, and waits for the
//! driver to reset it. Nothing else of hvctl is touched.

pub mod balloon;
#[cfg(test)]
pub mod bench;
pub mod block;
pub mod console;
pub mod counters;
pub mod entropy;
pub mod fs;
#[cfg(test)]
mod fuzz;
pub mod net;
pub mod ring;
pub mod socket;
pub mod transport;
pub mod vhost;
pub mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use virtio_bindings::virtio_config;
use virtio_bindings::virtio_ring as bindings;
use vmm_sys_util::eventfd::EventFd;

use crate::memory::GuestMemory;
use crate::quota::Quota;
use ring::{Broken, Ring};

/// Feature bits that each of our devices has.
pub const COMMON_FEATURES: u64 = 1 << virtio_config::VIRTIO_F_VERSION_1
    | 1 << bindings::VIRTIO_RING_F_EVENT_IDX
    | 1 << bindings::VIRTIO_RING_F_INDIRECT_DESC;

/// Device types (virtio 1.2, section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Network = 1,
    Block = 2,
    Console = 3,
    Entropy = 4,
    Balloon = 5,
    Socket = 19,
    FileSystem = 26,
}

/// A queue that the driver has set up.
pub struct ActiveQueue {
    pub ring: Ring,
    /// The driver's doorbell.
    pub kick: Arc<EventFd>,
}

/// What a device gets when its driver is ready.
pub struct Activation {
    pub memory: GuestMemory,
    /// What both sides agreed on.
    pub features: u64,
    /// By number; none where the driver did not set one up.
    pub queues: Vec<Option<ActiveQueue>>,
    pub health: Arc<Health>,
}

impl Activation {
    pub fn has(&self, feature: u32) -> bool {
        self.features & 1 << feature != 0
    }
}

/// A device, without the bus that it is on. All its methods are called with the
/// transport's lock held.
pub trait VirtioDevice: Send {
    fn kind(&self) -> Kind;
    /// Its own feature bits, and [`COMMON_FEATURES`] or those of them that it has.
    fn features(&self) -> u64;
    /// The largest size of each queue: powers of two.
    fn queue_sizes(&self) -> Vec<u16>;
    /// Reads the device's configuration; `data` is zeros.
    fn read_config(&self, offset: u64, data: &mut [u8]);
    fn write_config(&mut self, _offset: u64, _data: &[u8]) {}
    /// The driver is ready: serve the queues from now on.
    fn activate(&mut self, activation: Activation) -> std::io::Result<()>;
    /// Stops; when this returns nothing of the device touches guest memory any more.
    fn reset(&mut self);
}

/// The part of a device's status that its threads can change.
pub struct Health {
    name: String,
    status: AtomicU8,
    /// Signalled when the configuration or the status changes.
    changed: Arc<EventFd>,
    quota: Quota,
}

impl Health {
    pub fn new(name: String, changed: Arc<EventFd>) -> Self {
        Self {
            name,
            status: AtomicU8::new(0),
            changed,
            quota: Quota::default(),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn status(&self) -> u8 {
        self.status.load(Ordering::Acquire)
    }

    fn set_status(&self, status: u8) {
        self.status.store(status, Ordering::Release);
    }

    /// The device stops until its driver resets it.
    pub fn fail(&self, why: &Broken) {
        let needs_reset = virtio_config::VIRTIO_CONFIG_S_NEEDS_RESET as u8;
        if self.status.fetch_or(needs_reset, Ordering::AcqRel) & needs_reset != 0 {
            return;
        }
        self.complain(&format_args!("{why}; it stops until its driver resets it"));
        self.configuration_changed();
    }

    /// Says what is wrong, but not as often as a guest can cause it.
    pub fn complain(&self, what: &dyn std::fmt::Display) {
        if self.quota.take() {
            tracing::warn!("{}: {what}", self.name);
        }
    }

    /// Tells the driver to look at the configuration again.
    pub fn configuration_changed(&self) {
        // The counter cannot overflow: an interrupt or a reset empties it.
        let _ = self.changed.write(1);
    }
}
