// SPDX-License-Identifier: GPL-2.0
//! A driver's way from reset to use, and ways off it.

use super::*;
use crate::device::virtio::COMMON_FEATURES;
use crate::device::virtio::bench::{Driver, Recorder};
use proptest::prelude::*;

/// A device that counts its activations.
#[derive(Default)]
struct Dummy {
    active: Arc<AtomicU64>,
    features: Arc<AtomicU64>,
}

impl VirtioDevice for Dummy {
    fn kind(&self) -> Kind {
        Kind::Entropy
    }
    fn features(&self) -> u64 {
        COMMON_FEATURES
    }
    fn queue_sizes(&self) -> Vec<u16> {
        vec![8, 16]
    }
    fn read_config(&self, offset: u64, data: &mut [u8]) {
        bytes::read(b"config", offset, data);
    }
    fn activate(&mut self, activation: Activation) -> io::Result<()> {
        let queues = activation.queues.iter().flatten().count() as u64;
        self.active.store(queues, Ordering::Relaxed);
        self.features.store(activation.features, Ordering::Relaxed);
        Ok(())
    }
    fn reset(&mut self) {
        self.active.store(0, Ordering::Relaxed);
    }
}

struct Bench {
    function: Arc<VirtioPci>,
    recorder: Arc<Recorder>,
    active: Arc<AtomicU64>,
    features: Arc<AtomicU64>,
    driver: Driver,
}

fn bench() -> Bench {
    let driver = Driver::new(8);
    let recorder = Arc::new(Recorder::default());
    let dummy = Dummy::default();
    let (active, features) = (dummy.active.clone(), dummy.features.clone());
    let function = VirtioPci::new(
        0,
        "dummy".into(),
        Box::new(dummy),
        driver.memory.clone(),
        Routes::new(recorder.clone()),
    )
    .unwrap();
    Bench {
        function,
        recorder,
        active,
        features,
        driver,
    }
}

impl Bench {
    fn put(&self, offset: u64, size: usize, value: u64) {
        self.function
            .memory_write(offset, &value.to_le_bytes()[..size]);
    }

    fn get(&self, offset: u64, size: usize) -> u64 {
        let mut data = [0; 8];
        self.function.memory_read(offset, &mut data[..size]);
        u64::from_le_bytes(data)
    }

    fn status(&self) -> u8 {
        self.get(Common::STATUS, 1) as u8
    }

    fn negotiate(&self, features: u64) {
        for status in [0, ACKNOWLEDGE, ACKNOWLEDGE | DRIVER] {
            self.put(Common::STATUS, 1, status.into());
        }
        for half in 0..2 {
            self.put(Common::DRIVER_FEATURE_SELECT, 4, half);
            self.put(
                Common::DRIVER_FEATURE,
                4,
                features >> (32 * half) & 0xffff_ffff,
            );
        }
        let status = ACKNOWLEDGE | DRIVER | FEATURES_OK;
        self.put(Common::STATUS, 1, status.into());
    }

    fn set_up_queue(&self, index: u64, place: Place) {
        self.put(Common::QUEUE_SELECT, 2, index);
        self.put(Common::QUEUE_SIZE, 2, place.size.into());
        // The two halves apart, as drivers write them.
        self.put(
            Common::QUEUE_DESCRIPTORS,
            4,
            place.descriptors & 0xffff_ffff,
        );
        self.put(Common::QUEUE_DESCRIPTORS + 4, 4, place.descriptors >> 32);
        self.put(Common::QUEUE_AVAILABLE, 8, place.available);
        self.put(Common::QUEUE_USED, 8, place.used);
        self.put(Common::QUEUE_ENABLE, 2, 1);
    }

    fn ready(&self) {
        let status = ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK;
        self.put(Common::STATUS, 1, status.into());
    }
}

const VERSION_1: u64 = 1 << bits::VIRTIO_F_VERSION_1;

