// SPDX-License-Identifier: GPL-2.0
//! The machine under a scripted hypervisor.

use super::*;
use crate::device::fw_cfg::FwCfg;
use crate::hypervisor::exit::InstructionBytes;
use crate::hypervisor::{Event, Exception, Interrupt, Segment};
use crate::memory;
use std::collections::VecDeque;
use std::sync::Mutex;
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::EFD_NONBLOCK;

/// A processor that comes back for the reasons it was given.
#[derive(Default)]
struct Script {
    runs: VecDeque<Result<Run, Failure>>,
    state: CpuState,
    writes: Vec<Vec<(Register, u64)>>,
    raised: Vec<Exception>,
    event: Option<Event>,
    nmi_blocked: Option<bool>,
    vectors: [u128; 16],
}

impl Vp for Script {
    fn index(&self) -> u8 {
        3
    }
    fn run(&mut self) -> Result<Run, Failure> {
        let over = || {
            Err(Failure {
                call: "script",
                cause: "it is over".into(),
            })
        };
        self.runs.pop_front().unwrap_or_else(over)
    }
    fn state(&mut self) -> Result<CpuState, Failure> {
        Ok(self.state)
    }
    fn load(&mut self, state: &CpuState) -> Result<(), Failure> {
        self.state = *state;
        Ok(())
    }
    fn write(&mut self, registers: &[(Register, u64)]) -> Result<(), Failure> {
        self.writes.push(registers.to_vec());
        Ok(())
    }
    fn raise(&mut self, exception: Exception) -> Result<(), Failure> {
        self.raised.push(exception);
        Ok(())
    }

    fn take_event(&mut self) -> Result<Option<Event>, Failure> {
        Ok(self.event.take())
    }

    fn vector(&mut self, index: usize) -> Result<u128, Failure> {
        Ok(self.vectors[index])
    }

    fn set_vector(&mut self, index: usize, value: u128) -> Result<(), Failure> {
        self.vectors[index] = value;
        Ok(())
    }

    fn block_nmi(&mut self, blocked: bool) -> Result<(), Failure> {
        self.nmi_blocked = Some(blocked);
        Ok(())
    }
}

