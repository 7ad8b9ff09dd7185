// SPDX-License-Identifier: GPL-2.0
//! Sockets between root and guest (virtio 1.2, section 5.10), served by vhost-vsock.

use std::io;
use std::sync::Arc;

use vhost::VhostBackend;
use vhost::vhost_kern::vsock::Vsock;
use vhost::vsock::VhostVsock;

use super::vhost::{self as kernel, Memory, Watch, failed};
use super::worker::Worker;
use super::{Activation, Kind, VirtioDevice};
use crate::device::bytes;
use crate::memory::GuestMemory;

const QUEUE_SIZE: u16 = 256;
/// Receive and transmit; the kernel does not serve the third, for events.
const KERNEL_QUEUES: usize = 2;
/// VIRTIO_VSOCK_F_SEQPACKET
const SEQPACKET: u64 = 1 << 1;

/// Context IDs that a guest can have: 0 to 2 have meanings of their own.
pub const CID: std::ops::RangeInclusive<u32> = 3..=u32::MAX - 1;

pub struct Socket {
    backend: Vsock<Memory>,
    cid: u32,
    features: u64,
    watch: Option<Worker>,
}

impl Socket {
    pub fn new(memory: &GuestMemory, cid: u32) -> io::Result<Self> {
        let backend = Vsock::new(Arc::new(memory.clone()))
            .map_err(|cause| kernel::closed("/dev/vhost-vsock", "vhost_vsock", cause))?;
        kernel::own(&backend, memory)?;
        backend.set_guest_cid(cid.into()).map_err(|cause| {
            io::Error::other(format!(
                "the context ID {cid} cannot be had: {cause}; choose another if a guest has it"
            ))
        })?;
        let features = kernel::features(&backend, SEQPACKET)?;
        Ok(Self {
            backend,
            cid,
            features,
            watch: None,
        })
    }
}

impl VirtioDevice for Socket {
    fn kind(&self) -> Kind {
        Kind::Socket
    }

    fn features(&self) -> u64 {
        self.features
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![QUEUE_SIZE; KERNEL_QUEUES + 1]
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        bytes::read(&u64::from(self.cid).to_le_bytes(), offset, data);
    }

    fn activate(&mut self, activation: Activation) -> io::Result<()> {
        let backend = &self.backend;
        backend
            .set_features(activation.features)
            .map_err(failed("set features"))?;
        let watch = Watch::new(KERNEL_QUEUES)?;
        for index in 0..KERNEL_QUEUES {
            let Some(queue) = &activation.queues[index] else {
                return Err(io::Error::other(format!("queue {index} is not set up")));
            };
            kernel::hand_over(backend, index, queue, watch.error(index))?;
        }
        self.watch = Some(Worker::spawn("vsock", activation.health, watch)?);
        backend.start().map_err(failed("start"))
    }

    fn reset(&mut self) {
        self.watch = None;
        if let Err(cause) = self.backend.stop() {
            tracing::debug!("vsock: {cause}");
        }
    }
}
