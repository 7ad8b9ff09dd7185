// SPDX-License-Identifier: GPL-2.0

use super::*;
use crate::hypervisor::{EventKind, Table};
use crate::memory::{self, GuestMemory};
use vm_memory::{Bytes, GuestAddress};

const GDT: u64 = 0x1000;
const OLD: u64 = 0x2000;
const NEW: u64 = 0x3000;
const OLD_SELECTOR: u16 = 0x30;
const NEW_SELECTOR: u16 = 0x38;

struct Ram(GuestMemory);

impl Space for Ram {
    fn memory(&self) -> &GuestMemory {
        &self.0
    }
    fn mmio_read(&mut self, gpa: u64, _: &mut [u8]) {
        panic!("read of {gpa:#x}");
    }
    fn mmio_write(&mut self, gpa: u64, _: &[u8]) {
        panic!("write of {gpa:#x}");
    }
    fn port_read(&mut self, _: u16, _: &mut [u8]) {}
    fn port_write(&mut self, _: u16, _: &[u8]) {}
    fn vector(&mut self, _: usize) -> Option<u128> {
        None
    }
    fn set_vector(&mut self, _: usize, _: u128) -> Option<()> {
        None
    }
}

impl Ram {
    fn put<T: vm_memory::ByteValued>(&self, at: u64, value: T) {
        self.0.write_obj(value, GuestAddress(at)).unwrap();
    }

    fn get<T: vm_memory::ByteValued>(&self, at: u64) -> T {
        self.0.read_obj(GuestAddress(at)).unwrap()
    }

    fn busy(&self, selector: u16) -> bool {
        self.get::<u8>(GDT + u64::from(selector) + 5) & BUSY != 0
    }

    fn set_type(&self, selector: u16, value: u8) {
        self.put(GDT + u64::from(selector) + 5, value);
    }
}

fn tss_descriptor(base: u64, access: u64) -> u64 {
    0x67 | base << 16 | access << 40
}

/// A processor in the old task, about to `lcall`; the new task is ready.
fn bench() -> (CpuState, Ram) {
    let ram = Ram(memory::allocate(&[(0, 0x1_0000)]).unwrap());
    for (index, descriptor) in [
        0,
        0x00cf_9b00_0000_ffff,
        0x00cf_9300_0000_ffff,
        0x00cf_1b00_0000_ffff,
        0x00cf_fb00_0000_ffff,
        0x00cf_f300_0000_ffff,
        tss_descriptor(OLD, 0x8b),
        tss_descriptor(NEW, 0x89),
    ]
    .into_iter()
    .enumerate()
    {
        ram.put::<u64>(GDT + 8 * index as u64, descriptor);
    }
    // lcall $0x38, $0xf4f4f4f4
    ram.0
        .write_slice(
            &[0x9a, 0xf4, 0xf4, 0xf4, 0xf4, 0x38, 0],
            GuestAddress(0x8000),
        )
        .unwrap();
    for (at, value) in [
        (0x20, 0x9000u32),
        (0x24, 0x46),
        (0x28, 0xaaaa),
        (0x38, 0x7000),
        (0x48, 0x10),
        (0x4c, 0x08),
        (0x50, 0x10),
        (0x54, 0x10),
        (0x58, 0),
        (0x5c, 0x10),
    ] {
        ram.put(NEW + at, value);
    }
    let mut cpu = CpuState {
        rip: 0x8000,
        rflags: 0x202,
        cr0: CpuState::CR0_PE,
        cs: Segment::flat_code(8, false),
        ds: Segment::flat_data(0x10),
        es: Segment::flat_data(0x10),
        ss: Segment::flat_data(0x10),
        tr: Segment {
            base: OLD,
            ..Segment::task(OLD_SELECTOR)
        },
        gdtr: Table {
            base: GDT,
            limit: 0x3f,
        },
        ..Default::default()
    };
    cpu.set(Gpr::Rax, 0x1111);
    cpu.set(Gpr::Rsp, 0x6000);
    (cpu, ram)
}

fn task(source: Source) -> TaskSwitch {
    TaskSwitch {
        selector: NEW_SELECTOR,
        source,
    }
}

#[test]
fn a_call_nests_and_a_return_comes_back() {
    let (mut cpu, mut ram) = bench();
    switch(&mut cpu, &mut ram, task(Source::Call), None).unwrap();
    assert_eq!((cpu.rip, cpu.rflags), (0x9000, 0x46 | NT));
    assert_eq!((cpu.get(Gpr::Rax), cpu.get(Gpr::Rsp)), (0xaaaa, 0x7000));
    assert_eq!((cpu.tr.base, cpu.tr.selector), (NEW, NEW_SELECTOR));
    assert_eq!(cpu.tr.kind(), 0xb);
    assert_eq!((cpu.fs.selector, cpu.fs.is_present()), (0, false));
    assert_eq!(cpu.gs, Segment::flat_data(0x10));
    assert_ne!(cpu.cr0 & CR0_TS, 0);
    assert_eq!(ram.get::<u16>(NEW), OLD_SELECTOR);
    assert_eq!(ram.get::<u32>(OLD + 0x20), 0x8007);
    assert_eq!(ram.get::<u32>(OLD + 0x24), 0x202);
    assert_eq!(ram.get::<u32>(OLD + 0x28), 0x1111);
    assert!(ram.busy(OLD_SELECTOR) && ram.busy(NEW_SELECTOR));

    ram.put(0x9000u64, 0xcfu8);
    let back = TaskSwitch {
        selector: OLD_SELECTOR,
        source: Source::Return,
    };
    switch(&mut cpu, &mut ram, back, None).unwrap();
    assert_eq!((cpu.rip, cpu.get(Gpr::Rax)), (0x8007, 0x1111));
    assert_eq!(ram.get::<u32>(NEW + 0x20), 0x9001);
    assert_eq!(u64::from(ram.get::<u32>(NEW + 0x24)) & NT, 0);
    assert!(ram.busy(OLD_SELECTOR) && !ram.busy(NEW_SELECTOR));
}

