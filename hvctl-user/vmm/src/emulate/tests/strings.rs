// SPDX-License-Identifier: GPL-2.0
//! String instructions, and their repetition.

use super::*;

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
