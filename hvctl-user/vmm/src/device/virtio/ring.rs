// SPDX-License-Identifier: GPL-2.0
//! A queue (virtio 1.2, section 2.7, split virtqueues) and what is in it.
//!
//! virtio-queue parses it; here is checked what it leaves to its users.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use virtio_bindings::virtio_ring::VRING_AVAIL_F_NO_INTERRUPT;
use virtio_queue::{DescriptorChain, Error, Queue, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemory as _};
use vmm_sys_util::eventfd::EventFd;

use super::counters::QueueCounters;
use crate::memory::GuestMemory;

/// What a driver did that no driver may do. The device cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    #[error("its driver put queue {0} outside of memory")]
    Place(usize),
    #[error("the ring of a queue is damaged: {0}")]
    Ring(#[from] Error),
    #[error("a chain of buffers has no end, or an unreadable descriptor")]
    Chain,
    #[error("a buffer at {0:#x} of {1} bytes is not in memory")]
    Buffer(u64, u32),
    #[error("a buffer to be read follows one to be written")]
    Order,
    #[error("a request lacks {0}")]
    Short(&'static str),
    #[error("{0}")]
    Backend(String),
}

/// Where a queue is: as the driver wrote it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Place {
    pub size: u16,
    pub descriptors: u64,
    pub available: u64,
    pub used: u64,
}

impl Place {
    /// That all of it is in memory.
    fn is_in(&self, memory: &GuestMemory) -> bool {
        let size = usize::from(self.size);
        [
            (self.descriptors, 16 * size),
            (self.available, 6 + 2 * size),
            (self.used, 6 + 8 * size),
        ]
        .iter()
        .all(|&(address, length)| memory.check_range(GuestAddress(address), length))
    }
}

/// Pieces of guest memory. Having one proves that all of it is in memory.
#[derive(Debug, Default, Clone)]
pub struct Buffers {
    parts: VecDeque<(GuestAddress, usize)>,
    length: usize,
}

impl Buffers {
    fn push(&mut self, address: GuestAddress, length: usize) {
        if length != 0 {
            self.parts.push_back((address, length));
            self.length += length;
        }
    }

    pub fn len(&self) -> usize {
        self.length
    }

    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    pub fn parts(&self) -> impl Iterator<Item = (GuestAddress, usize)> + '_ {
        self.parts.iter().copied()
    }

    /// Takes the first `length` bytes away; `None`, and nothing is taken, if it has less.
    pub fn split_front(&mut self, length: usize) -> Option<Buffers> {
        let mut left = length;
        let mut front = Buffers::default();
        if length > self.length {
            return None;
        }
        self.length -= length;
        while left != 0 {
            let (address, size) = self.parts.pop_front()?;
            let taken = size.min(left);
            front.push(address, taken);
            if taken < size {
                // Inside a buffer that is in memory: no overflow.
                let rest = GuestAddress(address.0 + taken as u64);
                self.parts.push_front((rest, size - taken));
            }
            left -= taken;
        }
        Some(front)
    }

    /// Takes the last `length` bytes away.
    pub fn split_back(&mut self, length: usize) -> Option<Buffers> {
        let mut front = self.clone();
        let before = front.length.checked_sub(length)?;
        let kept = front.split_front(before)?;
        *self = kept;
        Some(front)
    }

    /// Copies from the beginning; returns how much.
    pub fn read(&self, memory: &GuestMemory, data: &mut [u8]) -> usize {
        let mut done = 0;
        for (address, length) in self.parts() {
            let end = data.len().min(done + length);
            // It is in memory by this type's rule.
            let _ = memory.read_slice(&mut data[done..end], address);
            done = end;
        }
        done
    }

    /// Copies to the beginning; returns how much.
    pub fn write(&self, memory: &GuestMemory, data: &[u8]) -> usize {
        let mut done = 0;
        for (address, length) in self.parts() {
            let end = data.len().min(done + length);
            let _ = memory.write_slice(&data[done..end], address);
            done = end;
        }
        done
    }
}

