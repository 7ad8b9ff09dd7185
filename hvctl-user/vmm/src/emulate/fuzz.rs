// SPDX-License-Identifier: GPL-2.0
//! What a fuzzer does with an input: an instruction, or a task switch, of a guest in any mode, with
//! any registers, page tables and descriptors. `hvctl-user/fuzz` has libFuzzer make inputs by the
//! coverage that they reach; those that are kept are a unit test.

mod near;

use std::cell::RefCell;

use arbitrary::{Result, Unstructured};
use vm_memory::{Bytes, GuestAddress};

use super::oracle::{self, Seen, Touch};
use super::{Access, Source, Space, Stop, TaskSwitch, instruction, step, switch, translate};
use crate::hypervisor::{CpuState, Event, EventKind, Exception, Gpr, Segment, Table};
use crate::memory::{self, GuestMemory};

/// RAM begins at 0 and ends here; the rest are devices.
const RAM: u64 = 0x1_0000;
/// Where the guest's code is, if no page table says otherwise.
const CODE: u64 = 0x1000;
/// Where page tables and descriptors tend to be.
const TABLES: u64 = 0x4000;

/// A machine whose devices answer what the input says, and write accesses down.
struct Machine<'a> {
    memory: GuestMemory,
    answers: &'a [u8],
    touches: Vec<Touch>,
    vectors: [u128; 16],
    /// Where each translation led, and what for.
    asked: RefCell<Vec<(u64, Access)>>,
    /// The translation, counted from 0, that ends in a page fault.
    faults: Option<usize>,
}

impl<'a> Machine<'a> {
    fn new(memory: GuestMemory, answers: &'a [u8], faults: Option<usize>) -> Self {
        Self {
            memory,
            answers,
            touches: Vec::new(),
            vectors: [0x55; 16],
            asked: RefCell::default(),
            faults,
        }
    }

    fn answer(&mut self, data: &mut [u8]) {
        for byte in data {
            let (first, rest) = self.answers.split_first().unwrap_or((&0, &[]));
            (*byte, self.answers) = (*first, rest);
        }
    }

    /// An operand of an instruction has a size that a processor can have.
    fn touch(&mut self, gpa: u64, data: &[u8], write: bool) {
        assert!(gpa >= RAM, "RAM at {gpa:#x} is no device");
        assert!(matches!(data.len(), 1..=8), "{} bytes", data.len());
        let data = data.to_vec();
        self.touches.push(Touch { gpa, data, write });
    }

    fn ram(&self) -> Vec<u8> {
        let mut ram = vec![0; RAM as usize];
        self.memory
            .read_slice(&mut ram, GuestAddress(0))
            .expect("it is RAM");
        ram
    }
}

