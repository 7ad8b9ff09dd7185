// SPDX-License-Identifier: GPL-2.0
//! For tests: a driver's side of a queue, and a hypervisor that only remembers.

use std::collections::BTreeMap;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex};

use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::counters::QueueCounters;
use super::ring::{Broken, Place, Ring};
use super::{Activation, ActiveQueue, Health};
use crate::hypervisor::{Events, Failure, Message, Spare};
use crate::memory::{self, GuestMemory};

#[derive(Default)]
struct Recorded {
    messages: BTreeMap<u32, Message>,
    connected: BTreeMap<u32, i32>,
    doorbells: BTreeMap<u64, i32>,
}

/// What was asked of the hypervisor.
#[derive(Default)]
pub struct Recorder(Mutex<Recorded>);

impl Recorder {
    pub fn connected(&self) -> Vec<(u32, Message)> {
        let state = self.0.lock().unwrap();
        let numbers = state.connected.keys();
        numbers
            .map(|number| (*number, state.messages[number]))
            .collect()
    }

    pub fn doorbells(&self) -> Vec<u64> {
        self.0.lock().unwrap().doorbells.keys().copied().collect()
    }
}

impl Events for Recorder {
    fn route(&self, messages: &[(u32, Message)]) -> Result<(), Failure> {
        self.0.lock().unwrap().messages = messages.iter().copied().collect();
        Ok(())
    }
    fn connect(&self, event: &EventFd, number: u32) -> Result<(), Failure> {
        let mut state = self.0.lock().unwrap();
        assert!(
            state.messages.contains_key(&number),
            "{number} has no message"
        );
        let before = state.connected.insert(number, event.as_raw_fd());
        assert_eq!(before, None, "{number} is connected already");
        Ok(())
    }
    fn disconnect(&self, event: &EventFd, number: u32) -> Result<(), Failure> {
        let before = self.0.lock().unwrap().connected.remove(&number);
        assert_eq!(before, Some(event.as_raw_fd()));
        Ok(())
    }
    fn add_doorbell(&self, gpa: u64, event: &EventFd) -> Result<(), Failure> {
        let before = self
            .0
            .lock()
            .unwrap()
            .doorbells
            .insert(gpa, event.as_raw_fd());
        assert_eq!(before, None, "{gpa:#x} has a doorbell already");
        Ok(())
    }
    fn remove_doorbell(&self, gpa: u64, event: &EventFd) -> Result<(), Failure> {
        let before = self.0.lock().unwrap().doorbells.remove(&gpa);
        assert_eq!(before, Some(event.as_raw_fd()));
        Ok(())
    }
}

/// A hypervisor that remembers which memory guests do without, or cannot do that.
pub struct Keeper {
    able: bool,
    discarded: Mutex<Vec<(u64, u64)>>,
}

impl Keeper {
    pub fn new(able: bool) -> Self {
        Self {
            able,
            discarded: Mutex::default(),
        }
    }

    /// Address and size.
    pub fn discarded(&self) -> Vec<(u64, u64)> {
        self.discarded.lock().unwrap().clone()
    }
}

impl Spare for Keeper {
    fn discard(&self, gpa: u64, size: u64) -> Result<bool, Failure> {
        if self.able {
            self.discarded.lock().unwrap().push((gpa, size));
        }
        Ok(self.able)
    }
}

const SIZE: u64 = 1 << 20;
/// Where drivers' tables are; below [`DATA`] nothing else is.
const DESCRIPTORS: u64 = 0x1000;
const AVAILABLE: u64 = 0x3000;
const USED: u64 = 0x4000;

pub fn memory() -> GuestMemory {
    memory::allocate(&[(0, SIZE)]).unwrap()
}

/// A driver with one queue.
pub struct Driver {
    pub memory: GuestMemory,
    /// Where its tables are.
    base: u64,
    size: u16,
    next: u16,
    offered: u16,
    seen: u16,
}

impl Driver {
    pub fn new(size: u16) -> Self {
        Self::with_memory(size, SIZE)
    }

    pub fn with_memory(size: u16, memory: u64) -> Self {
        Self {
            memory: memory::allocate(&[(0, memory)]).unwrap(),
            base: 0,
            size,
            next: 0,
            offered: 0,
            seen: 0,
        }
    }

    /// Another queue in the memory of `other`.
    pub fn sharing(other: &Driver) -> Self {
        Self {
            memory: other.memory.clone(),
            base: other.base + 0x1_0000,
            ..Self::new(other.size)
        }
    }

    pub fn end(&self) -> u64 {
        SIZE
    }

    pub fn place(&self) -> Place {
        Place {
            size: self.size,
            descriptors: self.base + DESCRIPTORS,
            available: self.base + AVAILABLE,
            used: self.base + USED,
        }
    }

    pub fn ring(&self, event_idx: bool) -> Ring {
        let interrupt = Arc::new(EventFd::new(EFD_NONBLOCK).unwrap());
        let (memory, counters) = (self.memory.clone(), Arc::new(QueueCounters::default()));
        Ring::new(0, self.place(), memory, event_idx, interrupt, counters).unwrap()
    }

    pub fn ring_at(&self, place: Place) -> Result<Ring, Broken> {
        let interrupt = Arc::new(EventFd::new(EFD_NONBLOCK).unwrap());
        let (memory, counters) = (self.memory.clone(), Arc::new(QueueCounters::default()));
        Ring::new(0, place, memory, false, interrupt, counters)
    }