/// A chain of buffers: what the device may read, then what it may write.
#[derive(Debug)]
pub struct Chain {
    pub head: u16,
    pub readable: Buffers,
    pub writable: Buffers,
}

impl Chain {
    fn check(memory: &GuestMemory, chain: DescriptorChain<&GuestMemory>) -> Result<Self, Broken> {
        let mut checked = Chain {
            head: chain.head_index(),
            readable: Buffers::default(),
            writable: Buffers::default(),
        };
        let mut writes = false;
        // The iterator ends where it cannot go on: at a loop, and at what is not in memory.
        let mut ended = false;
        for descriptor in chain {
            let (address, length) = (descriptor.addr(), descriptor.len());
            if !memory.check_range(address, length as usize) {
                return Err(Broken::Buffer(address.0, length));
            }
            if descriptor.is_write_only() {
                writes = true;
                checked.writable.push(address, length as usize);
            } else if writes {
                return Err(Broken::Order);
            } else {
                checked.readable.push(address, length as usize);
            }
            ended = !descriptor.has_next();
        }
        if ended {
            Ok(checked)
        } else {
            Err(Broken::Chain)
        }
    }
}

/// A queue that is in use.
pub struct Ring {
    queue: Queue,
    memory: GuestMemory,
    interrupt: Arc<EventFd>,
    counters: Arc<QueueCounters>,
    index: usize,
}

impl Ring {
    pub fn new(
        index: usize,
        place: Place,
        memory: GuestMemory,
        event_idx: bool,
        interrupt: Arc<EventFd>,
        counters: Arc<QueueCounters>,
    ) -> Result<Self, Broken> {
        if !place.is_in(&memory) {
            return Err(Broken::Place(index));
        }
        let mut queue = Queue::new(place.size)?;
        queue.try_set_desc_table_address(GuestAddress(place.descriptors))?;
        queue.try_set_avail_ring_address(GuestAddress(place.available))?;
        queue.try_set_used_ring_address(GuestAddress(place.used))?;
        queue.set_event_idx(event_idx);
        queue.set_ready(true);
        Ok(Self {
            queue,
            memory,
            interrupt,
            counters,
            index,
        })
    }

    pub fn index(&self) -> usize {
        self.index
    }

    pub fn size(&self) -> u16 {
        self.queue.size()
    }

    pub fn place(&self) -> Place {
        Place {
            size: self.queue.size(),
            descriptors: self.queue.desc_table(),
            available: self.queue.avail_ring(),
            used: self.queue.used_ring(),
        }
    }

    /// The event that is the queue's interrupt.
    pub fn interrupt(&self) -> &Arc<EventFd> {
        &self.interrupt
    }

    pub fn counters(&self) -> &QueueCounters {
        &self.counters
    }

    pub fn memory(&self) -> &GuestMemory {
        &self.memory
    }

    /// The next chain that the driver has made available.
    pub fn pop(&mut self) -> Result<Option<Chain>, Broken> {
        let Some(chain) = self.queue.iter(&self.memory)?.next() else {
            return Ok(None);
        };
        self.counters.chains.add(1);
        Chain::check(&self.memory, chain).map(Some)
    }

    /// Gives a chain back with `written` bytes in it. The driver is not told yet.
    pub fn complete(&mut self, head: u16, written: u32) -> Result<(), Broken> {
        Ok(self.queue.add_used(&self.memory, head, written)?)
    }

    /// Tells the driver of what was given back, if it wants to know.
    pub fn notify(&mut self) -> Result<(), Broken> {
        if !self.wants_interrupt()? {
            self.counters.suppressed.add(1);
            return Ok(());
        }
        self.counters.interrupts.add(1);
        // The counter cannot overflow: an interrupt or a reset empties it.
        let _ = self.interrupt.write(1);
        Ok(())
    }

    fn wants_interrupt(&mut self) -> Result<bool, Broken> {
        let wanted = self.queue.needs_notification(&self.memory)?;
        if self.queue.event_idx_enabled() {
            return Ok(wanted);
        }
        // The queue leaves this to us.
        let flags: u16 = self
            .memory
            .load(GuestAddress(self.queue.avail_ring()), Ordering::Relaxed)
            .map_err(Error::GuestMemory)?;
        Ok(u32::from(u16::from_le(flags)) & VRING_AVAIL_F_NO_INTERRUPT == 0)
    }

