// SPDX-License-Identifier: GPL-2.0
//! PCI: one bus with its host bridge, by configuration mechanism #1 (PCI Local Bus 3.0,
//! section 3.2.2.3.2), for functions that have memory and message-signalled interrupts.

pub mod config;
pub mod msix;
pub mod routes;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use config::{ConfigSpace, Identity};

use super::Device;
use crate::layout;

/// Device numbers of a bus; the host bridge is number 0.
const SLOTS: usize = 32;
/// Of others there can be so many.
pub const MAX_FUNCTIONS: usize = SLOTS - 1;

/// A function as the bus sees it.
pub trait Function: Send + Sync {
    /// Reads configuration space; `offset` and the end of `data` are within one dword.
    fn config_read(&self, offset: u8, data: &mut [u8]);
    fn config_write(&self, offset: u8, data: &[u8]);
    /// Where its memory is, while the guest has it switched on.
    fn memory(&self) -> Option<std::ops::Range<u64>>;
    fn memory_read(&self, offset: u64, data: &mut [u8]);
    fn memory_write(&self, offset: u64, data: &[u8]);
}

/// The bus. On the port bus it is the two registers of the configuration mechanism, on
/// the memory bus all of the window for functions.
pub struct Bus {
    bridge: Mutex<ConfigSpace>,
    functions: Vec<Arc<dyn Function>>,
    address: AtomicU32,
}

/// More functions than there are numbers for.
#[derive(Debug, thiserror::Error)]
#[error("{0} devices are more than the {MAX_FUNCTIONS} that there is room for")]
pub struct BusFull(pub usize);

impl Bus {
    /// The functions get the device numbers from 1 on. Their memory is placed for them.
    pub fn new(functions: Vec<Arc<dyn Function>>) -> Result<Self, BusFull> {
        if functions.len() > MAX_FUNCTIONS {
            return Err(BusFull(functions.len()));
        }
        Ok(Self {
            // A bridge from host to PCI: Red Hat's numbers for an emulated one.
            bridge: Mutex::new(ConfigSpace::new(Identity {
                vendor: 0x1b36,
                device: 0x0008,
                class: 0x06_00_00,
                revision: 0,
                subsystem: 0,
            })),
            functions,
            address: AtomicU32::new(0),
        })
    }

    /// Where the memory of the function in slot `index` (from 0) of `size` bytes begins.
    pub fn place(index: usize, size: u64) -> u64 {
        layout::PCI + index as u64 * size
    }

    const ENABLED: u32 = 1 << 31;

    /// The function and the dword that the address register selects.
    fn selected(&self) -> Option<(usize, u8)> {
        let address = self.address.load(Ordering::Relaxed);
        let (bus, slot, function) = (address >> 16 & 0xff, address >> 11 & 0x1f, address >> 8 & 7);
        (address & Self::ENABLED != 0 && bus == 0 && function == 0)
            .then_some((slot as usize, (address & 0xfc) as u8))
    }

    fn config_read(&self, byte: u64, data: &mut [u8]) {
        data.fill(0xff);
        let Some((slot, register)) = self.selected() else {
            return;
        };
        // An access never leaves its dword.
        let inside = data.len().min(4 - byte as usize);
        let (offset, data) = (register + byte as u8, &mut data[..inside]);
        match slot.checked_sub(1) {
            None => self.bridge().read(offset, data),
            Some(index) => {
                if let Some(function) = self.functions.get(index) {
                    function.config_read(offset, data);
                }
            }
        }
    }

    fn config_write(&self, byte: u64, data: &[u8]) {
        let Some((slot, register)) = self.selected() else {
            return;
        };
        let inside = data.len().min(4 - byte as usize);
        let (offset, data) = (register + byte as u8, &data[..inside]);
        match slot.checked_sub(1) {
            None => self.bridge().write(offset, data),
            Some(index) => {
                if let Some(function) = self.functions.get(index) {
                    function.config_write(offset, data);
                }
            }
        }
    }

    fn bridge(&self) -> std::sync::MutexGuard<'_, ConfigSpace> {
        self.bridge.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The address register, at port 0xcf8.
pub struct AddressPort(pub Arc<Bus>);

impl Device for AddressPort {
    fn read(&self, _: u64, data: &mut [u8]) {
        if data.len() == 4 {
            data.copy_from_slice(&self.0.address.load(Ordering::Relaxed).to_le_bytes());
        }
    }

    fn write(&self, _: u64, data: &[u8]) {
        // Only whole dwords are meant for it.
        if let Ok(bytes) = data.try_into() {
            let address = u32::from_le_bytes(bytes);
            self.0.address.store(address, Ordering::Relaxed);
        }
    }
}

/// The data register, at port 0xcfc.
pub struct DataPort(pub Arc<Bus>);

impl Device for DataPort {
    fn read(&self, offset: u64, data: &mut [u8]) {
        self.0.config_read(offset, data);
    }

