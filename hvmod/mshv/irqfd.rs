// SPDX-License-Identifier: GPL-2.0

//! MSHV_IRQFD: eventfds that, when signalled, assert an interrupt.

use super::{
    partition::Partition,
    routing::{Route, Routes},
    user,
};
use crate::{
    sys::eventfd::{self, EventFd, Watch, Watcher},
    tlfs::mshv::{irqfd_flags, UserIrqfd},
};
use kernel::{
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        Arc,
    },
};

/// A [`Route`] as one word, so that it can be read where no lock can be taken: 0 is none, else bit
/// 63 is set, bits 32 to 62 are the address (whose top bit says nothing), 0 to 31 the data.
#[derive(Clone, Copy)]
struct Packed(u64);

impl From<Option<Route>> for Packed {
    fn from(route: Option<Route>) -> Self {
        Packed(route.map_or(0, |route| {
            1 << 63 | u64::from(route.address_lo & 0x7fff_ffff) << 32 | u64::from(route.data)
        }))
    }
}

impl From<Packed> for Option<Route> {
    fn from(packed: Packed) -> Self {
        (packed.0 != 0).then_some(Route {
            address_lo: (packed.0 >> 32) as u32 & 0x7fff_ffff,
            data: packed.0 as u32,
        })
    }
}

/// An eventfd that is an interrupt.
pub(super) struct Irqfd {
    partition: Arc<Partition>,
    gsi: u32,
    route: Atomic<u64>,
    /// To be signalled when a VP acknowledges the interrupt.
    resample: Option<EventFd>,
}

impl Irqfd {
    fn route(&self) -> Option<Route> {
        Packed(self.route.load(Relaxed)).into()
    }

    fn set_route(&self, route: Option<Route>) {
        self.route.store(Packed::from(route).0, Relaxed);
    }
}

impl Watcher for Irqfd {
    fn event(&self) {
        if let Some(interrupt) = self.route().and_then(|route| route.interrupt()) {
            // Nobody is there to be told of an error, as when no VP has the destination.
            let _ = self.partition.assert_interrupt(interrupt);
        }
    }

    fn hangup(&self) {
        let taken = self
            .partition
            .irqfds
            .lock()
            .take_one(|watch| core::ptr::eq(Arc::as_ptr(watch.watcher()), self));
        // If it is not there any more, whoever took it waits for this to end.
        if let Some(watch) = taken {
            watch.free_in_hangup();
        }
    }
}

/// The irqfds of a partition.
pub(super) struct Irqfds(KVVec<Watch<Irqfd>>);

impl Irqfds {
    pub(super) const fn new() -> Self {
        Self(KVVec::new())
    }

    /// Gives each its new route.
    pub(super) fn reroute(&self, routes: &Routes) {
        for watch in self.0.iter() {
            let irqfd = watch.watcher();
            irqfd.set_route(routes.get(irqfd.gsi));
        }
    }

    fn take_one(&mut self, wanted: impl Fn(&Watch<Irqfd>) -> bool) -> Option<Watch<Irqfd>> {
        let index = self.0.iter().position(wanted)?;
        self.0.remove(index).ok()
    }
}

impl Partition {
    /// Tells those who want to know that a VP acknowledged level-triggered interrupt `vector`.
    /// False if there is nobody.
    pub(super) fn acknowledge(&self, vector: u8) -> bool {
        let mut told = false;
        for watch in self.irqfds.lock().0.iter() {
            let irqfd = watch.watcher();
            let Some(resample) = &irqfd.resample else {
                continue;
            };
            if irqfd
                .route()
                .is_some_and(|r| r.level() && r.data as u8 == vector)
            {
                resample.signal();
                told = true;
            }
        }
        told
    }
}

/// Assigns or removes an irqfd.
pub(super) fn ioctl(partition: &Arc<Partition>, arg: usize) -> Result<isize> {
    let args = user::read::<UserIrqfd>(arg)?;
    if args.flags & !irqfd_flags::MASK != 0 {
        return Err(EINVAL);
    }
    if args.flags & irqfd_flags::DEASSIGN != 0 {
        deassign(partition, &args)?;
    } else {
        assign(partition, &args)?;
    }
    Ok(0)
}

fn assign(partition: &Arc<Partition>, args: &UserIrqfd) -> Result {
    let resample = if args.flags & irqfd_flags::RESAMPLE != 0 {
        // EBADF for the eventfd itself comes first.
        EventFd::get(args.fd)?;
        Some(EventFd::get(args.resamplefd)?)
    } else {
        None
    };
    let wants_level = resample.is_some();
    let irqfd = Arc::new(
        Irqfd {
            partition: partition.clone(),
            gsi: args.gsi,
            route: Atomic::new(0),
            resample,
        },
        GFP_KERNEL_ACCOUNT,
    )?;
    let mut watch = Watch::new(args.fd, irqfd.clone())?;

    let mut irqfds = partition.irqfds.lock();
    if irqfds.0.iter().any(|other| other.id() == watch.id()) {
        return Err(EBUSY);
    }
    let route = partition.routes.lock().get(args.gsi);
    if wants_level && !route.is_some_and(|route| route.level()) {
        return Err(EINVAL);
    }
    irqfd.set_route(route);
    irqfds.0.reserve(1, GFP_KERNEL_ACCOUNT)?;
    let pending = watch.start();
    irqfds.0.push_within_capacity(watch).map_err(|_| ENOMEM)?;
    drop(irqfds);
    if pending {
        irqfd.event();
    }
    Ok(())
}

fn deassign(partition: &Partition, args: &UserIrqfd) -> Result {
    let eventfd = EventFd::get(args.fd)?;
    loop {
        let taken = partition
            .irqfds
            .lock()
            .take_one(|watch| watch.id() == eventfd.id() && watch.watcher().gsi == args.gsi);
        // Dropped outside of the lock: this waits for a hangup, which takes it.
        match taken {
            Some(watch) => drop(watch),
            None => return Ok(()),
        }
    }
}

/// Removes all irqfds. When this returns none asserts anything any more.
pub(super) fn remove_all(partition: &Partition) {
    let taken = core::mem::replace(&mut *partition.irqfds.lock(), Irqfds::new());
    drop(taken);
    // A hangup may have taken its own.
    eventfd::flush();
}
