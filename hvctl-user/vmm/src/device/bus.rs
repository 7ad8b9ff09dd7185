// SPDX-License-Identifier: GPL-2.0
//! Which device answers at an address.

use std::collections::BTreeMap;
use std::sync::Arc;

/// A device as the guest reaches it: `offset` counts from where it is on the bus.
pub trait Device: Send + Sync {
    fn read(&self, offset: u64, data: &mut [u8]);
    fn write(&self, offset: u64, data: &[u8]);
}

struct Place {
    size: u64,
    device: Arc<dyn Device>,
}

/// An address space of devices.
#[derive(Default)]
pub struct Bus {
    places: BTreeMap<u64, Place>,
}

impl Bus {
    /// Puts a device at `start..start + size`; panics where one already is, which is a
    /// mistake in the machine's own layout.
    pub fn add(&mut self, start: u64, size: u64, device: Arc<dyn Device>) {
        let before = self.places.range(..start + size).next_back();
        assert!(
            before.is_none_or(|(&other, place)| other + place.size <= start),
            "two devices at {start:#x}"
        );
        self.places.insert(start, Place { size, device });
    }

    fn find(&self, address: u64) -> Option<(&dyn Device, u64)> {
        let (&start, place) = self.places.range(..=address).next_back()?;
        let offset = address - start;
        (offset < place.size).then(|| (&*place.device, offset))
    }

    /// Reads; all ones where no device is, and then `false`.
    pub fn read(&self, address: u64, data: &mut [u8]) -> bool {
        data.fill(0xff);
        match self.find(address) {
            Some((device, offset)) => device.read(offset, data),
            None => return false,
        }
        true
    }

    /// Writes; `false` where no device is.
    pub fn write(&self, address: u64, data: &[u8]) -> bool {
        match self.find(address) {
            Some((device, offset)) => device.write(offset, data),
            None => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads as its offset.
    struct Echo;

    impl Device for Echo {
        fn read(&self, offset: u64, data: &mut [u8]) {
            data.fill(offset as u8);
        }
        fn write(&self, _: u64, _: &[u8]) {}
    }

    fn bus() -> Bus {
        let mut bus = Bus::default();
        bus.add(0x10, 8, Arc::new(Echo));
        bus.add(0x20, 1, Arc::new(Echo));
        bus
    }

    #[test]
    fn devices_answer_within_their_bounds_only() {
        let bus = bus();
        for (address, answer) in [
            (0xf, 0xff),
            (0x10, 0),
            (0x17, 7),
            (0x18, 0xff),
            (0x20, 0),
            (0x21, 0xff),
        ] {
            let mut data = [0x55];
            assert_eq!(bus.read(address, &mut data), answer != 0xff, "{address:#x}");
            assert_eq!(data, [answer], "{address:#x}");
        }
        assert!(bus.write(0x12, &[0]) && !bus.write(0x30, &[0]));
    }

    #[test]
    #[should_panic(expected = "two devices")]
    fn overlaps_are_refused() {
        bus().add(0x17, 2, Arc::new(Echo));
    }
}
