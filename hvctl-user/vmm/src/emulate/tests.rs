// SPDX-License-Identifier: GPL-2.0

use super::*;
use crate::hypervisor::{Gpr, Segment};
use crate::memory;
use proptest::prelude::*;
use vm_memory::{Bytes, GuestAddress};

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

const FLAGS: u64 = 0x8d5;

/// Instructions that change [rdi], which is 0x81, one after the other: what they write, and flags.
#[test]
fn instructions_that_change_a_device() {
    let table: &[(&str, &[u8], &[u8], u64)] = &[
        ("inc dword [rdi]", &[0xff, 0x07], &[0x82, 0, 0, 0], 0x5),
        ("dec byte [rdi]", &[0xfe, 0x0f], &[0x80], 0x81),
        ("neg byte [rdi]", &[0xf6, 0x1f], &[0x7f], 0x11),
        ("not word [rdi]", &[0x66, 0xf7, 0x17], &[0x7e, 0xff], 0x1),
        ("shl byte [rdi],1", &[0xd0, 0x27], &[0x02], 0x801),
        ("sar byte [rdi],1", &[0xd0, 0x3f], &[0xc0], 0x85),
        ("ror dword [rdi],4", &[0xc1, 0x0f, 4], &[8, 0, 0, 0x10], 0),
        ("rcl byte [rdi],cl", &[0xd2, 0x17], &[0x0e], 0),
        (
            "shld [rdi],eax,8",
            &[0x0f, 0xa4, 0x07, 8],
            &[0x11, 0x81, 0, 0],
            0x4,
        ),
        (
            "bts dword [rdi],3",
            &[0x0f, 0xba, 0x2f, 3],
            &[0x89, 0, 0, 0],
            0,
        ),
        (
            "btr dword [rdi],39",
            &[0x0f, 0xba, 0x37, 39],
            &[0x01, 0, 0, 0],
            1,
        ),
        ("btc [rdi],ebx", &[0x0f, 0xbb, 0x1f], &[0x85, 0, 0, 0], 0),
        ("setc [rdi]", &[0x0f, 0x92, 0x07], &[1], 1),
        ("seta [rdi]", &[0x0f, 0x97, 0x07], &[0], 1),
        ("xadd [rdi],bl", &[0x0f, 0xc0, 0x1f], &[0x83], 0x80),
        (
            "cmpxchg [rdi],bl (not equal)",
            &[0x0f, 0xb0, 0x1f],
            &[0x81],
            0x881,
        ),
        (
            "movbe [rdi],eax",
            &[0x0f, 0x38, 0xf1, 0x07],
            &[0x11, 0, 0, 1],
            1,
        ),
        (
            "pop dword [rdi]",
            &[0x8f, 0x07],
            &[0x66, 0x55, 0x44, 0x33],
            1,
        ),
    ];
    for (name, code, wanted, flags) in table {
        let mut space = Fake::new(0x81);
        space
            .memory
            .write_slice(&[0x66, 0x55, 0x44, 0x33], GuestAddress(0x4000))
            .unwrap();
        let mut cpu = cpu(32);
        cpu.rflags |= 1;
        cpu.set(Gpr::Rax, 0x1100_0001);
        cpu.set(Gpr::Rbx, 2);
        cpu.set(Gpr::Rcx, 3);
        cpu.set(Gpr::Rsp, 0x4000);
        step(&mut cpu, &mut space, code).unwrap_or_else(|stop| panic!("{name}: {stop}"));
        assert_eq!(space.events.last(), Some(&write(wanted)), "{name}");
        if name.contains("xadd") || name.contains("cmpxchg") {
            let (a, b) = (cpu.get(Gpr::Rax), cpu.get(Gpr::Rbx));
            assert!(a == 0x1100_0081 || b == 0x81, "{name}: {a:#x} {b:#x}");
        }
        // What the manual leaves undefined is not looked at.
        let undefined = if code[0] == 0xd2 || code[0] == 0xc1 {
            0x800
        } else {
            0
        };
        let adjust = if matches!(code[0], 0xd0 | 0x0f) {
            0x10
        } else {
            0
        };
        let defined = FLAGS & !undefined & !adjust;
        assert_eq!(cpu.rflags & defined, flags & defined, "{name}");
        assert_eq!(cpu.rip, 0x1000 + code.len() as u64, "{name}");
    }
}

