// SPDX-License-Identifier: GPL-2.0
//! Network interfaces (virtio 1.2, section 5.1): a tap of the root's, served by vhost-net.

pub mod control;
pub mod tap;

use std::io;
use std::sync::Arc;

use vhost::VhostBackend;
use vhost::net::VhostNet;
use vhost::vhost_kern::net::Net as KernelNet;
use virtio_bindings::virtio_net as bindings;
use zerocopy::{Immutable, IntoBytes};

use super::vhost::{self as kernel, Memory, Watch, failed};
use super::worker::{Answering, Worker};
use super::{Activation, COMMON_FEATURES, Health, Kind, VirtioDevice};
use crate::device::bytes;
use crate::memory::GuestMemory;
use tap::Tap;

const QUEUE_SIZE: u16 = 256;
const CONTROL_QUEUE_SIZE: u16 = 64;

pub type Mac = [u8; 6];

/// struct virtio_net_config, as far as we use it.
#[repr(C, packed)]
#[derive(IntoBytes, Immutable)]
struct Config {
    mac: Mac,
    status: u16,
    max_virtqueue_pairs: u16,
}

const fn bit(feature: u32) -> u64 {
    1 << feature
}

/// What the kernel does on frames by itself, and leaves to the guest.
const OFFLOADS: u64 = bit(bindings::VIRTIO_NET_F_CSUM)
    | bit(bindings::VIRTIO_NET_F_HOST_TSO4)
    | bit(bindings::VIRTIO_NET_F_HOST_TSO6)
    | bit(bindings::VIRTIO_NET_F_HOST_ECN)
    | bit(bindings::VIRTIO_NET_F_GUEST_CSUM)
    | bit(bindings::VIRTIO_NET_F_GUEST_TSO4)
    | bit(bindings::VIRTIO_NET_F_GUEST_TSO6)
    | bit(bindings::VIRTIO_NET_F_GUEST_ECN);

/// Of our features, those that the kernel must have.
const KERNEL: u64 = COMMON_FEATURES | bit(bindings::VIRTIO_NET_F_MRG_RXBUF);

/// What the tap may leave to the guest, as the driver agreed.
fn tap_offload(features: u64) -> u32 {
    [
        (bindings::VIRTIO_NET_F_GUEST_CSUM, libc::TUN_F_CSUM),
        (bindings::VIRTIO_NET_F_GUEST_TSO4, libc::TUN_F_TSO4),
        (bindings::VIRTIO_NET_F_GUEST_TSO6, libc::TUN_F_TSO6),
        (bindings::VIRTIO_NET_F_GUEST_ECN, libc::TUN_F_TSO_ECN),
    ]
    .iter()
    .filter(|(feature, _)| features & bit(*feature) != 0)
    .fold(0, |all, (_, flag)| all | *flag)
}

/// An interface of the guest.
pub struct Net {
    taps: Arc<Vec<Tap>>,
    /// One for each pair of queues.
    backends: Vec<KernelNet<Memory>>,
    mac: Mac,
    features: u64,
    workers: Vec<Worker>,
}

impl Net {
    /// With a pair of queues for each of `taps`.
    pub fn new(memory: &GuestMemory, taps: Vec<Tap>, mac: Mac) -> io::Result<Self> {
        let mut features = OFFLOADS | bit(bindings::VIRTIO_NET_F_MAC);
        if taps.len() > 1 {
            features |= bit(bindings::VIRTIO_NET_F_CTRL_VQ) | bit(bindings::VIRTIO_NET_F_MQ);
        }
        let mut backends = Vec::new();
        let mut common = KERNEL;
        for _ in &taps {
            let backend = KernelNet::new(Arc::new(memory.clone()))
                .map_err(|cause| kernel::closed("/dev/vhost-net", "vhost_net", cause))?;
            kernel::own(&backend, memory)?;
            common &= kernel::features(&backend, KERNEL)?;
            backends.push(backend);
        }
        Ok(Self {
            taps: Arc::new(taps),
            backends,
            mac,
            features: features | common,
            workers: Vec::new(),
        })
    }

    /// The control queue's number, which depends on whether the driver knows of many pairs.
    fn control_queue(&self, features: u64) -> Option<usize> {
        let pairs = match features & bit(bindings::VIRTIO_NET_F_MQ) {
            0 => 1,
            _ => self.backends.len(),
        };
        (features & bit(bindings::VIRTIO_NET_F_CTRL_VQ) != 0).then_some(2 * pairs)
    }

    fn start_pair(
        &self,
        pair: usize,
        activation: &Activation,
        health: Arc<Health>,
    ) -> io::Result<Worker> {
        let backend = &self.backends[pair];
        let features = activation.features & KERNEL;
        backend
            .set_features(features)
            .map_err(failed("set features"))?;
        let watch = Watch::new(2)?;
        for side in 0..2 {
            if let Some(queue) = &activation.queues[2 * pair + side] {
                kernel::hand_over(backend, side, queue, watch.error(side))?;
            }
        }
        let worker = Worker::spawn("net", health, watch)?;
        for side in 0..2 {
            if activation.queues[2 * pair + side].is_some() {
                let tap = self.taps[pair].file();
                backend
                    .set_backend(side, Some(tap))
                    .map_err(failed("start"))?;
            }
        }
        Ok(worker)
    }
}

impl VirtioDevice for Net {
    fn kind(&self) -> Kind {
        Kind::Network
    }

    fn features(&self) -> u64 {
        self.features
    }

    fn queue_sizes(&self) -> Vec<u16> {
        let mut sizes = vec![QUEUE_SIZE; 2 * self.backends.len()];
        if self.control_queue(self.features).is_some() {
            sizes.push(CONTROL_QUEUE_SIZE);
        }
        sizes
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let config = Config {
            mac: self.mac,
            status: 0,
            max_virtqueue_pairs: self.backends.len() as u16,
        };
        bytes::read(config.as_bytes(), offset, data);
    }

    fn activate(&mut self, mut activation: Activation) -> io::Result<()> {
        let health = activation.health.clone();
        for tap in self.taps.iter() {
            tap.set_offload(tap_offload(activation.features))?;
        }
        let pairs = match activation.has(bindings::VIRTIO_NET_F_MQ) {
            true => self.backends.len(),
            false => 1,
        };
        // Until the driver says otherwise it uses one pair.
        control::use_pairs(&self.taps, 1);
        let control = self.control_queue(activation.features);
        if let Some(queue) = control.and_then(|index| activation.queues[index].take()) {
            let taps = self.taps.clone();
            let control = Answering::new(queue, move |memory, chain| {
                control::answer(memory, chain, &taps)
            });
            self.workers
                .push(Worker::spawn("net-control", health.clone(), control)?);
        }
        for pair in 0..pairs {
            let worker = self.start_pair(pair, &activation, health.clone())?;
            self.workers.push(worker);
        }
        Ok(())
    }

    fn reset(&mut self) {
        self.workers.clear();
        for backend in &self.backends {
            for side in 0..2 {
                // What was not started cannot be stopped, and need not be.
                let _ = backend.set_backend(side, None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tap_leaves_to_the_guest_what_it_agreed_to() {
        assert_eq!(tap_offload(0), 0);
        assert_eq!(tap_offload(OFFLOADS), 0xf);
        assert_eq!(tap_offload(bit(bindings::VIRTIO_NET_F_GUEST_CSUM)), 1);
    }
}