    /// Whether the device wants a doorbell for the next chain (virtio 1.2, section 2.7.10).
    pub fn is_to_ring(&self, event_idx: bool) -> bool {
        let used = self.base + USED;
        match event_idx {
            // What the device waits for is behind the ring's elements.
            true => self.get::<u16>(used + 4 + 8 * u64::from(self.size)) == self.offered,
            false => self.get::<u16>(used) & 1 == 0,
        }
    }

    /// All that a device with `queues` queues gets, the driver's being number `index`.
    pub fn activation(
        &self,
        features: u64,
        index: usize,
        queues: usize,
    ) -> (Activation, Arc<EventFd>) {
        let kick = Arc::new(EventFd::new(EFD_NONBLOCK).unwrap());
        let mut all: Vec<_> = (0..queues).map(|_| None).collect();
        all[index] = Some(ActiveQueue {
            ring: self.ring(false),
            kick: kick.clone(),
        });
        let changed = Arc::new(EventFd::new(EFD_NONBLOCK).unwrap());
        let activation = Activation {
            memory: self.memory.clone(),
            features,
            queues: all,
            health: Arc::new(Health::new("device".into(), changed)),
        };
        (activation, kick)
    }

    fn put<T: vm_memory::ByteValued>(&self, at: u64, value: T) {
        self.memory.write_obj(value, GuestAddress(at)).unwrap();
    }

    fn get<T: vm_memory::ByteValued>(&self, at: u64) -> T {
        self.memory.read_obj(GuestAddress(at)).unwrap()
    }

    fn descriptor(&self, at: u64, (address, length, write): (u64, u32, bool), next: Option<u16>) {
        self.put(at, address);
        self.put(at + 8, length);
        self.put(at + 12, u16::from(next.is_some()) | u16::from(write) << 1);
        self.put(at + 14, next.unwrap_or(0));
    }

    /// Offers the chain of these `(address, length, writable)`.
    pub fn chain(&mut self, parts: &[(u64, u32, bool)]) {
        let head = self.next % self.size;
        for (index, part) in parts.iter().enumerate() {
            let at = self.next % self.size;
            self.next = (at + 1) % self.size;
            let next = (index + 1 < parts.len()).then_some(self.next);
            self.descriptor(self.base + DESCRIPTORS + 16 * u64::from(at), *part, next);
        }
        self.offer(head);
    }

    /// The same, by a table of its own at `table`.
    pub fn indirect(&mut self, table: u64, parts: &[(u64, u32, bool)]) {
        for (index, part) in parts.iter().enumerate() {
            let next = (index + 1 < parts.len()).then_some(index as u16 + 1);
            self.descriptor(table + 16 * index as u64, *part, next);
        }
        let head = self.next % self.size;
        self.next += 1;
        let at = self.base + DESCRIPTORS + 16 * u64::from(head);
        self.descriptor(at, (table, 16 * parts.len().max(1) as u32, false), None);
        self.put(at + 12, 4u16);
        self.offer(head);
    }

    pub fn offer(&mut self, head: u16) {
        self.put(
            self.base + AVAILABLE + 4 + 2 * u64::from(self.offered % self.size),
            head,
        );
        self.offered = self.offered.wrapping_add(1);
        self.set_available(self.offered);
    }

    pub fn set_available(&self, index: u16) {
        self.put(self.base + AVAILABLE + 2, index);
    }

    /// Makes a descriptor go on at another.
    pub fn link(&self, from: u16, to: u16) {
        let at = self.base + DESCRIPTORS + 16 * u64::from(from);
        let flags: u16 = self.get(at + 12);
        self.put(at + 12, flags | 1);
        self.put(at + 14, to);
    }

    pub fn want_interrupts(&self, event_idx: bool, wanted: bool) {
        if event_idx {
            let event: u16 = self.get(self.base + USED + 2);
            let event = if wanted {
                event
            } else {
                event.wrapping_sub(100)
            };
            self.put(self.base + AVAILABLE + 4 + 2 * u64::from(self.size), event);
        } else {
            self.put(self.base + AVAILABLE, u16::from(!wanted));
        }
    }

    pub fn used_index(&self) -> u16 {
        self.get(self.base + USED + 2)
    }

    /// What came back since the last time: `(head, bytes)`.
    pub fn used(&mut self) -> Vec<(u32, u32)> {
        let end: u16 = self.get(self.base + USED + 2);
        let mut used = Vec::new();
        while self.seen != end {
            let at = self.base + USED + 4 + 8 * u64::from(self.seen % self.size);
            used.push((self.get(at), self.get(at + 4)));
            self.seen = self.seen.wrapping_add(1);
        }
        used
    }

    /// Waits until something came back.
    pub fn wait_used(&mut self) -> Vec<(u32, u32)> {
        for _ in 0..5000 {
            let used = self.used();
            if !used.is_empty() {
                return used;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        panic!("nothing came back");
    }

    pub fn write(&self, at: u64, data: &[u8]) {
        self.memory.write_slice(data, GuestAddress(at)).unwrap();
    }

    pub fn read(&self, at: u64, size: usize) -> Vec<u8> {
        let mut data = vec![0; size];
        self.memory.read_slice(&mut data, GuestAddress(at)).unwrap();
        data
    }
}