#[test]
fn bits_far_from_the_operand_are_found() {
    let mut cpu = cpu(64);
    for (index, at) in [
        (32u64, DEVICE + 4),
        (-1i64 as u64, DEVICE - 4),
        (95, DEVICE + 8),
    ] {
        let mut space = Fake::new(1);
        cpu.rip = 0x1000;
        cpu.set(Gpr::Rax, index);
        step(&mut cpu, &mut space, &[0x0f, 0xa3, 0x07]).unwrap(); // bt [rdi],eax
        assert_eq!(space.events, [Event::Read(at, 4)]);
        assert_eq!(cpu.rflags & 1, u64::from(index == 32));
    }
}

#[test]
fn conditional_moves_read_in_any_case() {
    for (rflags, wanted) in [(2 | 0x40, 0x1234), (2, 0x5566_7788)] {
        let mut space = Fake::new(0x1234);
        let mut cpu = cpu(64);
        cpu.rflags = rflags;
        cpu.set(Gpr::Rax, RAX);
        step(&mut cpu, &mut space, &[0x0f, 0x44, 0x07]).unwrap(); // cmove eax,[rdi]
        assert_eq!(cpu.get(Gpr::Rax), wanted);
        assert_eq!(space.events, [Event::Read(DEVICE, 4)]);
    }
}

#[test]
fn pairs_are_exchanged_if_equal() {
    let mut space = Fake::new(0x1_0000_0002);
    let mut cpu = cpu(64);
    cpu.set(Gpr::Rbx, 7);
    cpu.set(Gpr::Rcx, 8);
    step(&mut cpu, &mut space, &[0x0f, 0xc7, 0x0f]).unwrap(); // cmpxchg8b [rdi]
    assert_eq!(cpu.rflags & 0x40, 0);
    // The device gives its low half at both addresses.
    assert_eq!((cpu.get(Gpr::Rax), cpu.get(Gpr::Rdx)), (2, 2));
    cpu.rip = 0x1000;
    step(&mut cpu, &mut space, &[0x0f, 0xc7, 0x0f]).unwrap();
    assert_ne!(cpu.rflags & 0x40, 0);
    assert_eq!(
        space.events[space.events.len() - 2..],
        [
            write(&[7, 0, 0, 0]),
            Event::Write(DEVICE + 4, vec![8, 0, 0, 0])
        ]
    );
    cpu.set(Gpr::Rdi, DEVICE + 8);
    let stop = step(&mut cpu, &mut space, &[0x48, 0x0f, 0xc7, 0x0f]).unwrap_err();
    assert!(matches!(stop, Stop::Fault(fault) if fault.vector == 13));
}

#[test]
fn jumps_and_calls_by_a_device() {
    let mut space = Fake::new(0x5678);
    let mut cpu = cpu(32);
    cpu.set(Gpr::Rsp, 0x4000);
    step(&mut cpu, &mut space, &[0xff, 0x17]).unwrap(); // call [edi]
    assert_eq!((cpu.rip, cpu.get(Gpr::Rsp)), (0x5678, 0x3ffc));
    let back: u32 = space.memory.read_obj(GuestAddress(0x3ffc)).unwrap();
    assert_eq!(back, 0x1002);
    step(&mut cpu, &mut space, &[0xff, 0x37]).unwrap(); // push [edi]
    let pushed: u32 = space.memory.read_obj(GuestAddress(0x3ff8)).unwrap();
    assert_eq!((pushed, cpu.get(Gpr::Rsp)), (0x5678, 0x3ff8));
    cpu.cs.limit = 0x5677;
    let stop = step(&mut cpu, &mut space, &[0xff, 0x27]).unwrap_err(); // jmp [edi]
    assert!(matches!(stop, Stop::Fault(fault) if fault.vector == 13));
    let mut long = self::cpu(64);
    let mut space = Fake::new(0x8000_0000_0000);
    let stop = step(&mut long, &mut space, &[0xff, 0x27]).unwrap_err(); // jmp [rdi]
    assert!(matches!(stop, Stop::Fault(fault) if fault.vector == 13));
}

