// SPDX-License-Identifier: GPL-2.0
//! The ACPI tables of a machine without the hardware of old: "hardware-reduced", one
//! I/O APIC, and the devices of `dsdt.asl`.

use zerocopy::{Immutable, IntoBytes};

use super::Error;
use super::entry::place_bytes;
use crate::device::{power, rtc};
use crate::layout::{self, port};
use crate::memory::GuestMemory;

const DSDT: &[u8] = include_bytes!("dsdt.aml");
const OEM: [u8; 6] = *b"HVMOD ";

/// The header of every table but the root pointer.
#[repr(C, packed)]
#[derive(IntoBytes, Immutable)]
struct Header {
    signature: [u8; 4],
    length: u32,
    revision: u8,
    checksum: u8,
    oem: [u8; 6],
    oem_table: [u8; 8],
    oem_revision: u32,
    creator: [u8; 4],
    creator_revision: u32,
}

/// Where a register is.
#[repr(C, packed)]
#[derive(Default, Clone, Copy, IntoBytes, Immutable)]
struct GenericAddress {
    space: u8,
    bit_width: u8,
    bit_offset: u8,
    access_size: u8,
    address: u64,
}

impl GenericAddress {
    fn byte_port(port: u16) -> Self {
        Self {
            space: 1,
            bit_width: 8,
            bit_offset: 0,
            access_size: 1,
            address: port.into(),
        }
    }
}

/// The Fixed ACPI Description Table (ACPI 6.4, section 5.2.9) after its header. The
/// ranges of bytes are fields that mean nothing on a hardware-reduced machine.
#[repr(C, packed)]
#[derive(IntoBytes, Immutable)]
struct Fadt {
    facs: u32,
    dsdt: u32,
    reserved: u8,
    profile: u8,
    fixed_hardware: [u8; 62],
    century: u8,
    boot_architecture: u16,
    reserved2: u8,
    flags: u32,
    reset_register: GenericAddress,
    reset_value: u8,
    arm_boot_architecture: u16,
    minor_version: u8,
    x_facs: u64,
    x_dsdt: u64,
    x_fixed_hardware: [u8; 96],
    sleep_control: GenericAddress,
    sleep_status: GenericAddress,
    hypervisor: u64,
}

/// COM1 is a legacy device.
const BOOT_LEGACY_DEVICES: u16 = 1 << 0;
/// The guest must not look for a VGA.
const BOOT_NO_VGA: u16 = 1 << 2;

/// There are no such buttons in the fixed hardware, of which there is none.
const NO_POWER_BUTTON: u32 = 1 << 4;
const NO_SLEEP_BUTTON: u32 = 1 << 5;
const HAS_RESET_REGISTER: u32 = 1 << 10;
const HEADLESS: u32 = 1 << 12;
const HARDWARE_REDUCED: u32 = 1 << 20;

/// The Multiple APIC Description Table after its header, before its entries.
#[repr(C, packed)]
#[derive(IntoBytes, Immutable)]
struct Madt {
    local_apics: u32,
    flags: u32,
}

#[repr(C, packed)]
#[derive(IntoBytes, Immutable)]
struct LocalApic {
    kind: u8,
    length: u8,
    processor: u8,
    apic_id: u8,
    flags: u32,
}

#[repr(C, packed)]
#[derive(IntoBytes, Immutable)]
struct IoApic {
    kind: u8,
    length: u8,
    id: u8,
    reserved: u8,
    address: u32,
    first_interrupt: u32,
}

#[repr(C, packed)]
#[derive(IntoBytes, Immutable)]
struct RootPointer {
    signature: [u8; 8],
    checksum: u8,
    oem: [u8; 6],
    revision: u8,
    rsdt: u32,
    length: u32,
    xsdt: u64,
    extended_checksum: u8,
    reserved: [u8; 3],
}

/// What makes the bytes add up to nothing.
fn checksum(bytes: &[u8]) -> u8 {
    bytes
        .iter()
        .fold(0, |sum: u8, byte| sum.wrapping_sub(*byte))
}