#[derive(Default, Clone)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(data);
        Ok(data.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[derive(Default)]
struct Vectors(Mutex<Vec<u8>>);

impl Interrupts for Vectors {
    fn assert(&self, interrupt: Interrupt) -> Result<(), Failure> {
        self.0.lock().unwrap().push(interrupt.vector);
        Ok(())
    }
}

struct Bench {
    machine: Machine,
    console: Shared,
    vectors: Arc<Vectors>,
    memory: GuestMemory,
}

fn bench(exit_port: bool) -> Bench {
    bench_with(memory::allocate(&[(0, 1 << 20)]).unwrap(), exit_port)
}

fn bench_with(memory: GuestMemory, exit_port: bool) -> Bench {
    let (console, vectors) = (Shared::default(), Arc::new(Vectors::default()));
    let far_end = Console {
        out: Box::new(console.clone()),
        drained: EventFd::new(EFD_NONBLOCK).unwrap(),
    };
    let ending = Arc::new(Ending::new().unwrap());
    let pci = pci::Bus::new(Vec::new()).unwrap();
    let machine = Machine::new(
        memory.clone(),
        vectors.clone(),
        far_end,
        pci,
        exit_port.then(|| FwCfg::new(1 << 20, 1)),
        ending,
    );
    Bench {
        machine,
        console,
        vectors,
        memory,
    }
}

fn access(port: u16, size: u8, write: bool, rax: u64) -> Exit {
    Exit::Port(PortAccess {
        port,
        size,
        write,
        string: false,
        rax,
        rip: 0x1000,
        instruction_length: 2,
        instruction: InstructionBytes::default(),
    })
}

const RIP: (Register, u64) = (Register::Rip, 0x1002);

fn rax(value: u64) -> (Register, u64) {
    (Register::Gpr(Gpr::Rax), value)
}

#[test]
fn a_run_prints_and_ends_by_the_exit_port() {
    let bench = bench(true);
    let runs = [
        Ok(Run::Interrupted),
        Ok(Run::Exit(access(0x3f8, 1, true, u64::from(b'h')))),
        Ok(Run::Exit(Exit::Halt)),
        Ok(Run::Exit(access(0x3f8, 1, true, u64::from(b'i')))),
        Ok(Run::Exit(access(0xf4, 4, true, 21))),
        Ok(Run::Exit(access(0x3f8, 1, true, u64::from(b'!')))),
    ];
    let mut vp = Script {
        runs: runs.into(),
        ..Default::default()
    };
    bench.machine.run(&mut vp);
    assert_eq!(
        bench.machine.ending().outcome(),
        Some(&Outcome::ExitPort(21))
    );
    assert_eq!(*bench.console.0.lock().unwrap(), b"hi");
    assert_eq!(vp.runs.len(), 1);
    assert_eq!(vp.writes, vec![vec![RIP]; 3]);
}

#[test]
fn a_failing_hypervisor_ends_the_run() {
    let bench = bench(false);
    bench.machine.run(&mut Script::default());
    let Some(Outcome::Hypervisor(message)) = bench.machine.ending().outcome() else {
        panic!("not ended by that")
    };
    assert!(message.contains("it is over"));
}

#[test]
fn empty_ports_read_as_ones_and_keep_the_rest_of_rax() {
    let bench = bench(false);
    let mut vp = Script::default();
    for (size, expected) in [
        (1, 0x1122_3344_5566_77ff),
        (2, 0x1122_3344_5566_ffff),
        (4, 0xffff_ffff),
    ] {
        bench
            .machine
            .serve(&mut vp, access(0xf4, size, false, 0x1122_3344_5566_7788))
            .unwrap();
        assert_eq!(vp.writes.pop().unwrap(), [rax(expected), RIP]);
    }
    bench
        .machine
        .serve(&mut vp, access(0xf4, 4, true, 0))
        .unwrap();
    assert_eq!(
        bench.machine.ending().outcome(),
        None,
        "the exit port was not asked for"
    );
}

#[test]
fn no_port_hurts() {
    let bench = bench(false);
    let mut vp = Script::default();
    for port in 0..=u16::MAX {
        for (size, write) in [(1, false), (4, false), (1, true), (4, true)] {
            bench
                .machine
                .serve(&mut vp, access(port, size, write, 0))
                .unwrap();
        }
    }
    assert_eq!(bench.machine.ending().outcome(), None);
}

#[test]
fn power_off_and_the_three_resets() {
    for (port, value, outcome) in [
        (0x600, 0x34, Outcome::PowerOff),
        (0x602, 1, Outcome::Reset),
        (0x64, 0xfe, Outcome::Reset),
        (0xcf9, 6, Outcome::Reset),
    ] {
        let bench = bench(false);
        bench
            .machine
            .serve(&mut Script::default(), access(port, 1, true, value))
            .unwrap();
        assert_eq!(bench.machine.ending().outcome(), Some(&outcome));
    }
}

fn mmio(gpa: u64, write: bool, code: &[u8]) -> Exit {
    let mut bytes = [0; 16];
    bytes[..code.len()].copy_from_slice(code);
    Exit::Memory(MemoryAccess {
        by_event: false,
        gpa,
        linear: None,
        write,
        rip: 0x1000,
        instruction: InstructionBytes::new(bytes, code.len() as u8),
    })
}

fn flat(memory: &GuestMemory) -> CpuState {
    CpuState {
        rip: 0x1000,
        ..crate::boot::entry::protected(memory).unwrap()
    }
}

/// Writes an I/O APIC register as a guest does.
fn program(bench: &Bench, vp: &mut Script, select: u32, value: u32) {
    for (offset, value) in [(0, select), (0x10, value)] {
        vp.state = flat(&bench.memory);
        vp.state.set(Gpr::Rdi, layout::IOAPIC + offset);
        vp.state.set(Gpr::Rax, value.into());
        let exit = mmio(layout::IOAPIC + offset, true, &[0x89, 0x07]);
        bench.machine.serve(vp, exit).unwrap();
        assert_eq!(vp.writes.pop().unwrap(), [RIP]);
    }
}

#[test]
fn console_input_interrupts_where_the_ioapic_says() {
    let bench = bench(false);
    let mut vp = Script::default();
    program(&bench, &mut vp, 0x18, 0x31);
    bench
        .machine
        .serve(&mut vp, access(0x3f9, 1, true, 1))
        .unwrap();
    assert_eq!(bench.machine.serial().enqueue(b"ls\n"), 3);
    assert_eq!(*bench.vectors.0.lock().unwrap(), [0x31]);
    vp.writes.clear();
    let mut input = Vec::new();
    for _ in 0..3 {
        bench
            .machine
            .serve(&mut vp, access(0x3f8, 1, false, 0))
            .unwrap();
        input.push(vp.writes.pop().unwrap()[0].1 as u8);
    }
    assert_eq!(input, b"ls\n");
    assert!(
        bench.machine.serial().enqueue(&[b'x'; 100]) < 100,
        "no more than the FIFO"
    );
}

#[test]
fn a_level_interrupt_comes_again_after_its_end() {
    let bench = bench(false);
    let mut vp = Script::default();
    program(&bench, &mut vp, 0x1a, 0x32 | 1 << 15);
    Pin::new(bench.machine.ioapic.clone(), 5).set(true).unwrap();
    bench
        .machine
        .serve(&mut vp, Exit::Eoi { vector: 0x32 })
        .unwrap();
    assert_eq!(*bench.vectors.0.lock().unwrap(), [0x32, 0x32]);
}

#[test]
fn stray_memory_reads_as_ones() {
    let bench = bench(false);
    let mut vp = Script {
        state: flat(&bench.memory),
        ..Default::default()
    };
    vp.state.set(Gpr::Rdi, 0xd000_0000);
    bench
        .machine
        .serve(&mut vp, mmio(0xd000_0000, false, &[0x8b, 0x07]))
        .unwrap();
    assert_eq!(vp.writes.pop().unwrap(), [rax(0xffff_ffff), RIP]);
}

#[test]
fn to_execute_what_a_pc_has_at_the_reset_vector_is_a_reset() {
    let bench = bench(false);
    let mut vp = Script {
        state: flat(&bench.memory),
        ..Default::default()
    };
    let gpa = layout::FIRST_INSTRUCTION;
    vp.state.set(Gpr::Rdi, gpa);
    let read = || mmio(gpa, false, &[0x8b, 0x07]);
    bench.machine.serve(&mut vp, read()).unwrap();
    assert_eq!(bench.machine.ending().outcome(), None);
    vp.state.cs.base = 0xffff_0000;
    vp.state.rip = 0xfff0;
    bench.machine.serve(&mut vp, read()).unwrap();
    assert_eq!(bench.machine.ending().outcome(), Some(&Outcome::Reset));
}

/// Of a guest with private memory: nothing here could translate an address.
#[test]
fn private_memory_leaves_devices_that_the_processor_found() {
    let paged = |linear| {
        let mut state = CpuState {
            rip: 0x1000,
            cr0: CpuState::CR0_PE | CpuState::CR0_PG,
            cr3: 0x2000,
            cr4: CpuState::CR4_PAE,
            efer: CpuState::EFER_LME | CpuState::EFER_LMA,
            cs: Segment::flat_code(0x10, true),
            ..Default::default()
        };
        state.set(Gpr::Rdi, linear);
        state.set(Gpr::Rsi, 0x5000);
        state.set(Gpr::Rax, 7);
        state
    };
    const MAPPED: u64 = 0xffff_8880_0000_0010;
    let run = |code: &[u8], linear, write| {
        let bench = bench_with(GuestMemory::new(), false);
        let mut vp = Script {
            state: paged(MAPPED),
            ..Default::default()
        };
        let Exit::Memory(access) = mmio(layout::IOAPIC + 0x10, write, code) else {
            unreachable!()
        };
        let exit = Exit::Memory(MemoryAccess { linear, ..access });
        bench.machine.serve(&mut vp, exit).unwrap();
        (vp.writes.pop(), bench.machine.ending().outcome().cloned())
    };
    // The I/O APIC's ID register.
    let read = run(&[0x8b, 0x07], Some(MAPPED), false);
    assert_eq!(read, (Some(vec![rax(0), RIP]), None));
    let written = run(&[0x89, 0x07], Some(MAPPED), true);
    assert_eq!(written, (Some(vec![RIP]), None));
    let refused = |(writes, outcome): (_, Option<Outcome>), what: &str| {
        assert_eq!(writes, None, "{what}");
        let Some(Outcome::Unsupported(message)) = outcome else {
            panic!("{what} ended as {outcome:?}")
        };
        assert!(message.contains("private"), "{message}");
    };
    refused(run(&[0x8b, 0x07], None, false), "no translation");
    refused(run(&[], Some(MAPPED), false), "no instruction");
    refused(run(&[0xa5], Some(MAPPED), true), "another operand");
    refused(run(&[0x89, 0x07], Some(MAPPED), false), "a right not seen");
    refused(
        run(&[0x8b, 0x47, 0xee], Some(MAPPED), false),
        "an operand that begins in the page before",
    );
}

#[test]
fn a_string_to_the_console() {
    let bench = bench(false);
    bench
        .memory
        .write_slice(b"hvmod", GuestAddress(0x2000))
        .unwrap();
    let mut vp = Script {
        state: flat(&bench.memory),
        ..Default::default()
    };
    vp.state.set(Gpr::Rsi, 0x2000);
    vp.state.set(Gpr::Rcx, 5);
    vp.state.set(Gpr::Rdx, 0x3f8);
    bench
        .memory
        .write_slice(&[0xf3, 0x6e], GuestAddress(0x1000))
        .unwrap();
    let Exit::Port(access) = access(0x3f8, 1, true, 0) else {
        unreachable!()
    };
    bench
        .machine
        .serve(
            &mut vp,
            Exit::Port(PortAccess {
                string: true,
                ..access
            }),
        )
        .unwrap();
    assert_eq!(*bench.console.0.lock().unwrap(), b"hvmod");
    let registers = [
        (Register::Gpr(Gpr::Rcx), 0),
        (Register::Gpr(Gpr::Rsi), 0x2005),
        RIP,
    ];
    assert_eq!(vp.writes.pop().unwrap(), registers);
}

#[test]
fn ends_that_the_guest_did_not_want() {
    let bench = bench(false);
    let mut vp = Script {
        state: flat(&bench.memory),
        ..Default::default()
    };
    bench.machine.serve(&mut vp, Exit::Unrecoverable).unwrap();
    let Some(Outcome::Crash(text)) = bench.machine.ending().outcome() else {
        panic!()
    };
    assert!(text.contains("RIP=0000000000001000"), "{text}");

    let bench = self::bench(false);
    bench
        .machine
        .serve(&mut vp, mmio(0xd000_0000, false, &[0x0f, 0xae, 0x07]))
        .unwrap();
    let Some(Outcome::Unsupported(text)) = bench.machine.ending().outcome() else {
        panic!()
    };
    assert!(
        text.contains("0x1000") && text.contains("0xd0000000"),
        "{text}"
    );
    assert!(
        bench
            .machine
            .serve(&mut vp, Exit::Unexpected { message_type: 5 })
            .is_err()
    );
}
