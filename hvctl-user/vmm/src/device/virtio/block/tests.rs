// SPDX-License-Identifier: GPL-2.0
//! A disk, from its driver's side.

use super::disk::Options;
use super::*;
use crate::device::virtio::bench::Driver;
use std::os::unix::fs::FileExt;

const HEADER: u64 = 0x8000;
const DATA: u64 = 0x1_0000;
const STATUS: u64 = 0x9000;
const DISK_SIZE: u64 = 1 << 20;

struct Bench {
    driver: Driver,
    device: Block,
    kick: Arc<vmm_sys_util::eventfd::EventFd>,
    health: Arc<Health>,
    image: tempfile::NamedTempFile,
}

fn bench(readonly: bool, features: u64) -> Bench {
    let image = tempfile::NamedTempFile::new().unwrap();
    image.as_file().set_len(DISK_SIZE).unwrap();
    let options = Options {
        readonly,
        ..Options::default()
    };
    let disk = Disk::open(image.path(), &options).unwrap();
    let mut device = Block::new(disk, "a serial number that is too long", 1);
    let driver = Driver::new(16);
    let (activation, kick) = driver.activation(features, 0, 1);
    let health = activation.health.clone();
    device.activate(activation).unwrap();
    Bench {
        driver,
        device,
        kick,
        health,
        image,
    }
}

impl Bench {
    /// Sends a request; returns its status and how much was written.
    fn request(&mut self, kind: u32, sector: u64, data: &[(u64, u32, bool)]) -> (u8, u32) {
        self.start(kind, sector, data);
        let used = self.driver.wait_used();
        assert_eq!(used.len(), 1);
        (self.driver.read(STATUS, 1)[0], used[0].1)
    }

    fn start(&mut self, kind: u32, sector: u64, data: &[(u64, u32, bool)]) {
        let header = [&kind.to_le_bytes()[..], &[0; 4], &sector.to_le_bytes()].concat();
        self.driver.write(HEADER, &header);
        self.driver.write(STATUS, &[0xaa]);
        let mut parts = vec![(HEADER, 16, false)];
        parts.extend_from_slice(data);
        parts.push((STATUS, 1, true));
        self.driver.chain(&parts);
        self.kick.write(1).unwrap();
    }

    fn image(&self, at: u64, size: usize) -> Vec<u8> {
        let mut data = vec![0; size];
        self.image.as_file().read_exact_at(&mut data, at).unwrap();
        data
    }
}

const FLUSH: u64 = 1 << VIRTIO_BLK_F_FLUSH;
const OK: u8 = 0;
const ERROR: u8 = 1;
const UNSUPPORTED: u8 = 2;

#[test]
fn what_is_written_is_read_again() {
    for features in [0, FLUSH] {
        let mut bench = bench(false, features);
        let text: Vec<u8> = (0..2048u32).map(|byte| byte as u8 ^ 0x5a).collect();
        bench.driver.write(DATA, &text);
        // In pieces of odd sizes.
        let out = [(DATA, 1000, false), (DATA + 1000, 1048, false)];
        assert_eq!(bench.request(bindings::VIRTIO_BLK_T_OUT, 3, &out), (OK, 1));
        assert_eq!(bench.image(3 * 512, 2048), text);
        assert_eq!(bench.request(bindings::VIRTIO_BLK_T_FLUSH, 0, &[]), (OK, 1));
        let back = [(DATA + 0x8001, 7, true), (DATA + 0x9000, 2041, true)];
        assert_eq!(
            bench.request(bindings::VIRTIO_BLK_T_IN, 3, &back),
            (OK, 2049)
        );
        let read = [
            bench.driver.read(DATA + 0x8001, 7),
            bench.driver.read(DATA + 0x9000, 2041),
        ];
        assert_eq!(read.concat(), text);
    }
}