impl Space for Machine<'_> {
    fn memory(&self) -> &GuestMemory {
        &self.memory
    }
    fn translate(
        &self,
        cpu: &CpuState,
        linear: u64,
        access: Access,
    ) -> std::result::Result<u64, Stop> {
        let mut asked = self.asked.borrow_mut();
        let found = match self.faults == Some(asked.len()) {
            true => Err(Stop::Fault(Exception {
                vector: 14,
                error_code: Some(0),
                parameter: linear,
            })),
            false => translate(&self.memory, cpu, linear, access).map_err(Stop::Fault),
        };
        asked.push((found.clone().unwrap_or(u64::MAX), access));
        found
    }
    fn mmio_read(&mut self, gpa: u64, data: &mut [u8]) {
        self.answer(data);
        self.touch(gpa, data, false);
    }
    fn mmio_write(&mut self, gpa: u64, data: &[u8]) {
        self.touch(gpa, data, true);
    }
    fn port_read(&mut self, _port: u16, data: &mut [u8]) {
        assert!(matches!(data.len(), 1 | 2 | 4), "{} bytes", data.len());
        self.answer(data);
    }
    fn port_write(&mut self, _port: u16, data: &[u8]) {
        assert!(matches!(data.len(), 1 | 2 | 4), "{} bytes", data.len());
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

/// Page tables that lead somewhere from the address in RAX, with any rights on the way.
fn map(input: &mut Unstructured, cpu: &CpuState, memory: &GuestMemory) -> Result<()> {
    let long = cpu.efer & CpuState::EFER_LMA != 0;
    let (width, shifts): (u64, &[u32]) = match (long, cpu.cr4 & CpuState::CR4_PAE != 0) {
        (true, _) => (8, &[39, 30, 21, 12]),
        (false, true) => (8, &[30, 21, 12]),
        (false, false) => (4, &[22, 12]),
    };
    let mut table = TABLES;
    for shift in shifts {
        let index = cpu.get(Gpr::Rax) >> shift & (4096 / width - 1);
        let at = GuestAddress(table + index * width);
        table += 0x1000;
        let to = if *shift == 12 {
            value(input)? & 0xffff_f000
        } else {
            table
        };
        // Most are present; large ones, and those that are not to be executed, are few.
        let flags: u8 = input.arbitrary()?;
        let flags = (to | u64::from(flags >> 1 & 0xef) | u64::from(!input.ratio(1, 16)?))
            | u64::from(input.ratio(1, 8)?) << 7
            | u64::from(width == 8 && input.ratio(1, 8)?) << 63;
        let bytes = flags.to_le_bytes();
        memory
            .write_slice(&bytes[..width as usize], at)
            .expect("it is RAM");
    }
    Ok(())
}

/// A GDT, and a task to switch to, most of which is as it should be.
fn task(input: &mut Unstructured, cpu: &mut CpuState, memory: &GuestMemory) -> Result<u16> {
    const OLD: u64 = 0x8000;
    const NEW: u64 = 0x9000;
    /// Types: TSS, code, data, conforming code, LDT, read-only data, of ring 3 and not present.
    const TYPES: [u64; 12] = [
        0x89, 0x9b, 0x93, 0x9f, 0xfb, 0xf3, 0x82, 0x91, 0x1b, 0x13, 0x8b, 0xff,
    ];
    let write = |at, word: u64| {
        memory.write_obj(word, GuestAddress(at)).expect("it is RAM");
    };
    for index in 1..12 {
        let kind = match input.ratio(3, 4)? {
            true => TYPES[index as usize - 1],
            false => *input.choose(&TYPES)?,
        };
        // Of 4 GiB; a system segment is where the task is.
        let base = [0, NEW][usize::from(kind & 0x10 == 0)];
        write(
            TABLES + 8 * index,
            0x00cf_0000_0000_ffff | base << 16 | kind << 40,
        );
    }
    let rpl = |input: &mut Unstructured| Ok([0, 3][usize::from(input.ratio(1, 2)?)]);
    for slot in 0..27 {
        let selector = u64::from(input.arbitrary::<u8>()? % 13) << 3 | rpl(input)?;
        let good = [5 << 3 | 3, 5 << 3 | 3, 6 << 3 | 3][slot as usize % 3];
        let word = [selector, good][usize::from(input.ratio(1, 2)?)];
        memory
            .write_obj(word as u32, GuestAddress(NEW + 4 * slot))
            .expect("it is RAM");
    }
    (cpu.cr0, cpu.efer, cpu.gdtr.limit) = (CpuState::CR0_PE, 0, 0x7f);
    cpu.tr = Segment {
        base: OLD,
        ..Segment::task(11 << 3)
    };
    Ok(1 << 3)
}

/// An instruction with an operand in memory.
fn code(input: &mut Unstructured) -> Result<Vec<u8>> {
    /// Those that most drivers use on registers of devices, and all others in their rows.
    const PLAIN: [u8; 46] = [
        0x63, 0x69, 0x6b, 0x80, 0x81, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8b, 0x8f,
        0xa4, 0xa5, 0xa6, 0xa7, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf, 0xc0, 0xc1, 0xc6, 0xc7, 0xd0,
        0xd1, 0xd2, 0xd3, 0xf6, 0xf7, 0xfe, 0xff, 0xfe, 0xff, 0xa0, 0xa1, 0xa2, 0xa3, 0x6c, 0x6e,
        0xd7,
    ];
    const AFTER_0F: [u8; 18] = [
        0xa3, 0xa4, 0xa5, 0xab, 0xac, 0xaf, 0xb0, 0xb1, 0xb3, 0xb6, 0xb7, 0xba, 0xbb, 0xbc, 0xbe,
        0xbf, 0xc0, 0xc1,
    ];
    let mut code = Vec::new();
    for prefix in [0x66, 0x67, 0xf2, 0xf3] {
        if input.ratio(1, 8)? {
            code.push(prefix);
        }
    }
    if input.ratio(1, 3)? {
        code.push(0x40 | input.arbitrary::<u8>()? & 15);
    }
    match input.arbitrary::<u8>()? & 3 {
        0 => code.push(input.arbitrary::<u8>()? & 0x3b),
        1 => code.extend([0x0f, *input.choose(&AFTER_0F)?]),
        _ => code.push(*input.choose(&PLAIN)?),
    }
    // Its ModRM says memory.
    code.push(input.arbitrary::<u8>()? & 0xbf);
    code.extend(input.arbitrary::<[u8; 8]>()?);
    code.truncate(15);
    Ok(code)
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
    let kind: u8 = input.arbitrary()?;
    if kind & 1 != 0 {
        map(input, &cpu, &memory)?;
    }
    // Rights count.
    cpu.cr0 |= u64::from(kind >> 1 & 1) << 16;
    cpu.cr4 |= u64::from(kind >> 2 & 1) << 21;
    cpu.ss.attributes |= (u16::from(kind >> 3 & 1) * 3) << 5;
    let mut bytes: [u8; 15] = input.arbitrary()?;
    if kind >> 4 & 3 != 0 {
        let code = code(input)?;
        bytes[..code.len()].copy_from_slice(&code);
    }
    let code = bytes;
    let length = [15, input.int_in_range(0..=15)?][usize::from(kind >> 6 == 0)];
    let place = GuestAddress(CODE + cpu.rip % (RAM - CODE - 16));
    memory.write_slice(&code, place).expect("it is RAM");
    let switches = input.ratio(1, 8)?;
    let selector = match switches && kind & 1 != 0 {
        true => task(input, &mut cpu, &memory)?,
        false => input.arbitrary()?,
    };
    let switched = TaskSwitch {
        selector,
        source: *input.choose(&[Source::Call, Source::Return, Source::Jump, Source::Gate])?,
    };
    let event = event(input)?;
    let answers = input.bytes(input.len())?;
    let mut machine = Machine::new(memory, answers, None);
    let ram = machine.ram();
    let word = |at: u64, width: usize| {
        let entry = ram.get(at as usize..)?.get(..width)?;
        Some(
            (0..)
                .zip(entry)
                .fold(0, |word, (i, byte)| word | u64::from(*byte) << (8 * i)),
        )
    };
    for access in [Access::read(&cpu), Access::write(&cpu), Access::fetch(&cpu)] {
        let linear = cpu.get(Gpr::Rax);
        let found = translate(&machine.memory, &cpu, linear, access).ok();
        assert_eq!(
            found,
            oracle::walk(&cpu, linear, access, word),
            "{access:?} at {linear:#x}"
        );
    }
    let before = cpu;
    if switches {
        let done = switch(&mut cpu, &mut machine, switched, event);
        if done.is_ok() {
            oracle::check_task(&cpu);
        }
        let left = machine.ram();
        let seen = Seen {
            before: &ram,
            after: &left,
            touches: &machine.touches,
        };
        oracle::rights::check(&before, &machine.asked.borrow(), &seen, true);
        if kind & 1 != 0 {
            let switched = oracle::task::Switched {
                task: switched,
                event,
                ram: &ram,
                left: &left,
                done,
            };
            switched.check(&before, &cpu);
            let choice = usize::from(kind >> 1) + usize::from(bytes[0]);
            near::tasks(&mut machine, &ram, &before, switched, choice);
        }
        return Ok(());
    }
    let decoded = instruction::decode(&cpu, &machine, &code[..length]);
    machine.asked.borrow_mut().clear();
    let done = step(&mut cpu, &mut machine, &code[..length]);
    let after = machine.ram();
    let seen = Seen {
        before: &ram,
        after: &after,
        touches: &machine.touches,
    };
    oracle::rights::check(&before, &machine.asked.borrow(), &seen, false);
    match done {
        Ok(()) => {
            let decoded = decoded.expect("it was carried out");
            oracle::check(&before, &cpu, &decoded, &seen);
            let once = !decoded.has_rep_prefix() && !decoded.has_repne_prefix();
            let translations = machine.asked.borrow().len();
            let short = &code[..decoded.len().min(length)];
            near::segments(&machine.memory, (&ram, answers), &before, short);
            near::repeated(&machine.memory, (&ram, answers), &before, short);
            for fault in 0..if once { translations } else { 0 } {
                faulted(
                    &machine.memory,
                    (&ram, answers),
                    before,
                    &code[..length],
                    fault,
                );
            }
        }
        // Repetitions that were done stay done.
        Err(Stop::Fault(_)) if cpu.get(Gpr::Rcx) != before.get(Gpr::Rcx) => {
            assert_eq!(cpu.rip, before.rip, "a repetition that faulted goes on");
        }
        Err(stop) => assert_eq!(cpu, before, "{stop}: as if it had not begun"),
    }
    Ok(())
}

/// An instruction that was carried out is stopped by a page fault at any of the pages that it needs:
/// then nothing of it was.
fn faulted(
    memory: &GuestMemory,
    (ram, answers): (&[u8], &[u8]),
    before: CpuState,
    code: &[u8],
    fault: usize,
) {
    memory.write_slice(ram, GuestAddress(0)).expect("it is RAM");
    let mut machine = Machine::new(memory.clone(), answers, Some(fault));
    let mut cpu = before;
    // The bytes of an instruction may be fewer than was asked for.
    let Err(stop) = step(&mut cpu, &mut machine, code) else {
        return;
    };
    assert_eq!(
        cpu, before,
        "{stop} at page {fault}: as if it had not begun"
    );
    assert!(
        machine.touches.iter().all(|touch| !touch.write),
        "{stop} at page {fault}: {:x?}",
        machine.touches
    );
    if before.cr0 & CpuState::CR0_PG == 0 {
        assert!(machine.ram() == ram, "{stop} at page {fault}: it wrote");
    }
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
