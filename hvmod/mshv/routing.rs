// SPDX-License-Identifier: GPL-2.0

//! MSHV_SET_MSI_ROUTING: which message each interrupt number stands for.

use super::{partition::Partition, user};
use crate::tlfs::{
    hvcall::Interrupt,
    mshv::{UserIrqEntry, UserIrqTable, MAX_GUEST_IRQS},
    pod,
};
use kernel::prelude::*;

/// The message of an interrupt number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) address_lo: u32,
    pub(super) data: u32,
}

impl Route {
    /// The interrupt that it stands for, if it is one.
    pub(super) fn interrupt(&self) -> Option<Interrupt> {
        Interrupt::from_msi(self.address_lo, self.data).ok()
    }

    /// That it is level-triggered.
    pub(super) fn level(&self) -> bool {
        self.data & 1 << 15 != 0
    }
}

/// The routes of a partition, by interrupt number.
pub(super) struct Routes(KVVec<Option<Route>>);

impl Routes {
    pub(super) const fn new() -> Self {
        Self(KVVec::new())
    }

    /// That of `gsi`, if it has one.
    pub(super) fn get(&self, gsi: u32) -> Option<Route> {
        *self.0.get(gsi as usize)?
    }

    /// A table of checked entries.
    fn from_entries(entries: &[u8]) -> Result<Self> {
        let mut routes = KVVec::new();
        for offset in (0..entries.len()).step_by(size_of::<UserIrqEntry>()) {
            let entry: UserIrqEntry = pod::read_at(entries, offset).ok_or(EINVAL)?;
            if entry.gsi >= MAX_GUEST_IRQS || entry.address_hi != 0 {
                return Err(EINVAL);
            }
            let index = entry.gsi as usize;
            if routes.len() <= index {
                routes.resize(index + 1, None, GFP_KERNEL_ACCOUNT)?;
            }
            // Only one route for each number.
            if routes[index].is_some() {
                return Err(EINVAL);
            }
            routes[index] = Some(Route {
                address_lo: entry.address_lo,
                data: entry.data,
            });
        }
        Ok(Self(routes))
    }
}

/// Replaces all routes.
pub(super) fn ioctl(partition: &Partition, arg: usize) -> Result<isize> {
    let table = user::read::<UserIrqTable>(arg)?;
    if table.nr > MAX_GUEST_IRQS || table.rsvd != 0 {
        return Err(EINVAL);
    }
    let mut entries = user::buffer(table.nr as usize * size_of::<UserIrqEntry>())?;
    user::read_bytes(arg + size_of::<UserIrqTable>(), &mut entries)?;
    let routes = Routes::from_entries(&entries)?;

    let irqfds = partition.irqfds.lock();
    irqfds.reroute(&routes);
    *partition.routes.lock() = routes;
    Ok(0)
}
