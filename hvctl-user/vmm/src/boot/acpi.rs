// SPDX-License-Identifier: GPL-2.0
//! The ACPI tables of a machine without the hardware of old: "hardware-reduced", one
//! I/O APIC, COM1 and a clock.

use acpi_tables::aml::{Device, EISAName, IO, Interrupt, Name, Package, ResourceTemplate, Scope};
use acpi_tables::fadt::{FADTBuilder, Flags};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use acpi_tables::madt::{
    EnabledStatus, IoApic, LocalInterruptController, MADT, ProcessorLocalApic,
};
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;
use acpi_tables::xsdt::XSDT;
use acpi_tables::{Aml, AmlSink};

use super::Error;
use super::entry::place_bytes;
use crate::device::{power, rtc};
use crate::layout::{self, irq, port};
use crate::memory::GuestMemory;

const OEM: [u8; 6] = *b"HVMOD ";
const OEM_TABLE: [u8; 8] = *b"HVCTL   ";
const REVISION: u32 = 1;

/// The guest has no VGA (so must not look for one); COM1 is a legacy device.
const BOOT_ARCH_LEGACY_DEVICES: u16 = 1 << 0;
const BOOT_ARCH_NO_VGA: u16 = 1 << 2;

struct Bytes(Vec<u8>);

impl AmlSink for Bytes {
    fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }
}

fn bytes(table: &dyn Aml) -> Vec<u8> {
    let mut sink = Bytes(Vec::new());
    table.to_aml_bytes(&mut sink);
    sink.0
}

fn byte_port(port: u16) -> GAS {
    GAS::new(
        AddressSpace::SystemIo,
        8,
        0,
        AccessSize::ByteAccess,
        u64::from(port),
    )
}

fn dsdt() -> Vec<u8> {
    let mut table = Sdt::new(*b"DSDT", 36, 2, OEM, OEM_TABLE, REVISION);
    Scope::new(
        "_SB_".into(),
        vec![
            &Device::new(
                "COM1".into(),
                vec![
                    &Name::new("_HID".into(), &EISAName::new("PNP0501")),
                    &Name::new("_UID".into(), &acpi_tables::aml::ZERO),
                    &Name::new("_DDN".into(), &"COM1"),
                    &Name::new(
                        "_CRS".into(),
                        &ResourceTemplate::new(vec![
                            &Interrupt::new(true, true, false, false, u32::from(irq::COM1)),
                            &IO::new(port::COM1, port::COM1, 1, 8),
                        ]),
                    ),
                ],
            ),
            &Device::new(
                "RTC_".into(),
                vec![
                    &Name::new("_HID".into(), &EISAName::new("PNP0B00")),
                    &Name::new(
                        "_CRS".into(),
                        &ResourceTemplate::new(vec![&IO::new(port::RTC, port::RTC, 1, 2)]),
                    ),
                ],
            ),
        ],
    )
    .to_aml_bytes(&mut table);
    Name::new("_S5_".into(), &Package::new(vec![&power::S5, &power::S5])).to_aml_bytes(&mut table);
    table.update_checksum();
    table.as_slice().to_vec()
}

fn fadt(dsdt: u64) -> Vec<u8> {
    let mut fadt = FADTBuilder::new(OEM, OEM_TABLE, REVISION)
        .dsdt_64(dsdt)
        .flag(Flags::HwReducedAcpi)
        .flag(Flags::ResetRegSup)
        // There are no such buttons in the fixed hardware (because there is none).
        .flag(Flags::PwrButton)
        .flag(Flags::SlpButton)
        .flag(Flags::Headless);
    fadt.iapc_boot_arch = (BOOT_ARCH_LEGACY_DEVICES | BOOT_ARCH_NO_VGA).into();
    fadt.century = rtc::CENTURY as u8;
    fadt.reset_reg = byte_port(port::RESET);
    fadt.reset_value = power::RESET_VALUE;
    fadt.sleep_control_reg = byte_port(port::SLEEP_CONTROL);
    fadt.sleep_status_reg = byte_port(port::SLEEP_CONTROL + 1);
    bytes(&fadt.finalize())
}

fn madt(processors: u8) -> Vec<u8> {
    let address = LocalInterruptController::Address(layout::LAPIC as u32);
    let mut madt = MADT::new(OEM, OEM_TABLE, REVISION, address);
    for index in 0..processors {
        madt.add_structure(ProcessorLocalApic::new(
            index,
            index,
            EnabledStatus::Enabled,
        ));
    }
    madt.add_structure(IoApic::new(0, layout::IOAPIC as u32, 0));
    bytes(&madt)
}

/// Puts the tables into memory; returns where the root pointer is.
pub fn install(memory: &GuestMemory, processors: u8) -> Result<u64, Error> {
    // The root pointer first: programs search for it at the start of this area.
    let rsdp = layout::FIRMWARE;
    let mut next = rsdp + 64;
    let mut put = |table: &[u8]| {
        let address = next;
        next += (table.len() as u64).next_multiple_of(16);
        place_bytes(memory, address, table).map(|()| address)
    };
    let dsdt = put(&dsdt())?;
    let fadt = put(&fadt(dsdt))?;
    let madt = put(&madt(processors))?;
    let mut xsdt = XSDT::new(OEM, OEM_TABLE, REVISION);
    xsdt.add_entry(fadt);
    xsdt.add_entry(madt);
    let xsdt = put(&bytes(&xsdt))?;
    place_bytes(memory, rsdp, &bytes(&Rsdp::new(OEM, xsdt)))?;
    Ok(rsdp)
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

    #[test]
    fn iasl_understands_the_dsdt() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("dsdt.aml");
        std::fs::write(&path, dsdt()).unwrap();
        let Ok(output) = Command::new("iasl").arg("-d").arg(&path).output() else {
            eprintln!("no iasl here: skipped");
            return;
        };
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let source = std::fs::read_to_string(path.with_extension("dsl")).unwrap();
        for word in ["PNP0501", "_S5", "COM1", "0x03F8", "PNP0B00"] {
            assert!(source.contains(word), "{word} is not in\n{source}");
        }
    }
}