    /// Goes on behind what another, who is no more, answered in the ring's order. An interrupt
    /// that it owed comes now.
    pub fn take_over(&mut self) -> Result<(), Broken> {
        let answered = self.queue.used_idx(&self.memory, Ordering::Acquire)?.0;
        self.queue.set_next_avail(answered);
        self.queue.set_next_used(answered);
        self.counters.interrupts.add(1);
        // The counter cannot overflow: an interrupt or a reset empties it.
        let _ = self.interrupt.write(1);
        Ok(())
    }

    /// The driver need not ring while we look anyway.
    pub fn disable_doorbell(&mut self) -> Result<(), Broken> {
        Ok(self.queue.disable_notification(&self.memory)?)
    }

    /// Notes that the doorbell woke us.
    pub fn rung(&self, kick: &EventFd) {
        if kick.read().is_ok() {
            self.counters.doorbells.add(1);
        }
    }

    /// Serves what is there, each chain by `answer`, which says how many bytes it wrote. No
    /// more than a queue full: then it rings again by itself.
    pub fn serve(
        &mut self,
        kick: &EventFd,
        mut answer: impl FnMut(&GuestMemory, &Chain) -> Result<u32, Broken>,
    ) -> Result<(), Broken> {
        self.disable_doorbell()?;
        let mut served = 0;
        while served < self.size() {
            match self.pop()? {
                Some(chain) => {
                    let written = answer(&self.memory, &chain)?;
                    self.complete(chain.head, written)?;
                    served += 1;
                }
                None if self.enable_doorbell()? => self.disable_doorbell()?,
                None => break,
            }
        }
        if served == self.size() {
            // The counter cannot overflow: we are the ones that read it.
            let _ = kick.write(1);
        }
        if served != 0 { self.notify() } else { Ok(()) }
    }

