// SPDX-License-Identifier: GPL-2.0
//! The control queue of a network interface (virtio 1.2, section 5.1.6.5): how many pairs of
//! queues the driver uses.

use virtio_bindings::virtio_net as bindings;

use super::tap::Tap;
use crate::device::virtio::ring::{Broken, Chain};
use crate::memory::GuestMemory;

const OK: u8 = bindings::VIRTIO_NET_OK as u8;
const ERROR: u8 = bindings::VIRTIO_NET_ERR as u8;

pub fn answer(memory: &GuestMemory, chain: &Chain, taps: &[Tap]) -> Result<u32, Broken> {
    if chain.writable.is_empty() {
        return Err(Broken::Short("a byte for its acknowledgement"));
    }
    // Class, command, number of pairs.
    let mut command = [0; 4];
    let size = chain.readable.read(memory, &mut command);
    let pairs = u16::from_le_bytes([command[2], command[3]]);
    let known = size == 4
        && u32::from(command[0]) == bindings::VIRTIO_NET_CTRL_MQ
        && u32::from(command[1]) == bindings::VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET;
    let acknowledgement = if known && use_pairs(taps, pairs) {
        OK
    } else {
        ERROR
    };
    Ok(chain.writable.write(memory, &[acknowledgement]) as u32)
}

/// Lets frames come to the first `pairs` queues only.
pub fn use_pairs(taps: &[Tap], pairs: u16) -> bool {
    if !(1..=taps.len()).contains(&usize::from(pairs)) {
        return false;
    }
    // An interface of one queue has none to switch.
    taps.len() == 1
        || taps.iter().enumerate().all(|(index, tap)| {
            let active = index < usize::from(pairs);
            let done = tap.set_active(active);
            done.inspect_err(|cause| tracing::warn!("{}: {cause}", tap.name()))
                .is_ok()
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::virtio::bench::Driver;
    use vmm_sys_util::eventfd::EventFd;

    #[test]
    fn only_a_number_of_pairs_that_there_is_is_taken() {
        for (command, size) in [
            (&[4, 0, 1, 0][..], 4),
            (&[4, 0, 1][..], 3),
            (&[0, 0, 1, 0][..], 4),
            (&[4, 1, 1, 0][..], 4),
        ] {
            let mut driver = Driver::new(8);
            driver.write(0x8000, command);
            driver.chain(&[(0x8000, size, false), (0x9000, 1, true)]);
            let mut ring = driver.ring(false);
            let kick = EventFd::new(0).unwrap();
            ring.serve(&kick, |memory, chain| answer(memory, chain, &[]))
                .unwrap();
            assert_eq!(driver.used(), [(0, 1)]);
            // There is no pair at all.
            assert_eq!(driver.read(0x9000, 1), [ERROR]);
        }
        let mut driver = Driver::new(8);
        driver.chain(&[(0x8000, 4, false)]);
        let kick = EventFd::new(0).unwrap();
        let served = driver
            .ring(false)
            .serve(&kick, |memory, chain| answer(memory, chain, &[]));
        assert!(matches!(served, Err(Broken::Short(_))));
    }
}
