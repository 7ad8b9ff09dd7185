// SPDX-License-Identifier: GPL-2.0
//! Asking the guest for memory (virtio 1.2, section 5.5).
//!
//! What the guest gives stays with the partition: its pages are pinned for as long as it
//! lives, so that nothing can be done with them yet. They are counted.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use vmm_sys_util::eventfd::EventFd;

use super::ring::{Broken, Ring};
use super::worker::{Serve, Worker};
use super::{Activation, ActiveQueue, COMMON_FEATURES, Health, Kind, VirtioDevice};
use crate::device::bytes;

const QUEUE_SIZE: u16 = 128;
pub const PAGE: u64 = 4096;

/// What is asked for and what was given, in pages. Shared with whoever asks.
#[derive(Default)]
pub struct Account {
    wanted: AtomicU32,
    given: AtomicU32,
    health: Mutex<Option<Arc<Health>>>,
}

impl Account {
    /// Asks the guest to do without this many pages.
    pub fn ask(&self, pages: u32) {
        self.wanted.store(pages, Ordering::Release);
        let health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(health) = &*health {
            health.configuration_changed();
        }
    }

    /// How many it does without, by its own account.
    pub fn given(&self) -> u32 {
        self.given.load(Ordering::Acquire)
    }
}

pub struct Balloon {
    account: Arc<Account>,
    workers: Vec<Worker>,
}

impl Balloon {
    pub fn new(account: Arc<Account>) -> Self {
        Self {
            account,
            workers: Vec::new(),
        }
    }
}

/// Where in the configuration the driver writes what it gave.
const ACTUAL: u64 = 4;

impl VirtioDevice for Balloon {
    fn kind(&self) -> Kind {
        Kind::Balloon
    }

    fn features(&self) -> u64 {
        COMMON_FEATURES
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![QUEUE_SIZE; 2]
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let account = &self.account;
        let wanted = account.wanted.load(Ordering::Acquire).to_le_bytes();
        let config = [wanted, account.given().to_le_bytes()].concat();
        bytes::read(&config, offset, data);
    }

    fn write_config(&mut self, offset: u64, data: &[u8]) {
        if let (ACTUAL, Ok(data)) = (offset, data.try_into()) {
            let given = u32::from_le_bytes(data);
            self.account.given.store(given, Ordering::Release);
        }
    }

    fn activate(&mut self, activation: Activation) -> io::Result<()> {
        let health = activation.health;
        for ActiveQueue { ring, kick } in activation.queues.into_iter().flatten() {
            let server = Server { ring, kick };
            self.workers
                .push(Worker::spawn("balloon", health.clone(), server)?);
        }
        let mut known = self
            .account
            .health
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *known = Some(health);
        Ok(())
    }

    fn reset(&mut self) {
        self.workers.clear();
        self.account.given.store(0, Ordering::Release);
    }
}

/// Takes lists of pages and gives them back.
pub(super) struct Server {
    pub(super) ring: Ring,
    pub(super) kick: Arc<EventFd>,
}

impl Serve for Server {
    fn sources(&self) -> Vec<RawFd> {
        vec![self.kick.as_raw_fd()]
    }

    fn ready(&mut self, _: usize) -> Result<(), Broken> {
        self.ring.rung(&self.kick);
        self.ring.serve(&self.kick, |_, _| Ok(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::virtio::bench::Driver;

    #[test]
    fn the_driver_sees_what_is_wanted_and_says_what_it_gives() {
        let account = Arc::new(Account::default());
        let mut device = Balloon::new(account.clone());
        let mut driver = Driver::new(8);
        let (activation, kick) = driver.activation(0, 0, 2);
        device.activate(activation).unwrap();
        account.ask(512);
        let mut wanted = [0; 4];
        device.read_config(0, &mut wanted);
        assert_eq!(u32::from_le_bytes(wanted), 512);
        driver.chain(&[(0x8000, 1024, false)]);
        kick.write(1).unwrap();
        assert_eq!(driver.wait_used(), [(0, 0)]);
        device.write_config(ACTUAL, &256u32.to_le_bytes());
        assert_eq!(account.given(), 256);
        device.reset();
        assert_eq!(account.given(), 0);
    }
}
