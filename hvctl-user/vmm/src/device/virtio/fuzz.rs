// SPDX-License-Identifier: GPL-2.0
//! Devices before a driver that writes anything into its queue at any time.
//!
//! `FUZZ_INPUTS` says how many inputs each device gets, `FUZZ_SEED` with which they begin.
//! An input changes a part of the queue and rings the doorbell. The device may stop; then it
//! is reset. It must not panic, not hang, and not write what no descriptor names.

use std::env;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use hvmod_ioctls::DISCARD_UNIT;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::balloon::Pages;
use super::bench::{Driver, Keeper};
use super::worker::{Answering, Serve};
use super::{ActiveQueue, Health};

fn number(name: &str, default: u64) -> u64 {
    env::var(name)
        .ok()
        .map_or(default, |text| text.parse().expect("a number"))
}

/// xorshift64*: quick, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

const SIZE: u16 = 16;
/// Buffers are here, or nowhere in memory.
const BUFFERS: std::ops::Range<u64> = 0x8000..0x2_0000;
/// No descriptor ever names this.
const UNTOUCHED: std::ops::Range<u64> = 0x4_0000..0x4_4000;
const PATTERN: u8 = 0x5a;

/// An address that drivers give, or should not.
fn address(random: &mut Random) -> u64 {
    match random.below(16) {
        0 => random.next(),
        1 => random.of(&[0, u64::MAX, 1 << 32, 0xf_fff0, 0x10_0000, 0xc000_0000]),
        2 => 0x1000 + random.below(0x4000),
        _ => BUFFERS.start + random.below(BUFFERS.end - BUFFERS.start - 0x1000),
    }
}

fn length(random: &mut Random) -> u32 {
    match random.below(8) {
        0 => random.next() as u32,
        1 => random.of(&[0, 1, u32::MAX, 0x8000_0000]),
        2 => 16 * random.below(20) as u32,
        // Below the distance of buffers to what must stay untouched.
        _ => random.of(&[1, 15, 16, 17, 512, 513, 1024, 4096]),
    }
}

/// A descriptor that does not reach into [`UNTOUCHED`].
fn descriptor(random: &mut Random) -> [u8; 16] {
    let (mut address, length) = (address(random), length(random));
    let end = address.saturating_add(length.into());
    if address < UNTOUCHED.end && end > UNTOUCHED.start {
        address = 0x100_0000;
    }
    let flags = match random.below(8) {
        0 => random.next() as u16,
        1 => 4,
        2 | 3 => 2,
        4 => 3,
        5 => 0,
        _ => 1,
    };
    let next = match random.below(8) {
        0 => random.next() as u16,
        _ => random.below(SIZE.into()) as u16,
    };
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&address.to_le_bytes());
    bytes[8..12].copy_from_slice(&length.to_le_bytes());
    bytes[12..14].copy_from_slice(&flags.to_le_bytes());
    bytes[14..].copy_from_slice(&next.to_le_bytes());
    bytes
}

/// Changes something, as a driver gone wrong might.
fn mutate(random: &mut Random, driver: &mut Driver, header: &dyn Fn(&mut Random) -> Vec<u8>) {
    let place = driver.place();
    for _ in 0..1 + random.below(4) {
        let at = place.descriptors + 16 * random.below(SIZE.into());
        driver.write(at, &descriptor(random));
    }
    if random.one_in(4) {
        // An indirect table, and the descriptor that leads there.
        let table = BUFFERS.start + 16 * random.below(0x100);
        for index in 0..random.below(SIZE.into()) {
            driver.write(table + 16 * index, &descriptor(random));
        }
        let mut lead = descriptor(random);
        lead[..8].copy_from_slice(&table.to_le_bytes());
        lead[8..12].copy_from_slice(&(16 * random.below(18) as u32).to_le_bytes());
        lead[12] = 4;
        driver.write(place.descriptors + 16 * random.below(SIZE.into()), &lead);
    }
    if random.one_in(3) {
        // A request as it should be, so that what is behind the first checks is reached.
        let request = header(random);
        driver.write(BUFFERS.start, &request);
        driver.chain(&[
            (BUFFERS.start, request.len() as u32, false),
            (
                address(random) & 0xffff | 0x8000,
                512 * random.below(4) as u32,
                random.one_in(2),
            ),
            (BUFFERS.start + 0x1000, 1, true),
        ]);
    }
    match random.below(32) {
        0 => driver.set_available(random.next() as u16),
        1 => driver.write(place.used, &random.next().to_le_bytes()),
        2 => driver.offer(random.next() as u16),
        3 => driver.write(place.available, &random.next().to_le_bytes()[..2]),
        _ => driver.offer(random.below(SIZE.into()) as u16),
    }
}

/// Gives a device its inputs; `make` makes the thread's part of one.
fn fuzz<S: Serve>(
    name: &str,
    header: impl Fn(&mut Random) -> Vec<u8>,
    make: impl Fn(ActiveQueue) -> S,
) {
    fuzz_in(1 << 20, name, header, make);
}

