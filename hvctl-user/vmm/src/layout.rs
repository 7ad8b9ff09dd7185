// SPDX-License-Identifier: GPL-2.0
//! What lies where in the guest's physical memory and port space.

/// RAM stops here and goes on at [`HIGH_RAM`]; devices are between.
pub const HOLE: u64 = 3 << 30;
pub const HIGH_RAM: u64 = 4 << 30;

/// Where the registers of PCI functions may be, as the DSDT says.
pub const PCI: u64 = HOLE;
pub const PCI_SIZE: u64 = IOAPIC - PCI;

pub const IOAPIC: u64 = 0xfec0_0000;
pub const LAPIC: u64 = 0xfee0_0000;
/// Memory of a test device: not told to the guest, which knows of it.
pub const TEST_MEMORY: (u64, u64) = (0xff00_0000, 0x1_0000);

/// Boot data that hvctl leaves in low memory, all of it free for the guest to reuse.
pub mod boot {
    pub const GDT: u64 = 0x0500;
    pub const ZERO_PAGE: u64 = 0x7000;
    pub const STACK: u64 = 0x8ff0;
    /// PML4, PDPT and four page directories.
    pub const PAGE_TABLES: u64 = 0x9000;
    pub const COMMAND_LINE: u64 = 0x2_0000;
    pub const MULTIBOOT_INFO: u64 = 0x3_0000;
    /// Above all of these.
    pub const END: u64 = 0x4_0000;
}

/// Conventional memory ends here.
pub const LOW_END: u64 = 0x9_fc00;
/// Firmware tables, where programs without a boot loader look for them too.
pub const FIRMWARE: u64 = 0xe_0000;
/// f000:fff0, where a PC's firmware begins after a reset.
pub const RESET_VECTOR: u64 = 0xf_fff0;
/// Where the bootstrap processor begins after INIT; a PC has its firmware there too.
pub const FIRST_INSTRUCTION: u64 = 0xffff_fff0;
pub const HIGH_START: u64 = 0x10_0000;

pub mod port {
    pub const RTC: u16 = 0x70;
    pub const TEST_LATCHES: [u16; 2] = [0xe0, 0xe8];
    pub const EXIT: u16 = 0xf4;
    pub const KEYBOARD_COMMAND: u16 = 0x64;
    pub const COM1: u16 = 0x3f8;
    pub const FW_CFG: u16 = 0x510;
    pub const SLEEP_CONTROL: u16 = 0x600;
    pub const RESET: u16 = 0x602;
    pub const PCI_ADDRESS: u16 = 0xcf8;
    pub const RESET_CONTROL: u16 = 0xcf9;
    pub const PCI_DATA: u16 = 0xcfc;
    pub const TEST_LINES: u16 = 0x2000;
}

pub mod irq {
    pub const COM1: u8 = 4;
    /// The generic event device's.
    pub const POWER_BUTTON: u8 = 5;
}

/// The stretches of RAM that `size` bytes make.
pub fn ram(size: u64) -> Vec<(u64, u64)> {
    if size <= HOLE {
        vec![(0, size)]
    } else {
        vec![(0, HOLE), (HIGH_RAM, size - HOLE)]
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    Usable = 1,
    Reserved = 2,
}

/// A line of the memory map that the guest is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    pub start: u64,
    pub size: u64,
    pub kind: Kind,
}

/// The memory map for `size` bytes of RAM (at least a MiB), in order of address.
pub fn memory_map(size: u64) -> Vec<Range> {
    let range = |start: u64, end: u64, kind| Range {
        start,
        size: end - start,
        kind,
    };
    let mut map = vec![
        range(0, LOW_END, Kind::Usable),
        range(LOW_END, 0xa_0000, Kind::Reserved),
        range(FIRMWARE, HIGH_START, Kind::Reserved),
    ];
    for (start, size) in ram(size) {
        let end = start + size;
        let start = start.max(HIGH_START);
        if end > start {
            map.push(range(start, end, Kind::Usable));
        }
    }
    map.push(range(IOAPIC, IOAPIC + 0x1000, Kind::Reserved));
    map.push(range(LAPIC, LAPIC + 0x1000, Kind::Reserved));
    map.sort_by_key(|range| range.start);
    map
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_map_is_ordered_apart_and_complete(mib in 1u64..16384) {
            let size = mib << 20;
            let map = memory_map(size);
            for pair in map.windows(2) {
                prop_assert!(pair[0].start + pair[0].size <= pair[1].start);
            }
            let usable: u64 =
                map.iter().filter(|range| range.kind == Kind::Usable).map(|range| range.size).sum();
            prop_assert_eq!(usable, size - (HIGH_START - LOW_END));
            prop_assert!(map.iter().all(|range| range.size > 0));
            // No RAM where the devices are.
            prop_assert!(ram(size).iter().all(|&(start, size)|
                start + size <= HOLE || start >= HIGH_RAM));
        }
    }

    #[test]
    fn memory_beyond_the_hole_is_above_four_gib() {
        assert_eq!(ram(HOLE), [(0, HOLE)]);
        assert_eq!(ram(HOLE + (1 << 20)), [(0, HOLE), (HIGH_RAM, 1 << 20)]);
    }
}
