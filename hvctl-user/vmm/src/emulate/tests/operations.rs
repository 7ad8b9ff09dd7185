// SPDX-License-Identifier: GPL-2.0
//! Instructions that compute with a device.

use super::*;

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
