// SPDX-License-Identifier: GPL-2.0
//! What a fuzzer does with an input: an instruction, or a task switch, of a guest in any mode, with
//! any registers, page tables and descriptors. `hvctl-user/fuzz` has libFuzzer make inputs by the
//! coverage that they reach; those that are kept are a unit test.

use std::cell::RefCell;

use arbitrary::{Result, Unstructured};
use vm_memory::{Bytes, GuestAddress};

use super::{Source, Space, Stop, TaskSwitch, step, switch};
use crate::hypervisor::{CpuState, Event, EventKind, Gpr, Segment, Table};
use crate::memory::{self, GuestMemory};

/// RAM begins at 0 and ends here; the rest are devices.
const RAM: u64 = 0x1_0000;
/// Where the guest's code is, if no page table says otherwise.
const CODE: u64 = 0x1000;
/// Where page tables and descriptors tend to be.
const TABLES: u64 = 0x4000;

/// A machine whose devices answer what the input says, and count accesses.
struct Machine<'a> {
    memory: GuestMemory,
    answers: &'a [u8],
    accesses: usize,
    vectors: [u128; 16],
}

impl Machine<'_> {
    fn answer(&mut self, data: &mut [u8]) {
        self.accesses += 1;
        for byte in data {
            let (first, rest) = self.answers.split_first().unwrap_or((&0, &[]));
            (*byte, self.answers) = (*first, rest);
        }
    }

    /// An operand of an instruction has a size that a processor can have.
    fn access(&mut self, data: &[u8]) {
        assert!(matches!(data.len(), 1..=8 | 16), "{} bytes", data.len());
        self.accesses += 1;
    }
}

impl Space for Machine<'_> {
    fn memory(&self) -> &GuestMemory {
        &self.memory
    }
    fn mmio_read(&mut self, gpa: u64, data: &mut [u8]) {
        assert!(gpa >= RAM, "RAM at {gpa:#x} is no device");
        self.access(data);
        self.answer(data);
    }
    fn mmio_write(&mut self, gpa: u64, data: &[u8]) {
        assert!(gpa >= RAM, "RAM at {gpa:#x} is no device");
        self.access(data);
    }
    fn port_read(&mut self, _port: u16, data: &mut [u8]) {
        assert!(matches!(data.len(), 1 | 2 | 4), "{} bytes", data.len());
        self.answer(data);
    }
    fn port_write(&mut self, _port: u16, data: &[u8]) {
        assert!(matches!(data.len(), 1 | 2 | 4), "{} bytes", data.len());
        self.access(data);
    }
    fn vector(&mut self, index: usize) -> Option<u128> {
        self.vectors.get(index).copied()
    }
    fn set_vector(&mut self, index: usize, value: u128) -> Option<()> {
        *self.vectors.get_mut(index)? = value;
        Some(())
    }
}

/// A register's value: small, near the end of RAM or of all addresses, a device, or any.
fn value(input: &mut Unstructured) -> Result<u64> {
    let kind: u8 = input.arbitrary()?;
    let small = u64::from(kind >> 3);
    Ok(match kind & 7 {
        0 => small,
        1 => RAM - 16 + small,
        2 => u64::MAX - small,
        3 => 0xfec0_0000 + small * 8,
        4 => TABLES + small * 8,
        5 => 1 << (small * 2),
        6 => input.arbitrary::<u32>()?.into(),
        _ => input.arbitrary()?,
    })
}

fn segment(input: &mut Unstructured) -> Result<Segment> {
    Ok(if input.ratio(3, 4)? {
        Segment::flat_data(input.arbitrary()?)
    } else {
        Segment {
            base: value(input)?,
            limit: input.arbitrary()?,
            selector: input.arbitrary()?,
            attributes: input.arbitrary()?,
        }
    })
}