#[test]
fn a_jump_leaves_no_way_back() {
    let (mut cpu, mut ram) = bench();
    switch(&mut cpu, &mut ram, task(Source::Jump), None).unwrap();
    assert_eq!(cpu.rflags & NT, 0);
    assert_eq!(ram.get::<u16>(NEW), 0);
    assert!(!ram.busy(OLD_SELECTOR) && ram.busy(NEW_SELECTOR));
}

#[test]
fn an_exception_by_a_task_gate_brings_its_error_code() {
    let (mut cpu, mut ram) = bench();
    let event = Event {
        kind: EventKind::Exception,
        vector: 14,
        error_code: Some(2),
    };
    switch(&mut cpu, &mut ram, task(Source::Gate), Some(event)).unwrap();
    assert_eq!(cpu.get(Gpr::Rsp), 0x6ffc);
    assert_eq!(ram.get::<u32>(0x6ffc), 2);
    // The instruction is tried again, and not stopped by a breakpoint on it.
    assert_eq!(ram.get::<u32>(OLD + 0x20), 0x8000);
    assert_eq!(ram.get::<u32>(OLD + 0x24), 0x202 | RF as u32);
    assert_ne!(cpu.rflags & NT, 0);
}

#[test]
fn a_software_interrupt_goes_on_behind_itself() {
    let (mut cpu, mut ram) = bench();
    ram.put(0x8000, [0xcdu8, 2]);
    let event = Event {
        kind: EventKind::SoftwareInterrupt,
        vector: 2,
        error_code: None,
    };
    switch(&mut cpu, &mut ram, task(Source::Gate), Some(event)).unwrap();
    assert_eq!(ram.get::<u32>(OLD + 0x20), 0x8002);
}

#[test]
fn a_virtual_8086_task() {
    let (mut cpu, mut ram) = bench();
    ram.put(NEW + 0x24, 0x2_0002u32);
    ram.put(NEW + 0x4c, 0x4200u32);
    switch(&mut cpu, &mut ram, task(Source::Jump), None).unwrap();
    assert_ne!(cpu.rflags & VM, 0);
    assert_eq!(cpu.cs, Segment::virtual_8086(0x4200));
    assert_eq!((cpu.cs.base, cpu.cs.privilege()), (0x4_2000, 3));
}

#[test]
fn what_cannot_be_switched_to_faults_in_the_old_task() {
    let refused = |change: &dyn Fn(&mut CpuState, &Ram), wanted: (u8, u32)| {
        let (mut cpu, mut ram) = bench();
        change(&mut cpu, &ram);
        let before = cpu;
        let error = switch(&mut cpu, &mut ram, task(Source::Call), None).unwrap_err();
        assert_eq!((error.vector, error.error_code), (wanted.0, Some(wanted.1)));
        assert_eq!(cpu, before);
        assert_eq!(ram.get::<u32>(OLD + 0x20), 0);
    };
    refused(&|_, ram| ram.set_type(NEW_SELECTOR, 0x8b), (13, 0x38));
    refused(&|_, ram| ram.set_type(NEW_SELECTOR, 0x93), (13, 0x38));
    refused(&|_, ram| ram.set_type(NEW_SELECTOR, 0x09), (11, 0x38));
    refused(&|_, ram| ram.put(GDT + 0x38, 0x66u16), (10, 0x38));
    refused(&|cpu, _| cpu.gdtr.limit = 0x3e, (13, 0x38));
}

#[test]
fn a_bad_segment_faults_in_the_new_task() {
    for (at, selector, wanted) in [
        (0x4c, 0x10u32, (10, 0x10)),
        (0x4c, 0x0b, (10, 0x08)),
        (0x4c, 0x18, (11, 0x18)),
        (0x50, 0x08, (10, 0x08)),
        (0x50, 0, (10, 0)),
        (0x54, 0x38, (10, 0x38)),
        (0x48, 0x44, (10, 0x44)),
        (0x60, 0x10, (10, 0x10)),
    ] {
        let (mut cpu, mut ram) = bench();
        ram.put(NEW + at, selector);
        let error = switch(&mut cpu, &mut ram, task(Source::Call), None).unwrap_err();
        assert_eq!(
            (error.vector, error.error_code),
            (wanted.0, Some(wanted.1)),
            "{at:#x}"
        );
        assert_eq!((cpu.rip, cpu.tr.selector), (0x9000, NEW_SELECTOR));
    }
}

#[test]
fn a_16_bit_tss() {
    let (mut cpu, mut ram) = bench();
    ram.set_type(NEW_SELECTOR, 0x81);
    for (at, value) in [
        (0x0e, 0x9000u16),
        (0x10, 2),
        (0x12, 0xbbbb),
        (0x1a, 0x7000),
        (0x22, 0x10),
        (0x24, 0x08),
        (0x26, 0x10),
        (0x28, 0x10),
        (0x2a, 0),
    ] {
        ram.put(NEW + at, value);
    }
    switch(&mut cpu, &mut ram, task(Source::Call), None).unwrap();
    assert_eq!(cpu.get(Gpr::Rax), 0xffff_bbbb);
    assert_eq!((cpu.rip, cpu.tr.kind()), (0x9000, 3));
    assert!(!cpu.fs.is_present() && !cpu.gs.is_present());
}
