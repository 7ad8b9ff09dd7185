// SPDX-License-Identifier: GPL-2.0
//! Layouts of virtio's PCI capabilities and of its common configuration (virtio 1.2,
//! section 4.1.4).

use std::mem::offset_of;
use std::ops::Range;

use zerocopy::{Immutable, IntoBytes};

use crate::device::bytes;
use crate::device::pci::config::ConfigSpace;

/// struct virtio_pci_cap.
pub struct Capability {
    kind: u8,
    area: Range<u64>,
}

impl Capability {
    /// The PCI capability ID of vendors.
    pub const ID: u8 = 0x09;

    pub const COMMON: u8 = 1;
    pub const NOTIFY: u8 = 2;
    pub const ISR: u8 = 3;
    pub const DEVICE: u8 = 4;
    pub const CONFIG_ACCESS: u8 = 5;

    pub fn new(kind: u8, area: Range<u64>) -> Self {
        Self { kind, area }
    }

    /// All after the ID and the link.
    pub fn body(&self) -> Vec<u8> {
        self.body_with(&[])
    }

    pub fn body_with(&self, more: &[u8]) -> Vec<u8> {
        let length = 16 + more.len() as u8;
        // Length, kind, BAR 0, no ID, padding; then offset and length in the BAR.
        let mut body = vec![length, self.kind, 0, 0, 0, 0];
        body.extend_from_slice(&(self.area.start as u32).to_le_bytes());
        body.extend_from_slice(&((self.area.end - self.area.start) as u32).to_le_bytes());
        body.extend_from_slice(more);
        body
    }
}

/// The window into the function's memory that configuration space has (struct
/// virtio_pci_cfg_cap).
pub struct ConfigAccess {
    bar: u8,
    offset: u32,
    length: u32,
}

impl ConfigAccess {
    const BAR: u8 = 4;
    const OFFSET: u8 = 8;
    const LENGTH: u8 = 12;
    pub const DATA: u8 = 16;

    /// What of [`Capability::body_with`] the guest writes: BAR, offset, length, data.
    pub const WRITABLE: [u8; 18] = {
        let mut writable = [0xff; 18];
        // Length and kind; ID and padding.
        (writable[0], writable[1]) = (0, 0);
        (writable[3], writable[4], writable[5]) = (0, 0, 0);
        writable
    };

    pub fn read(config: &ConfigSpace, at: u8) -> Self {
        let mut bar = [0];
        config.read(at + Self::BAR, &mut bar);
        Self {
            bar: bar[0],
            offset: config.u32(at + Self::OFFSET),
            length: config.u32(at + Self::LENGTH),
        }
    }

    /// The place in the function's `size` bytes of memory, and how many bytes.
    pub fn target(&self, size: u64) -> Option<(u64, usize)> {
        let (offset, length) = (u64::from(self.offset), u64::from(self.length));
        let right = matches!(length, 1 | 2 | 4) && offset % length == 0;
        (self.bar == 0 && right && offset + length <= size).then_some((offset, length as usize))
    }
}

/// struct virtio_pci_common_cfg.
#[repr(C)]
#[derive(Default, IntoBytes, Immutable)]
pub struct Common {
    pub device_feature_select: u32,
    pub device_feature: u32,
    pub driver_feature_select: u32,
    pub driver_feature: u32,
    pub config_vector: u16,
    pub queues: u16,
    pub status: u8,
    pub config_generation: u8,
    pub queue_select: u16,
    pub queue_size: u16,
    pub queue_vector: u16,
    pub queue_enable: u16,
    pub queue_notify_offset: u16,
    pub queue_descriptors: u64,
    pub queue_available: u64,
    pub queue_used: u64,
}

impl Common {
    pub const DEVICE_FEATURE_SELECT: u64 = offset_of!(Common, device_feature_select) as u64;
    pub const DRIVER_FEATURE_SELECT: u64 = offset_of!(Common, driver_feature_select) as u64;
    pub const DRIVER_FEATURE: u64 = offset_of!(Common, driver_feature) as u64;
    pub const CONFIG_VECTOR: u64 = offset_of!(Common, config_vector) as u64;
    pub const STATUS: u64 = offset_of!(Common, status) as u64;
    pub const QUEUE_SELECT: u64 = offset_of!(Common, queue_select) as u64;
    pub const QUEUE_SIZE: u64 = offset_of!(Common, queue_size) as u64;
    pub const QUEUE_VECTOR: u64 = offset_of!(Common, queue_vector) as u64;
    pub const QUEUE_ENABLE: u64 = offset_of!(Common, queue_enable) as u64;
    pub const QUEUE_DESCRIPTORS: u64 = offset_of!(Common, queue_descriptors) as u64;
    pub const QUEUE_AVAILABLE: u64 = offset_of!(Common, queue_available) as u64;
    pub const QUEUE_USED: u64 = offset_of!(Common, queue_used) as u64;

    pub fn read(&self, offset: u64, data: &mut [u8]) {
        bytes::read(self.as_bytes(), offset, data);
    }
}