#[test]
fn a_driver_gets_from_reset_to_use_and_back() {
    let bench = bench();
    assert_eq!(bench.get(18, 2), 2, "number of queues");
    bench.put(Common::DEVICE_FEATURE_SELECT, 4, 1);
    assert_eq!(bench.get(4, 4), COMMON_FEATURES >> 32);
    bench.negotiate(VERSION_1);
    assert_ne!(bench.status() & FEATURES_OK, 0);
    bench.set_up_queue(0, bench.driver.place());
    assert_eq!(bench.get(Common::QUEUE_SIZE, 2), 8);
    bench.ready();
    assert_eq!(bench.active.load(Ordering::Relaxed), 1);
    assert_eq!(bench.features.load(Ordering::Relaxed), VERSION_1);
    assert_eq!(
        bench.get(area::DEVICE.start, 4),
        u64::from(u32::from_le_bytes(*b"conf"))
    );
    bench.put(Common::STATUS, 1, 0);
    assert_eq!(
        (bench.active.load(Ordering::Relaxed), bench.status()),
        (0, 0)
    );
    bench.put(Common::QUEUE_SELECT, 2, 0);
    assert_eq!(bench.get(Common::QUEUE_ENABLE, 2), 0);
}

#[test]
fn features_that_were_not_offered_are_refused() {
    for features in [VERSION_1 | 1 << 5, 0] {
        let bench = bench();
        bench.negotiate(features);
        assert_eq!(bench.status() & FEATURES_OK, 0);
        bench.ready();
        assert_eq!(bench.active.load(Ordering::Relaxed), 0);
    }
}

#[test]
fn a_queue_outside_of_memory_stops_the_device_until_it_is_reset() {
    let bench = bench();
    bench.negotiate(VERSION_1);
    let place = Place {
        used: bench.driver.end(),
        ..bench.driver.place()
    };
    bench.set_up_queue(0, place);
    bench.ready();
    assert_ne!(bench.status() & NEEDS_RESET, 0);
    assert_eq!(bench.active.load(Ordering::Relaxed), 0);
    bench.negotiate(VERSION_1);
    bench.set_up_queue(0, bench.driver.place());
    bench.ready();
    assert_eq!(bench.active.load(Ordering::Relaxed), 1);
}

#[test]
fn doorbells_follow_the_memory() {
    let bench = bench();
    assert!(bench.recorder.doorbells().is_empty());
    bench.function.config_write(4, &[2, 0]);
    let start = bench.function.memory().unwrap().start;
    assert_eq!(bench.recorder.doorbells(), [start + 0x3000, start + 0x3004]);
    bench
        .function
        .config_write(0x10, &0xd000_0000u32.to_le_bytes());
    assert_eq!(bench.recorder.doorbells(), [0xd000_3000, 0xd000_3004]);
    bench.function.config_write(4, &[0, 0]);
    assert!(bench.recorder.doorbells().is_empty());
    // Where the hypervisor sends one to us all the same, the queue hears of it.
    bench.put(0x3004, 2, 1);
    assert_eq!(bench.function.counters()[1].intercepted.get(), 1);
    assert_eq!(bench.function.state().queues[1].kick.read().unwrap(), 1);
}

#[test]
fn the_window_in_configuration_space_shows_the_memory() {
    let bench = bench();
    let at = bench.function.state().access_capability;
    let function = &bench.function;
    function.config_write(at + 8, &(area::DEVICE.start as u32).to_le_bytes());
    function.config_write(at + 12, &4u32.to_le_bytes());
    let mut data = [0; 4];
    function.config_read(at + ConfigAccess::DATA, &mut data);
    assert_eq!(&data, b"conf");
    function.config_write(at + 8, &(Common::STATUS as u32).to_le_bytes());
    function.config_write(at + 12, &1u32.to_le_bytes());
    function.config_write(at + ConfigAccess::DATA, &[ACKNOWLEDGE, 0, 0, 0]);
    assert_eq!(bench.status(), ACKNOWLEDGE);
}

proptest! {
    #[test]
    fn any_accesses_leave_it_standing(accesses in prop::collection::vec(
        (0u64..area::SIZE, 1usize..=8, any::<u64>(), 0u8..4), 0..300)) {
        let bench = bench();
        bench.negotiate(VERSION_1);
        bench.set_up_queue(0, bench.driver.place());
        bench.ready();
        for (offset, size, value, how) in accesses {
            let mut data = value.to_le_bytes();
            match how {
                0 => bench.function.memory_read(offset, &mut data[..size]),
                // The registers of note are all in the first bytes.
                1 => bench.function.memory_write(offset % 64, &data[..size]),
                2 => bench.function.memory_write(offset, &data[..size]),
                _ => {
                    let dword = offset as u8 & 0xfc;
                    bench.function.config_write(dword, &data[..size.min(4)]);
                }
            }
        }
        bench.put(Common::STATUS, 1, 0);
        prop_assert_eq!(bench.status(), 0);
    }
}
