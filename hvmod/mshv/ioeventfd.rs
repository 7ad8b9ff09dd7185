// SPDX-License-Identifier: GPL-2.0

//! MSHV_IOEVENTFD: writes of a VP to device memory that become events, with no program involved.

use super::{partition::Partition, user, vp::State};
use crate::{
    hvabi::vp::RunPage,
    sys::eventfd::EventFd,
    tlfs::{
        errno,
        message::Instruction,
        mshv::{ioeventfd_flags, UserIoeventfd},
        store::{self, Store},
    },
};
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        Mutex,
    },
};

/// A write to look for.
struct Doorbell {
    gpa: u64,
    /// Bytes that are written, 0 if it does not matter.
    length: u32,
    /// The value that is written, if it matters.
    value: Option<u64>,
    event: EventFd,
}

impl Doorbell {
    fn collides(&self, other: &Doorbell) -> bool {
        self.gpa == other.gpa
            && self.length == other.length
            && (self.value.is_none() || other.value.is_none() || self.value == other.value)
    }

    fn is(&self, other: &Doorbell) -> bool {
        self.event.id() == other.event.id()
            && self.gpa == other.gpa
            && self.length == other.length
            && self.value == other.value
    }

    fn matches(&self, gpa: u64, store: &Store) -> bool {
        self.gpa == gpa
            && (self.length == 0 || self.length == u32::from(store.size))
            && self.value.is_none_or(|value| value == store.value)
    }
}

/// The doorbells of a partition.
#[pin_data]
pub(super) struct Doorbells {
    /// Number of them, so that a partition without any need not look.
    count: Atomic<usize>,
    #[pin]
    list: Mutex<KVVec<Doorbell>>,
}

impl Doorbells {
    pub(super) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            count: Atomic::new(0),
            list <- new_mutex!(KVVec::new()),
        })
    }

    /// Removes all.
    pub(super) fn clear(&self) {
        let taken = core::mem::take(&mut *self.list.lock());
        self.count.store(0, Relaxed);
        drop(taken);
    }

    fn assign(&self, doorbell: Doorbell) -> Result {
        let mut list = self.list.lock();
        if list.iter().any(|other| other.collides(&doorbell)) {
            return Err(EEXIST);
        }
        list.push(doorbell, GFP_KERNEL_ACCOUNT)?;
        self.count.store(list.len(), Relaxed);
        Ok(())
    }

    fn deassign(&self, doorbell: &Doorbell) -> Result {
        let mut list = self.list.lock();
        let index = list
            .iter()
            .position(|other| other.is(doorbell))
            .ok_or(ENOENT)?;
        let taken = list.remove(index).map_err(|_| ENOENT)?;
        self.count.store(list.len(), Relaxed);
        drop(list);
        drop(taken);
        Ok(())
    }
}

/// RFLAGS.TF: the guest wants to see each instruction.
const TRAP: u64 = 1 << 8;

impl Partition {
    /// If the exit is a write that somebody wants as an event: signals that, and completes the
    /// instruction.
    pub(super) fn ring_doorbell(&self, state: &mut State, instruction: &Instruction) -> bool {
        let run: &mut RunPage = &mut state.run;
        let write = run.access & 2 != 0;
        if !write || self.doorbells.count.load(Relaxed) == 0 || run.rflags & TRAP != 0 {
            return false;
        }
        let list = self.doorbells.list.lock();
        if !list.iter().any(|doorbell| doorbell.gpa == run.gpa) {
            return false;
        }
        let bytes = &instruction.bytes[..usize::from(instruction.count)];
        let Some(store) = store::decode(bytes, store::Mode::of(run), &run.gpr) else {
            return false;
        };
        let Some(doorbell) = list.iter().find(|d| d.matches(run.gpa, &store)) else {
            return false;
        };
        doorbell.event.signal();
        run.rip = store::Mode::of(run).advance(run.rip, store.length);
        state.retired = true;
        true
    }
}

/// Assigns or removes a doorbell.
pub(super) fn ioctl(partition: &Partition, arg: usize) -> Result<isize> {
    let args = user::read::<UserIoeventfd>(arg)?;
    if args.flags & !ioeventfd_flags::MASK != 0 || args.rsvd != [0; 4] {
        return Err(EINVAL);
    }
    // As in the kernel's driver, only memory.
    if args.flags & ioeventfd_flags::PIO != 0 {
        return Err(user::error(errno::EOPNOTSUPP));
    }
    let deassign = args.flags & ioeventfd_flags::DEASSIGN != 0;
    if !deassign {
        if !matches!(args.len, 0 | 1 | 2 | 4 | 8) {
            return Err(EINVAL);
        }
        args.addr.checked_add(u64::from(args.len)).ok_or(EINVAL)?;
    }
    let datamatch = args.flags & ioeventfd_flags::DATAMATCH != 0;
    let doorbell = Doorbell {
        gpa: args.addr,
        length: args.len,
        value: datamatch.then_some(args.datamatch),
        event: EventFd::get(args.fd)?,
    };
    if deassign {
        partition.doorbells.deassign(&doorbell)?;
    } else {
        partition.doorbells.assign(doorbell)?;
    }
    Ok(0)
}
