// SPDX-License-Identifier: GPL-2.0

use super::*;
use crate::hypervisor::{Gpr, Segment};
use crate::memory;
use proptest::prelude::*;
use vm_memory::{Bytes, GuestAddress};

mod operations;
mod strings;

const RAM: u64 = 0x1_0000;
const DEVICE: u64 = 0xfec0_0000;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Event {
    Read(u64, usize),
    Write(u64, Vec<u8>),
    In(u16, usize),
    Out(u16, Vec<u8>),
}

/// RAM at 0, a device everywhere else that reads as `answer` and writes it all down.
struct Fake {
    memory: GuestMemory,
    answer: u64,
    events: Vec<Event>,
    vectors: [u128; 16],
}

impl Fake {
    fn new(answer: u64) -> Self {
        let memory = memory::allocate(&[(0, RAM)]).unwrap();
        Self {
            memory,
            answer,
            events: Vec::new(),
            vectors: [0; 16],
        }
    }
}

impl Space for Fake {
    fn memory(&self) -> &GuestMemory {
        &self.memory
    }
    fn mmio_read(&mut self, gpa: u64, data: &mut [u8]) {
        data.copy_from_slice(&self.answer.to_le_bytes()[..data.len()]);
        self.events.push(Event::Read(gpa, data.len()));
    }
    fn mmio_write(&mut self, gpa: u64, data: &[u8]) {
        self.events.push(Event::Write(gpa, data.to_vec()));
    }
    fn port_read(&mut self, port: u16, data: &mut [u8]) {
        data.copy_from_slice(&self.answer.to_le_bytes()[..data.len()]);
        self.events.push(Event::In(port, data.len()));
    }
    fn port_write(&mut self, port: u16, data: &[u8]) {
        self.events.push(Event::Out(port, data.to_vec()));
    }
    fn vector(&mut self, index: usize) -> Option<u128> {
        Some(self.vectors[index])
    }
    fn set_vector(&mut self, index: usize, value: u128) -> Option<()> {
        self.vectors[index] = value;
        Some(())
    }
}

/// A processor in flat mode without paging, of the given width.
fn cpu(bitness: u32) -> CpuState {
    let mut cpu = CpuState {
        rip: 0x1000,
        rflags: 2,
        cr0: CpuState::CR0_PE,
        cs: Segment::flat_code(0x10, bitness == 64),
        ds: Segment::flat_data(0x18),
        es: Segment::flat_data(0x18),
        ss: Segment::flat_data(0x18),
        efer: if bitness == 64 {
            CpuState::EFER_LMA | CpuState::EFER_LME
        } else {
            0
        },
        ..Default::default()
    };
    cpu.set(Gpr::Rdi, DEVICE);
    cpu.set(Gpr::Rsi, 0x2000);
    cpu.set(Gpr::Rdx, 0x3f8);
    cpu
}

fn write(data: &[u8]) -> Event {
    Event::Write(DEVICE, data.to_vec())
}

const ANSWER: u64 = 0xf1f2_f3f4_f5f6_f7f8;
const RAX: u64 = 0x1122_3344_5566_7788;