    fn write(&self, offset: u64, data: &[u8]) {
        self.0.config_write(offset, data);
    }
}

/// The window at [`layout::PCI`].
pub struct Window(pub Arc<Bus>);

impl Window {
    fn find(&self, offset: u64) -> Option<(&dyn Function, u64)> {
        let address = layout::PCI + offset;
        self.0.functions.iter().find_map(|function| {
            let memory = function.memory()?;
            memory
                .contains(&address)
                .then(|| (&**function, address - memory.start))
        })
    }
}

impl Device for Window {
    fn read(&self, offset: u64, data: &mut [u8]) {
        match self.find(offset) {
            Some((function, offset)) => function.memory_read(offset, data),
            None => data.fill(0xff),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        if let Some((function, offset)) = self.find(offset) {
            function.memory_write(offset, data);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A function that is nothing but its configuration space.
    struct Plain(Mutex<ConfigSpace>);

    impl Function for Plain {
        fn config_read(&self, offset: u8, data: &mut [u8]) {
            self.0.lock().unwrap().read(offset, data);
        }
        fn config_write(&self, offset: u8, data: &[u8]) {
            self.0.lock().unwrap().write(offset, data);
        }
        fn memory(&self) -> Option<std::ops::Range<u64>> {
            self.0.lock().unwrap().memory()
        }
        fn memory_read(&self, offset: u64, data: &mut [u8]) {
            data.fill(offset as u8);
        }
        fn memory_write(&self, _: u64, _: &[u8]) {}
    }

    fn bus() -> Arc<Bus> {
        let mut space = ConfigSpace::new(Identity {
            vendor: 0x1af4,
            device: 0x1042,
            class: 0x01_00_00,
            revision: 1,
            subsystem: 0,
        });
        space.set_memory(layout::PCI, 0x4000);
        Arc::new(Bus::new(vec![Arc::new(Plain(Mutex::new(space)))]).unwrap())
    }

    fn select(bus: &Arc<Bus>, slot: u32, register: u32) {
        let address = 1 << 31 | slot << 11 | register;
        AddressPort(bus.clone()).write(0, &address.to_le_bytes());
    }

    fn get(bus: &Arc<Bus>, slot: u32, register: u32) -> u32 {
        select(bus, slot, register);
        let mut data = [0; 4];
        DataPort(bus.clone()).read(0, &mut data);
        u32::from_le_bytes(data)
    }

    fn put(bus: &Arc<Bus>, slot: u32, register: u32, value: u32) {
        select(bus, slot, register);
        DataPort(bus.clone()).write(0, &value.to_le_bytes());
    }

    #[test]
    fn functions_are_where_they_were_put_and_nothing_is_elsewhere() {
        let bus = bus();
        assert_eq!(get(&bus, 0, 8) >> 8, 0x06_00_00);
        assert_eq!(get(&bus, 1, 0), 0x1042_1af4);
        assert_eq!(get(&bus, 2, 0), u32::MAX);
        AddressPort(bus.clone()).write(0, &0u32.to_le_bytes());
        let mut data = [0; 4];
        DataPort(bus.clone()).read(0, &mut data);
        assert_eq!(data, [0xff; 4], "not without the enable bit");
    }

    #[test]
    fn the_size_of_memory_is_found_the_usual_way_and_it_moves() {
        let bus = bus();
        let window = Window(bus.clone());
        let mut byte = [0];
        window.read(0x123, &mut byte);
        assert_eq!(byte, [0xff], "off at first");
        put(&bus, 1, 4, 2);
        window.read(0x123, &mut byte);
        assert_eq!(byte, [0x23]);
        put(&bus, 1, 0x10, u32::MAX);
        assert_eq!(get(&bus, 1, 0x10), 0xffff_c000);
        put(&bus, 1, 0x10, (layout::PCI + 0x10_0000) as u32);
        window.read(0x123, &mut byte);
        assert_eq!(byte, [0xff]);
        window.read(0x10_0045, &mut byte);
        assert_eq!(byte, [0x45]);
    }

    proptest! {
        #[test]
        fn any_accesses_leave_it_standing(accesses in prop::collection::vec(
            (any::<u32>(), 0u64..4, 1usize..=4, any::<u32>(), any::<bool>()), 0..200)) {
            let bus = bus();
            for (address, offset, size, value, write) in accesses {
                AddressPort(bus.clone()).write(0, &(address & 0x80ff_ffff).to_le_bytes());
                let mut data = value.to_le_bytes();
                if write {
                    DataPort(bus.clone()).write(offset, &data[..size]);
                } else {
                    DataPort(bus.clone()).read(offset, &mut data[..size]);
                }
                Window(bus.clone()).read(u64::from(value), &mut data);
            }
            prop_assert_eq!(get(&bus, 1, 0), 0x1042_1af4);
        }
    }
}
