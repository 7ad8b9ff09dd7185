// SPDX-License-Identifier: GPL-2.0

//! The calls of `linux/mshv.h`: partitions, their VPs and memory.
//!
//! | module | what |
//! |---|---|
//! | [`partition`] | a partition and its file |
//! | [`vp`], [`run`] | a VP and its file, and how it runs |
//! | [`freeze`] | time that stands still |
//! | [`registers`], [`register_page`], [`vp_state`] | state of a VP, read and written |
//! | [`region`], [`guest`] | memory of a partition, and reading it as the VP would |
//! | [`tracking`] | which of its pages a partition touched |
//! | [`private`] | memory that only the partition can reach |
//! | [`interrupt`], [`routing`], [`irqfd`] | interrupts for a partition |
//! | [`ioeventfd`] | writes of a partition that become events |
//! | [`intercept`] | what of a VP its program decides: CPUID, MSRs, exceptions |
//! | [`interface`], [`guest_call`] | what a guest that knows Hyper-V finds: MSRs, pages, hypercalls |
//! | [`synic`] | messages, events and timers for such a guest |
//! | [`hvcall`] | the hypercalls of Hyper-V that a program may make |
//! | [`registry`] | which partitions exist |
//! | [`user`] | arguments in the program's memory |
//!
//! What the structures of Hyper-V mean is [`tlfs`](crate::tlfs)'s business; what happens in the
//! machine is hvcore's.
//!
//! # Lock order
//!
//! From the first taken to the last; each is a mutex, and who waits for one of the first two can be
//! killed.
//!
//! 1. `Vp::calls`: one call on a VP's file at a time.
//! 2. `Partition::setup`: one call on the partition's file at a time.
//! 3. `Vp::state`: the VP's registers. Held while the VP runs, not while it sleeps. Of one VP only.
//! 4. `Partition::irqfds`.
//! 5. `Partition::routes`.
//! 6. `Partition::interface`.
//! 7. `Partition::regions`, `Partition::doorbells`, `Partition::installed`.
//! 8. [`registry`]'s.
//!
//! Linux's lock of CPU hotplug comes behind the first seven
//! ([`sync_all`](crate::hypercall::sync_all)): what is told of CPUs that come and go takes none of them.
//!
//! The lock of an eventfd's wait queue is held where an irqfd asserts an interrupt, with interrupts
//! off: [`interrupt`] takes none of the locks above.
//!
//! # Life
//!
//! The partition's file and each VP's hold an `Arc<Partition>`; a VP's object belongs to its
//! partition. When the last file is closed no VP can be running, since running needs a file; then
//! the partition is destroyed in hvcore, all LPs are synced, and the memory is unpinned. An irqfd
//! has an `Arc<Partition>` too: they end when the partition's own file is closed, as the kernel's
//! driver has it.

mod freeze;
mod guest;
mod guest_call;
mod hvcall;
mod intercept;
mod interface;
mod interrupt;
mod ioeventfd;
mod irqfd;
mod machine;
mod partition;
mod private;
mod region;
mod register_page;
mod registers;
mod registry;
mod routing;
mod run;
mod synic;
mod tracking;
mod user;
mod vp;
mod vp_state;

use crate::{
    sys::{
        eventfd,
        inject::{self, Step},
        partitions, wait,
    },
    tlfs::mshv as uapi,
};
use kernel::prelude::*;

pub(crate) use registry::{
    partition_count, partition_info, private_bytes, shared_bytes, vp_info, wake_all, Entry,
};

/// Exists while the calls can be made.
pub(crate) struct Service(());

impl Service {
    /// Makes them possible. One at a time.
    pub(crate) fn new() -> Result<Self> {
        inject::step(Step::Service)?;
        partitions::init();
        eventfd::init()?;
        wait::init();
        Ok(Self(()))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Each partition keeps the module loaded, so none is left.
        wait::exit();
        eventfd::exit();
    }
}

/// An ioctl of the device.
pub(crate) fn device_ioctl(cmd: u32, arg: usize) -> Result<isize> {
    match cmd {
        uapi::CREATE_PARTITION => partition::create(arg),
        uapi::ROOT_HVCALL => hvcall::passthrough(hvcall::Target::Root, arg),
        _ => Err(ENOTTY),
    }
}
