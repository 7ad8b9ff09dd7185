// SPDX-License-Identifier: GPL-2.0
//! Asking the guest for memory (virtio 1.2, section 5.5).
//!
//! What the guest gives goes to the root, in units of 2 MiB: pages are small, but the root's and
//! the guest's are kept together in large ones, and a part of one is of no use to anybody.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hvmod_ioctls::DISCARD_UNIT;
use vm_memory::{GuestAddress, GuestMemory as _};

use super::ring::Chain;
use super::worker::{Answering, Worker};
use super::{Activation, COMMON_FEATURES, Health, Kind, VirtioDevice};
use crate::device::bytes;
use crate::hypervisor::Spare;
use crate::memory::{self, GuestMemory};
use crate::vm::Host;

const QUEUE_SIZE: u16 = 128;
pub const PAGE: u64 = 4096;
/// The driver uses no page of the balloon before it has told us (virtio 1.2, section 5.5.3).
const VIRTIO_BALLOON_F_MUST_TELL_HOST: u32 = 0;

/// What is asked for and what was given, in pages. Shared with whoever asks.
#[derive(Default)]
pub struct Account {
    wanted: AtomicU32,
    given: AtomicU32,
    returned: AtomicU32,
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

    /// How many of them the root has.
    pub fn returned(&self) -> u32 {
        self.returned.load(Ordering::Acquire)
    }
}

pub struct Balloon {
    account: Arc<Account>,
    spare: Arc<dyn Spare>,
    workers: Vec<Worker>,
}

impl Balloon {
    pub fn new(account: Arc<Account>, host: &Host) -> Self {
        Self {
            account,
            spare: host.spare.clone(),
            workers: Vec::new(),
        }
    }
}

/// Numbers of the queues.
const INFLATE: usize = 0;

/// Where in the configuration the driver writes what it gave.
const ACTUAL: u64 = 4;

impl VirtioDevice for Balloon {
    fn kind(&self) -> Kind {
        Kind::Balloon
    }

    fn features(&self) -> u64 {
        COMMON_FEATURES | 1 << VIRTIO_BALLOON_F_MUST_TELL_HOST
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
        let pages = Arc::new(Mutex::new(Pages::new(
            self.spare.clone(),
            self.account.clone(),
            health.clone(),
        )));
        for (index, queue) in activation.queues.into_iter().enumerate() {
            let Some(queue) = queue else { continue };
            let pages = pages.clone();
            let server = Answering::new(queue, move |memory, chain| {
                let mut pages = pages.lock().unwrap_or_else(PoisonError::into_inner);
                Ok(pages.answer(memory, chain, index == INFLATE))
            });
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
        self.account.returned.store(0, Ordering::Release);
    }
}

const PAGES: u64 = DISCARD_UNIT / PAGE;
/// Of one request: the rest is taken no notice of.
const MOST: usize = 1 << 16;

/// Which pages the guest does without.
pub(super) struct Pages {
    /// By the number of the unit, a bit for each of its pages.
    units: BTreeMap<u64, [u64; PAGES as usize / 64]>,
    spare: Arc<dyn Spare>,
    account: Arc<Account>,
    health: Arc<Health>,
    /// The hypervisor can do without them too.
    able: bool,
}

impl Pages {
    pub(super) fn new(spare: Arc<dyn Spare>, account: Arc<Account>, health: Arc<Health>) -> Self {
        Self {
            units: BTreeMap::new(),
            spare,
            account,
            health,
            able: true,
        }
    }

    /// Takes a list of pages, which the guest does without from now on, or not any more.
    pub(super) fn answer(&mut self, memory: &GuestMemory, chain: &Chain, inflate: bool) -> u32 {
        let mut list = vec![0; chain.readable.len().min(MOST)];
        chain.readable.read(memory, &mut list);
        for number in list.chunks_exact(4) {
            let page = u64::from(bytes::u64(number) as u32);
            match inflate {
                true => self.take(memory, page),
                false => self.give_back(page),
            }
        }
        0
    }

    fn take(&mut self, memory: &GuestMemory, page: u64) {
        let (unit, page) = (page / PAGES, page % PAGES);
        let gpa = unit * DISCARD_UNIT;
        if !memory.check_range(GuestAddress(gpa), DISCARD_UNIT as usize) {
            return;
        }
        let bits = self.units.entry(unit).or_default();
        let before = *bits;
        bits[page as usize / 64] |= 1 << (page % 64);
        if before != *bits && is_full(bits) && self.able {
            match self.discard(memory, gpa) {
                Ok(true) => {
                    let returned = &self.account.returned;
                    returned.fetch_add(PAGES as u32, Ordering::AcqRel);
                }
                Ok(false) => self.able = false,
                Err(cause) => self.health.complain(&cause),
            }
        }
    }