fn processor(input: &mut Unstructured) -> Result<CpuState> {
    let mode: u8 = input.arbitrary()?;
    let long = mode & 1 != 0;
    let paging = long || mode & 2 != 0;
    let mut cpu = CpuState {
        rip: if mode & 4 != 0 { CODE } else { value(input)? },
        rflags: value(input)? | 2,
        cs: Segment::flat_code(0x10, long),
        ds: segment(input)?,
        es: segment(input)?,
        ss: segment(input)?,
        efer: if long {
            CpuState::EFER_LMA | CpuState::EFER_LME | u64::from(mode & 8) << 8
        } else {
            0
        },
        cr0: if paging {
            1 << 31 | CpuState::CR0_PE
        } else {
            u64::from(mode >> 4 & 1)
        },
        cr3: TABLES,
        cr4: if long {
            1 << 5
        } else {
            u64::from(mode >> 3 & 6) << 3
        },
        ..Default::default()
    };
    if mode & 0x80 != 0 {
        cpu.cs = segment(input)?;
    }
    cpu.tr = segment(input)?;
    cpu.ldtr = segment(input)?;
    cpu.gdtr = Table {
        base: TABLES,
        limit: input.arbitrary()?,
    };
    for gpr in Gpr::ALL {
        cpu.set(gpr, value(input)?);
    }
    Ok(cpu)
}

/// Page tables and descriptors: some entries, of which any bit may be anything.
fn fill(input: &mut Unstructured, memory: &GuestMemory) -> Result<()> {
    for _ in 0..input.int_in_range(0..=12)? {
        let at = TABLES + u64::from(input.arbitrary::<u16>()?) % (RAM - TABLES - 8);
        let entry = value(input)? & !0xfff | u64::from(input.arbitrary::<u16>()?);
        memory
            .write_obj(entry, GuestAddress(at))
            .expect("it is RAM");
    }
    Ok(())
}

fn event(input: &mut Unstructured) -> Result<Option<Event>> {
    use EventKind::*;
    let kinds = [
        Interrupt,
        Nmi,
        Exception,
        SoftwareInterrupt,
        PrivilegedSoftwareException,
        SoftwareException,
    ];
    let event = Event {
        kind: *input.choose(&kinds)?,
        vector: input.arbitrary()?,
        error_code: input.arbitrary()?,
    };
    Ok(input.arbitrary::<bool>()?.then_some(event))
}

thread_local! {
    static MEMORY: RefCell<GuestMemory> =
        RefCell::new(memory::allocate(&[(0, RAM)]).expect("memory"));
}

/// Takes an input. Panics on a finding.
pub fn run(data: &[u8]) {
    let memory = MEMORY.with(|memory| memory.borrow().clone());
    memory
        .write_slice(&[0; RAM as usize], GuestAddress(0))
        .expect("it is RAM");
    // An input that ends too early is one with zeros behind it.
    let _ = attempt(&mut Unstructured::new(data), memory);
}

fn attempt(input: &mut Unstructured, memory: GuestMemory) -> Result<()> {
    let mut cpu = processor(input)?;
    fill(input, &memory)?;
    let code: [u8; 15] = input.arbitrary()?;
    let length = input.int_in_range(0..=15)?;
    let place = GuestAddress(CODE + cpu.rip % (RAM - CODE - 16));
    memory.write_slice(&code, place).expect("it is RAM");
    let task = input.ratio(1, 8)?;
    let switched = TaskSwitch {
        selector: input.arbitrary()?,
        source: *input.choose(&[Source::Call, Source::Return, Source::Jump, Source::Gate])?,
    };
    let event = event(input)?;
    let answers = input.bytes(input.len())?;
    let mut machine = Machine {
        memory,
        answers,
        accesses: 0,
        vectors: [0x55; 16],
    };
    if task {
        let _ = switch(&mut cpu, &mut machine, switched, event);
        return Ok(());
    }
    let before = cpu.clone();
    match step(&mut cpu, &mut machine, &code[..length]) {
        Ok(()) => {}
        // Repetitions that were done stay done.
        Err(Stop::Fault(_)) if cpu.get(Gpr::Rcx) != before.get(Gpr::Rcx) => {
            assert_eq!(cpu.rip, before.rip, "a repetition that faulted goes on");
        }
        Err(stop) => assert_eq!(cpu, before, "{stop}: as if it had not begun"),
    }
    Ok(())
}

#[test]
fn kept_inputs() {
    let seeds = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds/emulator");
    let mut count = 0;
    for entry in std::fs::read_dir(&seeds).expect("seeds") {
        let path = entry.expect("an entry").path();
        println!("{}", path.display());
        run(&std::fs::read(&path).expect("an input"));
        count += 1;
    }
    assert!(count > 0, "{}: there is none", seeds.display());
}