#[test]
fn nothing_outside_of_the_disk_is_reached() {
    let mut bench = bench(false, FLUSH);
    let last = DISK_SIZE / 512 - 1;
    let part = |size| [(DATA, size, true)];
    assert_eq!(
        bench.request(bindings::VIRTIO_BLK_T_IN, last, &part(512)).0,
        OK
    );
    for (sector, size) in [
        (last, 1024),
        (last + 1, 512),
        (u64::MAX, 512),
        (u64::MAX / 512, 1024),
        (0, 100),
    ] {
        let answer = bench.request(bindings::VIRTIO_BLK_T_IN, sector, &part(size));
        assert_eq!(answer, (ERROR, 1), "{size} bytes at sector {sector}");
    }
}

#[test]
fn a_disk_that_is_only_read_stays_as_it_is() {
    let mut bench = bench(true, FLUSH);
    let out = [(DATA, 512, false)];
    bench.driver.write(DATA, &[7; 512]);
    assert_eq!(
        bench.request(bindings::VIRTIO_BLK_T_OUT, 0, &out),
        (ERROR, 1)
    );
    assert_eq!(
        bench
            .request(bindings::VIRTIO_BLK_T_DISCARD, 0, &[(DATA, 16, false)])
            .0,
        ERROR
    );
    assert_eq!(bench.image(0, 512), [0; 512]);
    let offered = bench.device.features();
    assert_ne!(offered & 1 << bindings::VIRTIO_BLK_F_RO, 0);
    assert_eq!(offered & 1 << bindings::VIRTIO_BLK_F_DISCARD, 0);
}

#[test]
fn it_says_who_it_is_and_refuses_what_it_does_not_know() {
    let mut bench = bench(false, FLUSH);
    let id = [(DATA, 20, true)];
    assert_eq!(
        bench.request(bindings::VIRTIO_BLK_T_GET_ID, 0, &id),
        (OK, 21)
    );
    assert_eq!(bench.driver.read(DATA, 20), b"a serial number that");
    assert_eq!(bench.request(99, 0, &id), (UNSUPPORTED, 1));
    let mut capacity = [0; 8];
    bench.device.read_config(0, &mut capacity);
    assert_eq!(u64::from_le_bytes(capacity), DISK_SIZE / 512);
}

#[test]
fn ranges_are_discarded_and_zeroed() {
    let segment = |sector: u64, sectors: u32, flags: u32| {
        [
            &sector.to_le_bytes()[..],
            &sectors.to_le_bytes(),
            &flags.to_le_bytes(),
        ]
        .concat()
    };
    let mut bench = bench(false, FLUSH);
    for (kind, flags) in [
        (bindings::VIRTIO_BLK_T_DISCARD, 0),
        (bindings::VIRTIO_BLK_T_WRITE_ZEROES, 0),
        (bindings::VIRTIO_BLK_T_WRITE_ZEROES, 1),
    ] {
        bench.image.as_file().write_all_at(&[7; 16384], 0).unwrap();
        bench.driver.write(DATA, &segment(8, 8, flags));
        assert_eq!(bench.request(kind, 0, &[(DATA, 16, false)]), (OK, 1));
        assert_eq!(bench.image(4096, 4096), [0; 4096]);
        assert_eq!(bench.image(8192, 1), [7]);
    }
    for (data, size) in [
        (segment(DISK_SIZE / 512, 1, 0), 16),
        (segment(u64::MAX, u32::MAX, 0), 16),
        (segment(0, 1, 0), 15),
    ] {
        bench.driver.write(DATA, &data);
        let answer = bench.request(bindings::VIRTIO_BLK_T_DISCARD, 0, &[(DATA, size, false)]);
        assert_eq!(answer, (ERROR, 1));
    }
}

#[test]
fn a_request_without_a_header_or_a_status_stops_the_device() {
    for part in [(HEADER, 15, false), (HEADER, 16, false)] {
        let mut bench = bench(false, FLUSH);
        bench.driver.chain(&[part]);
        bench.kick.write(1).unwrap();
        for _ in 0..5000 {
            if bench.health.status() != 0 {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        assert_ne!(bench.health.status() & 64, 0);
        assert!(bench.driver.used().is_empty());
        bench.device.reset();
    }
}
