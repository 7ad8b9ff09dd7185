// SPDX-License-Identifier: GPL-2.0
//! Queues that the root's kernel serves (vhost): it takes the driver's doorbell and signals
//! its interrupt, and no thread of ours wakes for either.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use vhost::vhost_kern::VhostKernBackend;
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use vm_memory::{GuestMemory as _, GuestMemoryRegion};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::ring::Broken;
use super::worker::Serve;
use super::{ActiveQueue, COMMON_FEATURES};
use crate::memory::GuestMemory;

/// How vhost devices get at guest memory.
pub type Memory = Arc<GuestMemory>;

pub fn failed(call: &'static str) -> impl FnOnce(vhost::Error) -> io::Error {
    move |cause| io::Error::other(format!("vhost, {call}: {cause}"))
}

/// What to say of a device of vhost's that cannot be opened, and of its module.
pub fn closed(path: &str, module: &str, cause: vhost::Error) -> io::Error {
    let hint = match &cause {
        vhost::Error::VhostOpen(cause) if cause.kind() == io::ErrorKind::PermissionDenied => {
            "this user may not; its owner and mode say who may".into()
        }
        _ => format!("'modprobe {module}' makes it"),
    };
    io::Error::other(format!("cannot open {path}: {cause}; {hint}"))
}

/// Takes a fresh vhost device for our own and shows it the guest's memory.
pub fn own(backend: &impl VhostBackend, memory: &GuestMemory) -> io::Result<()> {
    backend.set_owner().map_err(failed("set owner"))?;
    let regions: Vec<_> = memory
        .iter()
        .map(|region| VhostUserMemoryRegionInfo {
            guest_phys_addr: region.start_addr().0,
            memory_size: region.len(),
            userspace_addr: region.as_ptr() as u64,
            mmap_offset: 0,
            mmap_handle: -1,
        })
        .collect();
    backend
        .set_mem_table(&regions)
        .map_err(failed("set memory table"))
}

/// Of `wanted` and of what all our devices have, what the kernel can do.
pub fn features(backend: &impl VhostBackend, wanted: u64) -> io::Result<u64> {
    let has = backend.get_features().map_err(failed("get features"))?;
    Ok(has & (COMMON_FEATURES | wanted))
}

/// Says where a fresh queue is.
pub fn describe(
    backend: &impl VhostBackend,
    index: usize,
    config: &VringConfigData,
) -> io::Result<()> {
    backend
        .set_vring_num(index, config.queue_size)
        .map_err(failed("set queue size"))?;
    backend
        .set_vring_base(index, 0)
        .map_err(failed("set queue base"))?;
    backend
        .set_vring_addr(index, config)
        .map_err(failed("set queue address"))
}

/// Hands a queue to the kernel as its number `index`; it does not serve it yet. The kernel
/// signals `error` if the driver breaks the queue.
pub fn hand_over(
    backend: &impl VhostKernBackend,
    index: usize,
    queue: &ActiveQueue,
    error: &EventFd,
) -> io::Result<()> {
    let place = queue.ring.place();
    let config = VringConfigData {
        queue_max_size: place.size,
        queue_size: place.size,
        flags: 0,
        desc_table_addr: place.descriptors,
        used_ring_addr: place.used,
        avail_ring_addr: place.available,
        log_addr: None,
    };
    describe(backend, index, &config)?;
    backend
        .set_vring_call(index, queue.ring.interrupt())
        .map_err(failed("set interrupt"))?;
    backend
        .set_vring_err(index, error)
        .map_err(failed("set error event"))?;
    backend
        .set_vring_kick(index, &queue.kick)
        .map_err(failed("set doorbell"))
}

/// Waits for the kernel to find a queue broken.
pub struct Watch {
    errors: Vec<EventFd>,
}

impl Watch {
    pub fn new(queues: usize) -> io::Result<Self> {
        let event = |_| EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK);
        let errors = (0..queues).map(event).collect::<io::Result<_>>()?;
        Ok(Self { errors })
    }

    pub fn error(&self, index: usize) -> &EventFd {
        &self.errors[index]
    }
}

impl Serve for Watch {
    fn sources(&self) -> Vec<RawFd> {
        self.errors.iter().map(AsRawFd::as_raw_fd).collect()
    }

    fn ready(&mut self, source: usize) -> Result<(), Broken> {
        let what = format!("the kernel finds queue {source} broken");
        Err(Broken::Backend(what))
    }
}