#[test]
fn accesses_of_every_kind_and_size() {
    use Event::Read;
    // Instruction with its operand at [rdi], RAX after it, and what the device saw.
    let table: &[(&str, &[u8], u64, &[Event])] = &[
        (
            "mov al,[rdi]",
            &[0x8a, 0x07],
            RAX & !0xff | 0xf8,
            &[Read(DEVICE, 1)],
        ),
        (
            "mov ah,[rdi]",
            &[0x8a, 0x27],
            RAX & !0xff00 | 0xf800,
            &[Read(DEVICE, 1)],
        ),
        (
            "mov ax,[rdi]",
            &[0x66, 0x8b, 0x07],
            RAX & !0xffff | 0xf7f8,
            &[Read(DEVICE, 2)],
        ),
        (
            "mov eax,[rdi]",
            &[0x8b, 0x07],
            0xf5f6_f7f8,
            &[Read(DEVICE, 4)],
        ),
        (
            "mov rax,[rdi]",
            &[0x48, 0x8b, 0x07],
            ANSWER,
            &[Read(DEVICE, 8)],
        ),
        (
            "mov eax,[rdi+16]",
            &[0x8b, 0x47, 0x10],
            0xf5f6_f7f8,
            &[Read(DEVICE + 16, 4)],
        ),
        (
            "movzx eax,byte [rdi]",
            &[0x0f, 0xb6, 0x07],
            0xf8,
            &[Read(DEVICE, 1)],
        ),
        (
            "movzx eax,word [rdi]",
            &[0x0f, 0xb7, 0x07],
            0xf7f8,
            &[Read(DEVICE, 2)],
        ),
        (
            "movsx eax,byte [rdi]",
            &[0x0f, 0xbe, 0x07],
            0xffff_fff8,
            &[Read(DEVICE, 1)],
        ),
        (
            "movsx rax,word [rdi]",
            &[0x48, 0x0f, 0xbf, 0x07],
            0xffff_ffff_ffff_f7f8,
            &[Read(DEVICE, 2)],
        ),
        (
            "movsxd rax,[rdi]",
            &[0x48, 0x63, 0x07],
            0xffff_ffff_f5f6_f7f8,
            &[Read(DEVICE, 4)],
        ),
        ("mov [rdi],al", &[0x88, 0x07], RAX, &[]),
        (
            "xchg [rdi],eax",
            &[0x87, 0x07],
            0xf5f6_f7f8,
            &[Read(DEVICE, 4)],
        ),
        ("and [rdi],al", &[0x20, 0x07], RAX, &[Read(DEVICE, 1)]),
        (
            "add eax,[rdi]",
            &[0x03, 0x07],
            0x4b5d_6f80,
            &[Read(DEVICE, 4)],
        ),
        ("cmp [rdi],eax", &[0x39, 0x07], RAX, &[Read(DEVICE, 4)]),
        ("test [rdi],al", &[0x84, 0x07], RAX, &[Read(DEVICE, 1)]),
        ("lodsb", &[0xac], RAX & !0xff, &[]),
    ];
    for (name, code, rax, reads) in table {
        let mut space = Fake::new(ANSWER);
        let mut cpu = cpu(64);
        cpu.set(Gpr::Rax, RAX);
        step(&mut cpu, &mut space, code).unwrap_or_else(|stop| panic!("{name}: {stop}"));
        assert_eq!(
            cpu.get(Gpr::Rax),
            *rax,
            "{name}: rax {:#x}",
            cpu.get(Gpr::Rax)
        );
        assert_eq!(cpu.rip, 0x1000 + code.len() as u64, "{name}");
        let seen: Vec<_> = space
            .events
            .into_iter()
            .filter(|event| matches!(event, Read(..)))
            .collect();
        assert_eq!(&seen, reads, "{name}");
    }
}

#[test]
fn writes_of_every_kind_and_size() {
    let table: &[(&str, &[u8], Event)] = &[
        ("mov [rdi],al", &[0x88, 0x07], write(&[0x88])),
        ("mov [rdi],ah", &[0x88, 0x27], write(&[0x77])),
        ("mov [rdi],ax", &[0x66, 0x89, 0x07], write(&[0x88, 0x77])),
        (
            "mov [rdi],eax",
            &[0x89, 0x07],
            write(&[0x88, 0x77, 0x66, 0x55]),
        ),
        (
            "mov [rdi],rax",
            &[0x48, 0x89, 0x07],
            write(&RAX.to_le_bytes()),
        ),
        (
            "movnti [rdi],eax",
            &[0x0f, 0xc3, 0x07],
            write(&[0x88, 0x77, 0x66, 0x55]),
        ),
        ("mov byte [rdi],5", &[0xc6, 0x07, 5], write(&[5])),
        (
            "mov word [rdi],-2",
            &[0x66, 0xc7, 0x07, 0xfe, 0xff],
            write(&[0xfe, 0xff]),
        ),
        (
            "mov dword [rdi],5",
            &[0xc7, 0x07, 5, 0, 0, 0],
            write(&[5, 0, 0, 0]),
        ),
        (
            "mov qword [rdi],-1",
            &[0x48, 0xc7, 0x07, 0xff, 0xff, 0xff, 0xff],
            write(&[0xff; 8]),
        ),
        (
            "and dword [rdi],0xf0",
            &[0x81, 0x27, 0xf0, 0, 0, 0],
            write(&[0xf0, 0, 0, 0]),
        ),
        ("or byte [rdi],7", &[0x80, 0x0f, 7], write(&[0xff])),
        (
            "xor dword [rdi],-1",
            &[0x83, 0x37, 0xff],
            write(&[0x07, 0x08, 0x09, 0x0a]),
        ),
        (
            "add dword [rdi],1",
            &[0x83, 0x07, 1],
            write(&[0xf9, 0xf7, 0xf6, 0xf5]),
        ),
        (
            "sub dword [rdi],1",
            &[0x83, 0x2f, 1],
            write(&[0xf7, 0xf7, 0xf6, 0xf5]),
        ),
        (
            "xchg [rdi],eax",
            &[0x87, 0x07],
            write(&[0x88, 0x77, 0x66, 0x55]),
        ),
        ("stosd", &[0xab], write(&[0x88, 0x77, 0x66, 0x55])),
    ];
    for (name, code, event) in table {
        let mut space = Fake::new(ANSWER);
        let mut cpu = cpu(64);
        cpu.set(Gpr::Rax, RAX);
        step(&mut cpu, &mut space, code).unwrap_or_else(|stop| panic!("{name}: {stop}"));
        assert_eq!(space.events.last(), Some(event), "{name}");
    }
}

