// SPDX-License-Identifier: GPL-2.0
//! Random numbers (virtio 1.2, section 5.4), the kernel's.

use std::io;

use super::ring::{Broken, Chain};
use super::worker::{Answering, Worker};
use super::{Activation, COMMON_FEATURES, Kind, VirtioDevice};
use crate::memory::GuestMemory;

const QUEUE_SIZE: u16 = 64;
/// Of one request: the rest comes back empty, as it may.
const MOST: usize = 64 << 10;

#[derive(Default)]
pub struct Entropy {
    worker: Option<Worker>,
}

impl VirtioDevice for Entropy {
    fn kind(&self) -> Kind {
        Kind::Entropy
    }

    fn features(&self) -> u64 {
        COMMON_FEATURES
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![QUEUE_SIZE]
    }

    fn read_config(&self, _: u64, _: &mut [u8]) {}

    fn activate(&mut self, activation: Activation) -> io::Result<()> {
        for queue in activation.queues.into_iter().flatten() {
            let server = Answering::new(queue, answer);
            self.worker = Some(Worker::spawn("entropy", activation.health.clone(), server)?);
        }
        Ok(())
    }

    fn reset(&mut self) {
        self.worker = None;
    }
}

pub(super) fn answer(memory: &GuestMemory, chain: &Chain) -> Result<u32, Broken> {
    let mut data = vec![0; chain.writable.len().min(MOST)];
    fill(&mut data)?;
    Ok(chain.writable.write(memory, &data) as u32)
}

fn fill(data: &mut [u8]) -> Result<(), Broken> {
    let mut done = 0;
    while done < data.len() {
        let rest = &mut data[done..];
        // SAFETY: the kernel writes into the slice, as much as there is room for.
        let count = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        match usize::try_from(count) {
            Ok(count) => done += count,
            Err(_) => {
                let cause = io::Error::last_os_error();
                if cause.kind() != io::ErrorKind::Interrupted {
                    return Err(Broken::Backend(format!("getrandom: {cause}")));
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::virtio::bench::Driver;

    #[test]
    fn a_driver_gets_what_it_has_room_for() {
        let mut driver = Driver::new(8);
        let (activation, kick) = driver.activation(0, 0, 1);
        let mut device = Entropy::default();
        device.activate(activation).unwrap();
        driver.chain(&[(0x8000, 64, true), (0x9000, 64, true)]);
        kick.write(1).unwrap();
        assert_eq!(driver.wait_used(), [(0, 128)]);
        assert_ne!(driver.read(0x8000, 64), [0; 64]);
        assert_ne!(driver.read(0x8000, 64), driver.read(0x9000, 64));
        driver.chain(&[(0x1_0000, 0xa_0000, true)]);
        kick.write(1).unwrap();
        assert_eq!(driver.wait_used(), [(2, MOST as u32)]);
        device.reset();
    }
}