/// A table of the parts that follow its header.
fn table(signature: &[u8; 4], revision: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let header = Header {
        signature: *signature,
        length: (size_of::<Header>() + body.len()) as u32,
        revision,
        checksum: 0,
        oem: OEM,
        oem_table: *b"HVCTL   ",
        oem_revision: 1,
        creator: *b"HVCT",
        creator_revision: 1,
    };
    let mut table = [header.as_bytes(), &body].concat();
    table[std::mem::offset_of!(Header, checksum)] = checksum(&table);
    table
}

fn fadt(dsdt: u64) -> Vec<u8> {
    let fadt = Fadt {
        facs: 0,
        dsdt: dsdt as u32,
        reserved: 0,
        profile: 0,
        fixed_hardware: [0; 62],
        century: rtc::CENTURY as u8,
        boot_architecture: BOOT_LEGACY_DEVICES | BOOT_NO_VGA,
        reserved2: 0,
        flags: NO_POWER_BUTTON | NO_SLEEP_BUTTON | HAS_RESET_REGISTER | HEADLESS | HARDWARE_REDUCED,
        reset_register: GenericAddress::byte_port(port::RESET),
        reset_value: power::RESET_VALUE,
        arm_boot_architecture: 0,
        minor_version: 4,
        x_facs: 0,
        x_dsdt: dsdt,
        x_fixed_hardware: [0; 96],
        sleep_control: GenericAddress::byte_port(port::SLEEP_CONTROL),
        sleep_status: GenericAddress::byte_port(port::SLEEP_CONTROL + 1),
        hypervisor: 0,
    };
    table(b"FACP", 6, &[fadt.as_bytes()])
}

fn madt(processors: u8) -> Vec<u8> {
    let madt = Madt {
        local_apics: layout::LAPIC as u32,
        flags: 0,
    };
    let mut body = madt.as_bytes().to_vec();
    for index in 0..processors {
        let entry = LocalApic {
            kind: 0,
            length: 8,
            processor: index,
            apic_id: index,
            flags: 1,
        };
        body.extend_from_slice(entry.as_bytes());
    }
    let entry = IoApic {
        kind: 1,
        length: 12,
        id: 0,
        reserved: 0,
        address: layout::IOAPIC as u32,
        first_interrupt: 0,
    };
    body.extend_from_slice(entry.as_bytes());
    table(b"APIC", 5, &[&body])
}

fn root_pointer(xsdt: u64) -> RootPointer {
    let mut root = RootPointer {
        signature: *b"RSD PTR ",
        checksum: 0,
        oem: OEM,
        revision: 2,
        rsdt: 0,
        length: size_of::<RootPointer>() as u32,
        xsdt,
        extended_checksum: 0,
        reserved: [0; 3],
    };
    // The first checksum covers what ACPI 1.0 had.
    root.checksum = checksum(&root.as_bytes()[..20]);
    root.extended_checksum = checksum(root.as_bytes());
    root
}