#[test]
fn segments_limit_accesses() {
    let fault = |cpu: &mut CpuState, code: &[u8]| match step(cpu, &mut Fake::new(0), code) {
        Err(Stop::Fault(fault)) => Some((fault.vector, fault.error_code)),
        Ok(()) => None,
        Err(stop) => panic!("{stop}"),
    };
    let mut machine = cpu(32);
    machine.es.limit = 0x2fff;
    machine.set(Gpr::Rdi, 0x2ffd);
    assert_eq!(fault(&mut machine, &[0x6d]), Some((13, Some(0)))); // insd
    machine.set(Gpr::Rdi, 0x2ffc);
    assert_eq!(fault(&mut machine, &[0x6d]), None);
    machine.es.attributes &= !2;
    assert_eq!(
        fault(&mut machine, &[0x6d]),
        Some((13, Some(0))),
        "read-only"
    );
    machine.es = Segment::default();
    assert_eq!(fault(&mut machine, &[0x6d]), Some((13, Some(0))), "null");
    // Expand-down: below the limit nothing is allowed.
    machine.es = Segment {
        attributes: Segment::flat_data(0x18).attributes | 4,
        limit: 0x2fff,
        ..Segment::flat_data(0x18)
    };
    machine.set(Gpr::Rdi, 0x2fff);
    assert_eq!(fault(&mut machine, &[0x6c]), Some((13, Some(0))));
    machine.set(Gpr::Rdi, 0x3000);
    assert_eq!(fault(&mut machine, &[0x6c]), None);
    // By the stack segment it is another exception.
    machine.ss.limit = 0xfff;
    machine.set(Gpr::Rbp, 0x1000);
    assert_eq!(fault(&mut machine, &[0x8b, 0x45, 0]), Some((12, Some(0))));
    let mut long = cpu(64);
    long.set(Gpr::Rdi, 0x7fff_ffff_fffd);
    assert_eq!(fault(&mut long, &[0x8b, 0x07]), Some((13, Some(0))));
}

#[test]
fn instruction_bytes_are_fetched_where_none_came() {
    let mut space = Fake::new(7);
    space
        .memory
        .write_slice(&[0x8b, 0x07], GuestAddress(0x1000))
        .unwrap();
    let mut cpu = cpu(64);
    step(&mut cpu, &mut space, &[]).unwrap();
    assert_eq!((cpu.get(Gpr::Rax), cpu.rip), (7, 0x1002));
    // The hint ends within the instruction.
    cpu.rip = 0x1000;
    step(&mut cpu, &mut space, &[0x8b]).unwrap();
    assert_eq!(cpu.rip, 0x1002);
}