/// The same, with that much memory.
fn fuzz_in<S: Serve>(
    memory: u64,
    name: &str,
    header: impl Fn(&mut Random) -> Vec<u8>,
    make: impl Fn(ActiveQueue) -> S,
) {
    let inputs = number("FUZZ_INPUTS", 20_000);
    let seed = number("FUZZ_SEED", 1);
    let mut random = Random(seed.max(1));
    let untouched = [PATTERN; (UNTOUCHED.end - UNTOUCHED.start) as usize];
    let (mut stopped, mut served) = (0u64, 0u64);
    let mut input = 0;
    while input < inputs {
        let mut driver = Driver::with_memory(SIZE, memory);
        driver.write(UNTOUCHED.start, &untouched);
        let kick = Arc::new(EventFd::new(EFD_NONBLOCK).unwrap());
        let ring = driver.ring(random.one_in(2));
        let mut device = make(ActiveQueue {
            ring,
            kick: kick.clone(),
        });
        // Until it stops; or it is reset, with requests on their way.
        for _ in 0..200 {
            input += 1;
            mutate(&mut random, &mut driver, &header);
            kick.write(1).unwrap();
            let before = driver.used_index();
            if device.ready(0).is_err() {
                stopped += 1;
                break;
            }
            for source in 1..device.sources().len() {
                // Only what does not wait for somebody to type.
                if device.ready(source).is_err() {
                    stopped += 1;
                    break;
                }
            }
            served += u64::from(driver.used_index().wrapping_sub(before) % (4 * SIZE));
        }
        drop(device);
        assert_eq!(
            driver.read(UNTOUCHED.start, untouched.len()),
            untouched,
            "{name}: memory of nobody's was written; seed {seed}, input {input}"
        );
    }
    // To be seen also when all is well, which `eprintln!` is not.
    let told = format!("{name}: {inputs} inputs, {served} answers, {stopped} stops\n");
    io::stderr().write_all(told.as_bytes()).unwrap();
    assert!(
        served > inputs / 100 && stopped > inputs / 1000,
        "{name}: the inputs reach little"
    );
}

fn health() -> Arc<Health> {
    Arc::new(Health::new(
        "fuzzed".into(),
        Arc::new(EventFd::new(EFD_NONBLOCK).unwrap()),
    ))
}

#[test]
fn disks() {
    let image = tempfile::tempfile().unwrap();
    image.set_len(1 << 16).unwrap();
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&image));
    let options = super::block::disk::Options::default();
    let disk = super::block::disk::Disk::open(path.as_ref(), &options).unwrap();
    let block = super::block::Block::new(disk, "fuzz", 1);
    let header = |random: &mut Random| {
        let kind = random.of(&[0u32, 0, 1, 1, 4, 8, 11, 13, 2, 99]);
        let sector = match random.below(4) {
            0 => random.next(),
            _ => random.below(140),
        };
        [&kind.to_le_bytes()[..], &[0; 4], &sector.to_le_bytes()].concat()
    };
    fuzz("disk", header, |queue| block.server(queue, false, health()));
}

#[test]
fn entropy() {
    fuzz(
        "entropy",
        |_| vec![0; 16],
        |queue| Answering::new(queue, super::entropy::answer),
    );
}

#[test]
fn console_output() {
    fuzz(
        "console output",
        |_| vec![b'x'; 16],
        |queue| {
            let output = Mutex::new(io::sink());
            Answering::new(queue, move |memory, chain| {
                super::console::say(&output, memory, chain)
            })
        },
    );
}

#[test]
fn console_input() {
    let input = Arc::new(File::open("/dev/random").unwrap());
    fuzz(
        "console input",
        |_| vec![0; 16],
        |queue| super::console::Receiver::new(queue, input.clone()).unwrap(),
    );
}

#[test]
fn network_control() {
    let header = |random: &mut Random| vec![random.of(&[0, 4]), 0, random.below(3) as u8, 0];
    fuzz("network control", header, |queue| {
        Answering::new(queue, |memory, chain| {
            super::net::control::answer(memory, chain, &[])
        })
    });
}

/// With so much memory that all of some units is given away, but not of the first.
#[test]
fn balloons() {
    let keeper = Arc::new(Keeper::new(true));
    let header = |random: &mut Random| {
        let first = 512 + random.below(600) as u32;
        (first..first + 256).flat_map(u32::to_le_bytes).collect()
    };
    fuzz_in(2 * DISCARD_UNIT, "balloon", header, |queue| {
        let mut pages = Pages::new(keeper.clone(), Arc::default(), health());
        let mut turn = 0;
        Answering::new(queue, move |memory, chain| {
            turn += 1;
            Ok(pages.answer(memory, chain, turn % 4 != 0))
        })
    });
    assert!(!keeper.discarded().is_empty(), "the inputs reach little");
}

/// Whose process has ended, so that its queues are ours.
#[test]
fn shares() {
    let (near, _) = UnixStream::pair().unwrap();
    let header = |random: &mut Random| (0..40).map(|_| random.next() as u8).collect();
    fuzz("share", header, |queue| {
        let gone = Arc::new(AtomicBool::new(true));
        super::fs::watch::Watch::new(&near, vec![queue], gone, health()).unwrap()
    });
}