/// Puts the tables into memory; returns where the root pointer is.
pub fn install(memory: &GuestMemory, processors: u8) -> Result<u64, Error> {
    // The root pointer first: programs search for it at the start of this area.
    let root = layout::FIRMWARE;
    let mut next = root + 64;
    let mut put = |table: &[u8]| {
        let address = next;
        next += (table.len() as u64).next_multiple_of(16);
        place_bytes(memory, address, table).map(|()| address)
    };
    let dsdt = put(DSDT)?;
    let fadt = put(&fadt(dsdt))?;
    let madt = put(&madt(processors))?;
    let xsdt = put(&table(b"XSDT", 1, &[fadt.as_bytes(), madt.as_bytes()]))?;
    place_bytes(memory, root, root_pointer(xsdt).as_bytes())?;
    Ok(root)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory;
    use std::process::Command;
    use vm_memory::{Bytes as _, GuestAddress};

    fn sum(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
    }

    fn u32_at(bytes: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
    }

    fn u64_at(bytes: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
    }

    /// The table at `address`, by the length that it says it has.
    fn table(memory: &GuestMemory, address: u64) -> Vec<u8> {
        let mut header = [0; 36];
        memory
            .read_slice(&mut header, GuestAddress(address))
            .unwrap();
        let mut table = vec![0; u32_at(&header, 4) as usize];
        memory
            .read_slice(&mut table, GuestAddress(address))
            .unwrap();
        assert_eq!(sum(&table), 0, "checksum of {:?}", &table[..4]);
        table
    }

    #[test]
    fn the_tables_are_found_from_the_root_pointer() {
        let memory = memory::allocate(&[(0, 1 << 20)]).unwrap();
        let address = install(&memory, 2).unwrap();
        let mut rsdp = [0; 36];
        memory.read_slice(&mut rsdp, GuestAddress(address)).unwrap();
        assert_eq!(&rsdp[..8], b"RSD PTR ");
        assert_eq!((sum(&rsdp[..20]), sum(&rsdp)), (0, 0));
        let xsdt = table(&memory, u64_at(&rsdp, 24));
        let entries: Vec<_> = xsdt[36..].chunks(8).map(|entry| u64_at(entry, 0)).collect();
        let [fadt, madt] = entries[..] else {
            panic!("{entries:x?}")
        };

        let fadt = table(&memory, fadt);
        assert_eq!((&fadt[..4], fadt.len()), (&b"FACP"[..], 276));
        assert_ne!(u32_at(&fadt, 112) & 1 << 20, 0, "hardware-reduced");
        assert_eq!(
            fadt[116..120],
            [1, 8, 0, 1],
            "the reset register is a byte port"
        );
        assert_eq!(u64_at(&fadt, 120), u64::from(port::RESET));
        assert_eq!(u64_at(&fadt, 248), u64::from(port::SLEEP_CONTROL));
        let dsdt = table(&memory, u64_at(&fadt, 140));
        assert_eq!(&dsdt[..4], b"DSDT");

        let madt = table(&memory, madt);
        assert_eq!(u32_at(&madt, 36), 0xfee0_0000);
        assert_eq!(u32_at(&madt, 40), 0, "no PICs");
        assert_eq!(madt[44..46], [0, 8], "a local APIC");
        assert_eq!(madt[60..62], [1, 12], "then the I/O APIC");
        assert_eq!(u32_at(&madt, 64), 0xfec0_0000);
    }

    /// The AML without what depends on the compiler that made it.
    fn comparable(aml: &[u8]) -> Vec<u8> {
        let mut aml = aml.to_vec();
        aml[9] = 0; // checksum
        aml[28..36].fill(0); // creator and its revision
        aml
    }

    #[test]
    fn the_dsdt_is_what_its_source_says() {
        let directory = tempfile::tempdir().unwrap();
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/boot/acpi/dsdt.asl");
        let prefix = directory.path().join("dsdt");
        let Ok(output) = Command::new("iasl")
            .arg("-p")
            .arg(&prefix)
            .arg(source)
            .output()
        else {
            eprintln!("no iasl here: skipped");
            return;
        };
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stdout)
        );
        let compiled = std::fs::read(prefix.with_extension("aml")).unwrap();
        assert_eq!(comparable(&compiled), comparable(DSDT), "run iasl dsdt.asl");
    }

    #[test]
    fn iasl_understands_every_table() {
        for (name, table) in [
            ("facp", fadt(0xe_0040)),
            ("apic", madt(3)),
            ("xsdt", super::table(b"XSDT", 1, &[&[0; 16]])),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join(name);
            std::fs::write(&path, table).unwrap();
            let Ok(output) = Command::new("iasl").arg("-d").arg(&path).output() else {
                eprintln!("no iasl here: skipped");
                return;
            };
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{name}: {said}");
            let source = std::fs::read_to_string(path.with_extension("dsl")).unwrap();
            for complaint in ["**** ", "Incorrect", "Invalid", "Unknown"] {
                assert!(!source.contains(complaint), "{name}: {source}");
            }
        }
    }
}