    fn discard(&self, memory: &GuestMemory, gpa: u64) -> Result<bool, String> {
        let discarded = self.spare.discard(gpa, DISCARD_UNIT);
        if !discarded.map_err(|cause| cause.to_string())? {
            return Ok(false);
        }
        memory::forget(memory, gpa, DISCARD_UNIT as usize)
            .map_err(|cause| format!("memory cannot be given back: {cause}"))?;
        Ok(true)
    }

    /// What the guest touches of it, the hypervisor gives it by itself.
    fn give_back(&mut self, page: u64) {
        let (unit, page) = (page / PAGES, page % PAGES);
        let Some(bits) = self.units.get_mut(&unit) else {
            return;
        };
        if is_full(bits) && self.able {
            let returned = &self.account.returned;
            // One that could not be given back was not counted.
            let _ = returned.fetch_update(Ordering::AcqRel, Ordering::Acquire, |pages| {
                pages.checked_sub(PAGES as u32)
            });
        }
        bits[page as usize / 64] &= !(1 << (page % 64));
        if *bits == [0; PAGES as usize / 64] {
            self.units.remove(&unit);
        }
    }
}

fn is_full(bits: &[u64]) -> bool {
    bits.iter().all(|word| *word == u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::virtio::bench::{Driver, Keeper};
    use vmm_sys_util::eventfd::EventFd;

    struct Bench {
        account: Arc<Account>,
        keeper: Arc<Keeper>,
        device: Balloon,
    }

    fn bench(able: bool) -> Bench {
        let account = Arc::new(Account::default());
        let keeper = Arc::new(Keeper::new(able));
        let host = Host {
            memory: GuestMemory::new(),
            spare: keeper.clone(),
        };
        Bench {
            device: Balloon::new(account.clone(), &host),
            account,
            keeper,
        }
    }

    #[test]
    fn the_driver_sees_what_is_wanted_and_says_what_it_gives() {
        let Bench {
            account,
            mut device,
            ..
        } = bench(true);
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

    /// Has the driver give or take pages, from `first` to before `end`.
    fn list(driver: &mut Driver, kick: &EventFd, (first, end): (u32, u32)) {
        let numbers: Vec<u8> = (first..end).flat_map(u32::to_le_bytes).collect();
        driver.write(0x8000, &numbers);
        driver.chain(&[(0x8000, numbers.len() as u32, false)]);
        kick.write(1).unwrap();
        driver.wait_used();
    }

    #[test]
    fn whole_units_go_to_the_root_and_come_back() {
        let Bench {
            account,
            keeper,
            mut device,
        } = bench(true);
        let mut driver = Driver::with_memory(8, 3 * DISCARD_UNIT);
        let (mut activation, inflate) = driver.activation(0, 0, 2);
        let mut other = Driver::sharing(&driver);
        let (second, deflate) = other.activation(0, 1, 2);
        activation.queues[1] = second.queues.into_iter().nth(1).flatten();
        device.activate(activation).unwrap();
        driver.write(DISCARD_UNIT, &[7; 64]);
        list(&mut driver, &inflate, (511, 1023));
        assert_eq!(account.returned(), 0);
        assert!(keeper.discarded().is_empty());
        // The last page of the second unit, and one beyond memory.
        list(&mut driver, &inflate, (1023, 1024));
        list(&mut driver, &inflate, (5 * 512, 6 * 512));
        assert_eq!(keeper.discarded(), [(DISCARD_UNIT, DISCARD_UNIT)]);
        assert_eq!(account.returned(), 512);
        assert_eq!(driver.read(DISCARD_UNIT, 64), [0; 64]);
        // It takes one back, and gives it again: the same page twice changes nothing.
        list(&mut other, &deflate, (600, 601));
        assert_eq!(account.returned(), 0);
        list(&mut driver, &inflate, (600, 601));
        list(&mut driver, &inflate, (600, 601));
        assert_eq!(keeper.discarded().len(), 2);
        assert_eq!(account.returned(), 512);
        list(&mut other, &deflate, (512, 1024));
        assert_eq!(account.returned(), 0);
    }

    #[test]
    fn with_a_hypervisor_that_cannot_do_it_nothing_is_lost() {
        let Bench {
            account,
            mut device,
            ..
        } = bench(false);
        let mut driver = Driver::with_memory(8, 2 * DISCARD_UNIT);
        let (activation, inflate) = driver.activation(0, 0, 2);
        device.activate(activation).unwrap();
        driver.write(DISCARD_UNIT, &[7; 64]);
        list(&mut driver, &inflate, (512, 1024));
        assert_eq!(account.returned(), 0);
        assert_eq!(driver.read(DISCARD_UNIT, 64), [7; 64]);
    }
}