    /// The driver is to ring again; whether there is more already.
    pub fn enable_doorbell(&mut self) -> Result<bool, Broken> {
        Ok(self.queue.enable_notification(&self.memory)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::virtio::bench::{Driver, memory};
    use vmm_sys_util::eventfd::EFD_NONBLOCK;

    #[test]
    fn buffers_split_anywhere() {
        let memory = memory();
        let mut buffers = Buffers::default();
        buffers.push(GuestAddress(0x1000), 10);
        buffers.push(GuestAddress(0x2000), 0);
        buffers.push(GuestAddress(0x3000), 6);
        buffers.write(&memory, b"0123456789abcdef");
        for at in 0..=16 {
            let mut back = buffers.clone();
            let front = back.split_front(at).unwrap();
            let text = |buffers: &Buffers| {
                let mut data = [0; 20];
                let size = buffers.read(&memory, &mut data);
                data[..size].to_vec()
            };
            assert_eq!([text(&front), text(&back)].concat(), b"0123456789abcdef");
            assert_eq!((front.len(), back.len()), (at, 16 - at));
            let mut front = buffers.clone();
            let back = front.split_back(at).unwrap();
            assert_eq!(text(&back), &b"0123456789abcdef"[16 - at..]);
        }
        assert!(buffers.split_front(17).is_none() && buffers.len() == 16);
        assert!(buffers.split_back(17).is_none() && buffers.len() == 16);
    }

    #[test]
    fn a_good_chain_comes_whole() {
        let mut driver = Driver::new(8);
        driver.chain(&[(0x8000, 16, false), (0x9000, 512, false), (0xa000, 1, true)]);
        let mut ring = driver.ring(false);
        let chain = ring.pop().unwrap().unwrap();
        assert_eq!((chain.readable.len(), chain.writable.len()), (528, 1));
        assert!(ring.pop().unwrap().is_none());
        ring.complete(chain.head, 1).unwrap();
        assert_eq!(driver.used(), [(chain.head.into(), 1)]);
    }

    #[test]
    fn what_no_driver_may_do_is_found() {
        let broken = |build: &dyn Fn(&mut Driver)| {
            let mut driver = Driver::new(8);
            build(&mut driver);
            driver.ring(false).pop().unwrap_err()
        };
        let outside = broken(&|driver| driver.chain(&[(1 << 40, 16, false)]));
        assert!(matches!(outside, Broken::Buffer(0x100_0000_0000, 16)));
        let across = broken(&|driver| driver.chain(&[(driver.end() - 8, 16, false)]));
        assert!(matches!(across, Broken::Buffer(..)));
        let wrapped = broken(&|driver| driver.chain(&[(u64::MAX - 4, 16, false)]));
        assert!(matches!(wrapped, Broken::Buffer(..)));
        let order = broken(&|driver| driver.chain(&[(0x8000, 1, true), (0x9000, 1, false)]));
        assert!(matches!(order, Broken::Order));
        let endless = broken(&|driver| {
            driver.chain(&[(0x8000, 16, false), (0x9000, 16, false)]);
            driver.link(1, 0);
        });
        assert!(matches!(endless, Broken::Chain));
        let beyond = broken(&|driver| {
            driver.chain(&[(0x8000, 16, false)]);
            driver.link(0, 99);
        });
        assert!(matches!(beyond, Broken::Chain));
        let head = broken(&|driver| driver.offer(99));
        assert!(matches!(head, Broken::Chain));
        let ahead = broken(&|driver| driver.set_available(100));
        assert!(matches!(ahead, Broken::Ring(_)));
    }

    #[test]
    fn indirect_tables_are_followed_once() {
        let mut driver = Driver::new(8);
        driver.indirect(0x6000, &[(0x8000, 16, false), (0x9000, 512, true)]);
        let chain = driver.ring(false).pop().unwrap().unwrap();
        assert_eq!((chain.readable.len(), chain.writable.len()), (16, 512));
        let mut driver = Driver::new(8);
        driver.indirect(1 << 40, &[]);
        assert!(matches!(driver.ring(false).pop(), Err(Broken::Chain)));
    }

    #[test]
    fn a_queue_outside_of_memory_is_refused() {
        let driver = Driver::new(8);
        for shift in 0..3 {
            let mut place = driver.place();
            let field = [
                &mut place.descriptors,
                &mut place.available,
                &mut place.used,
            ];
            *field.into_iter().nth(shift).unwrap() = driver.end() - 16;
            assert!(matches!(driver.ring_at(place), Err(Broken::Place(0))));
        }
    }

    #[test]
    fn doorbells_are_wanted_while_nobody_looks() {
        for event_idx in [false, true] {
            let mut driver = Driver::new(8);
            let mut ring = driver.ring(event_idx);
            let kick = EventFd::new(EFD_NONBLOCK).unwrap();
            driver.chain(&[(0x8000, 16, true)]);
            driver.chain(&[(0x9000, 16, true)]);
            let mut wanted = Vec::new();
            let served = ring.serve(&kick, |_, _| {
                wanted.push(driver.is_to_ring(event_idx));
                Ok(0)
            });
            served.unwrap();
            assert_eq!(wanted, [false, false], "event-index {event_idx}");
            assert!(driver.is_to_ring(event_idx), "event-index {event_idx}");
        }
    }

    #[test]
    fn interrupts_come_when_they_are_wanted() {
        for event_idx in [false, true] {
            let mut driver = Driver::new(8);
            let mut ring = driver.ring(event_idx);
            let mut interrupts = |wanted| {
                driver.want_interrupts(event_idx, wanted);
                driver.chain(&[(0x8000, 16, true)]);
                let chain = ring.pop().unwrap().unwrap();
                ring.complete(chain.head, 0).unwrap();
                ring.notify().unwrap();
                ring.interrupt().read().is_ok()
            };
            assert!(interrupts(true), "event-index {event_idx}");
            assert!(!interrupts(false), "event-index {event_idx}");
            let counters = ring.counters();
            assert_eq!(
                (counters.interrupts.get(), counters.suppressed.get()),
                (1, 1)
            );
        }
    }
}