#[test]
fn thirty_two_bit_code_is_decoded_as_such() {
    let mut space = Fake::new(0x0102_0304);
    let mut cpu = cpu(32);
    step(&mut cpu, &mut space, &[0x8b, 0x07]).unwrap(); // mov eax,[edi]
    assert_eq!(cpu.get(Gpr::Rax), 0x0102_0304);
    // What is a REX prefix in 64-bit mode is an instruction here, and not a memory access.
    let stop = step(&mut cpu, &mut space, &[0x48, 0x89, 0x07]).unwrap_err();
    assert!(stop.to_string().contains("Dec_r32"), "{stop}");
}

#[test]
fn what_is_unknown_says_where_and_what() {
    let mut space = Fake::new(0);
    space
        .memory
        .write_slice(&[0x0f, 0xae, 0x07], GuestAddress(0x1000))
        .unwrap();
    let mut cpu = cpu(64);
    let before = cpu;
    let stop = step(&mut cpu, &mut space, &[]).unwrap_err(); // fxsave [rdi]
    let text = stop.to_string();
    assert!(
        text.contains("0x1000") && text.contains("[0f, ae, 07]"),
        "{text}"
    );
    assert_eq!(cpu, before);
}

#[test]
fn sixteen_bit_addresses_and_segments_wrap_as_they_should() {
    let mut space = Fake::new(0);
    space
        .memory
        .write_slice(b"x", GuestAddress(0x5010))
        .unwrap();
    let mut cpu = cpu(32);
    cpu.cs.attributes &= !(1 << 14);
    cpu.ds.base = 0x5000;
    cpu.fs = Segment {
        base: 0x4010,
        ..cpu.ds
    };
    cpu.set(Gpr::Rsi, 0xffff_0010);
    cpu.rip = 0;
    step(&mut cpu, &mut space, &[0x6e]).unwrap(); // outsb
    assert_eq!(space.events.pop(), Some(Event::Out(0x3f8, b"x".to_vec())));
    assert_eq!(cpu.get(Gpr::Rsi), 0xffff_0011);
    cpu.set(Gpr::Rsi, 0x1000);
    step(&mut cpu, &mut space, &[0x64, 0x6e]).unwrap(); // fs outsb
    assert_eq!(space.events.pop(), Some(Event::Out(0x3f8, b"x".to_vec())));
}

#[test]
fn movs_between_memory_and_device() {
    let mut space = Fake::new(0);
    space
        .memory
        .write_slice(&[1, 2, 3, 4], GuestAddress(0x2000))
        .unwrap();
    let mut cpu = cpu(64);
    step(&mut cpu, &mut space, &[0xa5]).unwrap(); // movsd
    assert_eq!(space.events, [write(&[1, 2, 3, 4])]);
    assert_eq!((cpu.get(Gpr::Rsi), cpu.get(Gpr::Rdi)), (0x2004, DEVICE + 4));
}

proptest! {
    #[test]
    fn any_bytes_are_carried_out_or_refused(
        code in prop::collection::vec(any::<u8>(), 1..16),
        gpr: [u64; 16],
        bitness in prop::sample::select(vec![32u32, 64]),
    ) {
        let mut space = Fake::new(ANSWER);
        space.memory.write_slice(&code, GuestAddress(0x1000)).unwrap();
        let mut cpu = cpu(bitness);
        cpu.gpr = gpr;
        // Only that it comes back, whatever the guest does.
        let _ = step(&mut cpu, &mut space, &code);
    }

    #[test]
    fn a_store_is_what_a_load_finds(value: u64, size in prop::sample::select(vec![1usize, 2, 4, 8]), at in 0x2000u64..0xf000) {
        let mut space = Fake::new(0);
        let mut cpu = cpu(64);
        cpu.set(Gpr::Rdi, at);
        cpu.set(Gpr::Rax, value);
        let (store, load): (&[u8], &[u8]) = match size {
            1 => (&[0x88, 0x07], &[0x8a, 0x1f]),
            2 => (&[0x66, 0x89, 0x07], &[0x66, 0x8b, 0x1f]),
            4 => (&[0x89, 0x07], &[0x8b, 0x1f]),
            _ => (&[0x48, 0x89, 0x07], &[0x48, 0x8b, 0x1f]),
        };
        step(&mut cpu, &mut space, store).unwrap();
        step(&mut cpu, &mut space, load).unwrap();
        prop_assert_eq!(cpu.get(Gpr::Rbx), operand::truncate(value, size));
    }
}