#[test]
fn products_and_quotients() {
    let run = |code: &[u8], answer: u64, rax: u64, rdx: u64| {
        let (mut space, mut cpu) = (Fake::new(answer), cpu(64));
        cpu.set(Gpr::Rax, rax);
        cpu.set(Gpr::Rdx, rdx);
        let result = step(&mut cpu, &mut space, code);
        result.map(|()| (cpu.get(Gpr::Rax), cpu.get(Gpr::Rdx), cpu.rflags & 0x801))
    };
    let minus = |value: i64| value as u64;
    let mul = run(&[0x48, 0xf7, 0x27], 1 << 63, 6, 0);
    assert_eq!(mul.unwrap(), (0, 3, 0x801));
    let imul = run(&[0xf7, 0x2f], minus(-3), 5, 0);
    assert_eq!(imul.unwrap(), (0xffff_fff1, 0xffff_ffff, 0));
    let imul = run(&[0x66, 0x0f, 0xaf, 0x07], 0x100, 0x1_0080, 0);
    assert_eq!(imul.unwrap(), (0x1_8000, 0, 0x801));
    let imul = run(&[0x6b, 0x07, 0xfe], 7, 0, 0);
    assert_eq!(imul.unwrap(), (0xffff_fff2, 0, 0));
    let div = run(&[0xf6, 0x37], 7, 100, 0);
    assert_eq!(div.unwrap().0, 2 << 8 | 14);
    let idiv = run(&[0xf7, 0x3f], minus(-7), 100, 0);
    let (quotient, rest, _) = idiv.unwrap();
    assert_eq!((quotient, rest), (0xffff_fff2, 2));
    for (code, answer, rax, rdx) in [
        (&[0xf7u8, 0x37][..], 0, 1, 1),
        (&[0xf7, 0x37], 1, 0, 1),
        (&[0x48, 0xf7, 0x3f], minus(-1), 0, 1 << 63),
    ] {
        let stop = run(code, answer, rax, rdx).unwrap_err();
        assert!(
            matches!(stop, Stop::Fault(fault) if fault.vector == 0 && fault.error_code.is_none())
        );
    }
}

#[test]
fn strings_are_compared_and_searched() {
    let mut space = Fake::new(b'x'.into());
    space
        .memory
        .write_slice(b"xxxy", GuestAddress(0x2000))
        .unwrap();
    let mut machine = cpu(64);
    machine.set(Gpr::Rcx, 9);
    step(&mut machine, &mut space, &[0xf3, 0xa6]).unwrap(); // repe cmpsb
    assert_eq!((machine.get(Gpr::Rcx), machine.get(Gpr::Rsi)), (5, 0x2004));
    assert_eq!((machine.get(Gpr::Rdi), machine.rip), (DEVICE + 4, 0x1002));
    assert_eq!(machine.rflags & 0x41, 0, "y is above x");
    let mut machine = cpu(64);
    machine.set(Gpr::Rcx, 3);
    machine.set(Gpr::Rax, b'z'.into());
    step(&mut machine, &mut space, &[0xf2, 0xae]).unwrap(); // repne scasb
    assert_eq!(
        (machine.get(Gpr::Rcx), machine.get(Gpr::Rdi)),
        (0, DEVICE + 3)
    );
    assert_eq!(machine.rflags & 0x40, 0);
}

