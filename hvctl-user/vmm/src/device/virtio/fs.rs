// SPDX-License-Identifier: GPL-2.0
//! A folder of the root's (virtio 1.2, section 5.11), served by another process, virtiofsd: by
//! the protocol vhost-user it gets the guest's memory, the doorbells and the interrupts. When it
//! is no more, we answer what the guest asked of it, each time with an error.

pub(super) mod watch;

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use vhost::VhostBackend;
use vhost::vhost_user::message::{VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostUserMemoryRegionInfo, VringConfigData};
use vm_memory::{GuestAddress, GuestMemory as _};
use zerocopy::{Immutable, IntoBytes};

use super::vhost::{self as kernel, failed};
use super::worker::Worker;
use super::{Activation, ActiveQueue, Kind, VirtioDevice};
use crate::device::bytes;
use crate::memory::GuestMemory;
use watch::Watch;

const QUEUE_SIZE: u16 = 256;
/// One for what must not wait (FUSE_FORGET, FUSE_INTERRUPT), one for requests.
const QUEUES: usize = 2;

/// Bytes of a tag.
pub const TAG_SIZE: usize = 36;

/// struct virtio_fs_config.
#[repr(C)]
#[derive(IntoBytes, Immutable)]
struct Config {
    tag: [u8; TAG_SIZE],
    num_request_queues: u32,
}

/// The process has to answer within this time; more and it is taken for dead.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct FileSystem {
    process: Frontend,
    memory: GuestMemory,
    features: u64,
    config: Config,
    /// Queues that the process has.
    running: Vec<usize>,
    /// It has ended.
    gone: Arc<AtomicBool>,
    watch: Option<Worker>,
}

impl FileSystem {
    /// Served by the process at the other end of `stream`. The memory has to be a file's, so
    /// that it can be shared.
    pub fn new(memory: &GuestMemory, stream: UnixStream, tag: &str) -> io::Result<Self> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut process = Frontend::from_stream(stream, QUEUES as u64);
        let ended = |cause| {
            let failed = failed("the first messages")(cause);
            io::Error::other(format!("{failed}: has virtiofsd ended, and said why?"))
        };
        process.set_owner().map_err(ended)?;
        let offered = process.get_features().map_err(ended)?;
        let protocol = VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
        if offered & protocol != 0 {
            // Each message is answered: then what it asks for is done, or has failed.
            let known = process.get_protocol_features().map_err(ended)?;
            let wanted = VhostUserProtocolFeatures::REPLY_ACK;
            process
                .set_protocol_features(known & wanted)
                .map_err(failed("set protocol features"))?;
            if known.contains(wanted) {
                process.set_hdr_flags(vhost::vhost_user::message::VhostUserHeaderFlag::NEED_REPLY);
            }
        }
        let regions: Vec<_> = memory
            .iter()
            .map(VhostUserMemoryRegionInfo::from_guest_region)
            .collect::<Result<_, _>>()
            .map_err(failed("share memory"))?;
        process
            .set_mem_table(&regions)
            .map_err(failed("share memory"))?;
        let mut config = Config {
            tag: [0; TAG_SIZE],
            num_request_queues: QUEUES as u32 - 1,
        };
        bytes::write(&mut config.tag, 0, tag.as_bytes());
        Ok(Self {
            features: offered & (super::COMMON_FEATURES | protocol),
            process,
            memory: memory.clone(),
            config,
            running: Vec::new(),
            gone: Arc::default(),
            watch: None,
        })
    }

    /// Where the address is in our own memory, as the process was told of it.
    fn here(&self, address: u64) -> io::Result<u64> {
        let found = self.memory.get_host_address(GuestAddress(address));
        found
            .map(|place| place as u64)
            .map_err(|cause| io::Error::other(format!("a queue is not in memory: {cause}")))
    }

    fn hand_over(&mut self, index: usize, queue: &ActiveQueue) -> io::Result<()> {
        let place = queue.ring.place();
        let config = VringConfigData {
            queue_max_size: place.size,
            queue_size: place.size,
            flags: 0,
            desc_table_addr: self.here(place.descriptors)?,
            used_ring_addr: self.here(place.used)?,
            avail_ring_addr: self.here(place.available)?,
            log_addr: None,
        };
        kernel::describe(&self.process, index, &config)?;
        self.process
            .set_vring_call(index, queue.ring.interrupt())
            .map_err(failed("set interrupt"))?;
        self.process
            .set_vring_kick(index, &queue.kick)
            .map_err(failed("set doorbell"))?;
        self.running.push(index);
        if self.features & VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits() != 0 {
            self.process
                .set_vring_enable(index, true)
                .map_err(failed("start"))?;
        }
        Ok(())
    }
}

impl VirtioDevice for FileSystem {
    fn kind(&self) -> Kind {
        Kind::FileSystem
    }

    fn features(&self) -> u64 {
        // That bit is between the process and us.
        self.features & !VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits()
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![QUEUE_SIZE; QUEUES]
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        bytes::read(self.config.as_bytes(), offset, data);
    }

    fn activate(&mut self, activation: Activation) -> io::Result<()> {
        if !self.gone.load(Ordering::Acquire) {
            let protocol = self.features & VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
            self.process
                .set_features(activation.features | protocol)
                .map_err(failed("set features"))?;
            for (index, queue) in activation.queues.iter().enumerate() {
                if let Some(queue) = queue {
                    self.hand_over(index, queue)?;
                }
            }
        }
        let queues = activation.queues.into_iter().flatten().collect();
        let health = activation.health;
        let watch = Watch::new(&self.process, queues, self.gone.clone(), health.clone())?;
        self.watch = Some(Worker::spawn("share", health, watch)?);
        Ok(())
    }

    fn reset(&mut self) {
        self.watch = None;
        for index in self.running.drain(..) {
            // With its answer the process has stopped. One that is no more has, too.
            if let Err(cause) = self.process.get_vring_base(index) {
                tracing::debug!("share: {cause}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_is_gone_is_an_error_with_advice() {
        let (near, far) = UnixStream::pair().unwrap();
        drop(far);
        let memory = crate::memory::allocate_shared(&[(0, 0x1000)]).unwrap();
        let Err(error) = FileSystem::new(&memory, near, "tag") else {
            panic!("nobody was there");
        };
        assert!(error.to_string().contains("virtiofsd"), "{error}");
    }
}