#[test]
fn vectors_go_in_and_out() {
    let mut space = Fake::new(ANSWER);
    let mut cpu = cpu(64);
    let mut run = |code: &[u8]| {
        cpu.rip = 0x1000;
        space.events.clear();
        step(&mut cpu, &mut space, code).unwrap();
        (space.vectors[9], space.events.clone())
    };
    let both = u128::from(ANSWER) << 64 | u128::from(ANSWER);
    // movups xmm9,[rdi]; movq xmm9,[rdi]; movdqu xmm9,[rdi]; movaps [rdi],xmm9; movd [rdi],xmm9
    assert_eq!(run(&[0x44, 0x0f, 0x10, 0x0f]).0, both);
    assert_eq!(run(&[0xf3, 0x44, 0x0f, 0x7e, 0x0f]).0, ANSWER.into());
    assert_eq!(run(&[0xf3, 0x44, 0x0f, 0x6f, 0x0f]).0, both);
    let bytes = ANSWER.to_le_bytes();
    let second = Event::Write(DEVICE + 8, bytes.to_vec());
    assert_eq!(run(&[0x44, 0x0f, 0x29, 0x0f]).1, [write(&bytes), second]);
    assert_eq!(run(&[0x66, 0x44, 0x0f, 0x7e, 0x0f]).1, [write(&bytes[..4])]);
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
fn comparisons_write_nothing_but_flags() {
    let mut space = Fake::new(5);
    let mut cpu = cpu(64);
    step(&mut cpu, &mut space, &[0x83, 0x3f, 5]).unwrap(); // cmp dword [rdi],5
    assert_ne!(cpu.rflags & 1 << 6, 0, "zero");
    step(&mut cpu, &mut space, &[0xf7, 0x07, 2, 0, 0, 0]).unwrap(); // test dword [rdi],2
    assert_ne!(cpu.rflags & 1 << 6, 0, "zero");
    step(&mut cpu, &mut space, &[0x83, 0x3f, 6]).unwrap();
    assert_eq!(cpu.rflags & (1 << 6 | 1), 1, "below");
    assert!(
        space
            .events
            .iter()
            .all(|event| matches!(event, Event::Read(..)))
    );
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
fn strings_go_out_and_come_in() {
    let mut space = Fake::new(0x41);
    space
        .memory
        .write_slice(b"hello", GuestAddress(0x2000))
        .unwrap();
    let mut machine = cpu(64);
    machine.set(Gpr::Rcx, 5);
    step(&mut machine, &mut space, &[0xf3, 0x6e]).unwrap(); // rep outsb
    let sent: Vec<u8> = space
        .events
        .drain(..)
        .flat_map(|event| match event {
            Event::Out(0x3f8, data) => data,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(sent, b"hello");
    assert_eq!(
        (machine.get(Gpr::Rcx), machine.get(Gpr::Rsi), machine.rip),
        (0, 0x2005, 0x1002)
    );

    // Downwards, two bytes at a time: std; rep insw.
    let mut machine = cpu(64);
    machine.rflags |= 1 << 10;
    machine.set(Gpr::Rdi, 0x3004);
    machine.set(Gpr::Rcx, 3);
    step(&mut machine, &mut space, &[0xf3, 0x66, 0x6d]).unwrap();
    let mut memory = [0; 8];
    space
        .memory
        .read_slice(&mut memory, GuestAddress(0x3000))
        .unwrap();
    assert_eq!(memory, [0x41, 0, 0x41, 0, 0x41, 0, 0, 0]);
    assert_eq!((machine.get(Gpr::Rcx), machine.get(Gpr::Rdi)), (0, 0x2ffe));
}

#[test]
fn repetition_of_nothing_does_nothing() {
    let mut space = Fake::new(0);
    let mut cpu = cpu(64);
    step(&mut cpu, &mut space, &[0xf3, 0x6e]).unwrap();
    assert_eq!((cpu.rip, space.events.len()), (0x1002, 0));
}

#[test]
fn a_long_repetition_stops_for_breath_and_goes_on() {
    let mut space = Fake::new(0);
    let mut cpu = cpu(64);
    cpu.set(Gpr::Rcx, 3000);
    let mut steps = 0;
    while cpu.rip == 0x1000 {
        step(&mut cpu, &mut space, &[0xf3, 0xaa]).unwrap(); // rep stosb
        steps += 1;
    }
    assert_eq!(
        (steps, space.events.len(), cpu.get(Gpr::Rdi)),
        (3, 3000, DEVICE + 3000)
    );
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
fn a_fault_in_a_repetition_keeps_what_is_done() {
    let mut space = Fake::new(0x55);
    let put = |at: u64, entry: u64| space.memory.write_obj(entry, GuestAddress(at)).unwrap();
    put(0x8000, 0x9000 | 7);
    put(0x9000, 0xa000 | 7);
    put(0xa000, 0xb000 | 7);
    put(0xb000, 0x3000 | 3);
    let mut cpu = cpu(64);
    cpu.cr0 |= CpuState::CR0_PG | CpuState::CR0_WP;
    cpu.cr4 |= CpuState::CR4_PAE;
    cpu.cr3 = 0x8000;
    cpu.set(Gpr::Rdi, 0xffe);
    cpu.set(Gpr::Rcx, 4);
    let stop = step(&mut cpu, &mut space, &[0xf3, 0x6c]).unwrap_err(); // rep insb
    let Stop::Fault(exception) = stop else {
        panic!("{stop}")
    };
    assert_eq!((exception.vector, exception.error_code), (14, Some(2)));
    assert_eq!(exception.parameter, 0x1000);
    assert_eq!(
        (cpu.get(Gpr::Rcx), cpu.get(Gpr::Rdi), cpu.rip),
        (2, 0x1000, 0x1000)
    );
    // The port was not read for the element that has no place.
    assert_eq!(space.events.len(), 2);
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
