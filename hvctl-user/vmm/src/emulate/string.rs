// SPDX-License-Identifier: GPL-2.0
//! String instructions: MOVS, STOS, LODS, CMPS, SCAS, INS and OUTS, repeated or not.

use iced_x86::{Code, Instruction, Mnemonic, OpKind, Register as Name};

use super::alu::{Operation, ZERO, compute};
use super::operand::{Place, linear, register, set_register};
use super::walk::Access;
use super::{Space, Stop};
use crate::hypervisor::{CpuState, Gpr};

const DIRECTION: u64 = 1 << 10;

/// Elements done at most before the guest is entered again, so that a long repetition
/// can be interrupted.
const BURST: usize = 1024;

/// Whether this is one of them (MOVSD and CMPSD are also names of SSE instructions).
pub fn is_string(instruction: &Instruction) -> bool {
    use Mnemonic::*;
    match instruction.mnemonic() {
        Movsd => instruction.code() == Code::Movsd_m32_m32,
        Cmpsd => instruction.code() == Code::Cmpsd_m32_m32,
        Movsb | Movsw | Movsq | Stosb | Stosw | Stosd | Stosq | Lodsb | Lodsw | Lodsd | Lodsq
        | Cmpsb | Cmpsw | Cmpsq | Scasb | Scasw | Scasd | Scasq | Insb | Insw | Insd | Outsb
        | Outsw | Outsd => true,
        _ => false,
    }
}

/// The index and count registers in the width of the instruction's addresses.
struct Registers {
    source: Name,
    destination: Name,
    count: Name,
}

fn registers(instruction: &Instruction) -> Registers {
    let kinds = [instruction.op0_kind(), instruction.op1_kind()];
    let has = |wanted: [OpKind; 2]| kinds.iter().any(|kind| wanted.contains(kind));
    if has([OpKind::MemorySegRSI, OpKind::MemoryESRDI]) {
        Registers {
            source: Name::RSI,
            destination: Name::RDI,
            count: Name::RCX,
        }
    } else if has([OpKind::MemorySegESI, OpKind::MemoryESEDI]) {
        Registers {
            source: Name::ESI,
            destination: Name::EDI,
            count: Name::ECX,
        }
    } else {
        Registers {
            source: Name::SI,
            destination: Name::DI,
            count: Name::CX,
        }
    }
}

/// What came of an element.
enum Element {
    Done,
    /// For the accumulator.
    Loaded(u64),
    /// RFLAGS after a comparison.
    Compared(u64),
}

/// Does the instruction's next element.
fn element(
    cpu: &CpuState,
    space: &mut impl Space,
    instruction: &Instruction,
    size: usize,
) -> Result<Element, Stop> {
    use Mnemonic::*;
    let place = |space: &mut _, operand: u32, access: Access| {
        // Registers of the address are always there: they are in the instruction's name.
        let linear = linear(cpu, instruction, operand, size, access)?.unwrap_or_default();
        Place::find(cpu, space, linear, size, access)
    };
    let (load, store) = (Access::read(cpu), Access::write(cpu));
    let compare =
        |left, right| Element::Compared(compute(Operation::Sub, left, right, size, cpu.rflags).1);
    match instruction.mnemonic() {
        Movsb | Movsw | Movsd | Movsq => {
            // Both sides are looked up before either is touched.
            let (to, from) = (place(space, 0, store)?, place(space, 1, load)?);
            let value = from.load(space);
            to.store(space, value);
        }
        Stosb | Stosw | Stosd | Stosq => {
            let to = place(space, 0, store)?;
            to.store(space, cpu.get(Gpr::Rax));
        }
        Lodsb | Lodsw | Lodsd | Lodsq => {
            return Ok(Element::Loaded(place(space, 1, load)?.load(space)));
        }
        Cmpsb | Cmpsw | Cmpsd | Cmpsq => {
            let (left, right) = (place(space, 0, load)?, place(space, 1, load)?);
            return Ok(compare(left.load(space), right.load(space)));
        }
        Scasb | Scasw | Scasd | Scasq => {
            let right = place(space, 1, load)?.load(space);
            return Ok(compare(cpu.get(Gpr::Rax), right));
        }
        Insb | Insw | Insd => {
            let to = place(space, 0, store)?;
            let mut data = [0; 8];
            space.port_read(cpu.get(Gpr::Rdx) as u16, &mut data[..size]);
            to.store(space, u64::from_le_bytes(data));
        }
        _ => {
            let value = place(space, 1, load)?.load(space);
            space.port_write(cpu.get(Gpr::Rdx) as u16, &value.to_le_bytes()[..size]);
        }
    }
    Ok(Element::Done)
}

/// Carries the instruction on until it is done, or for a burst; RIP moves on only when
/// it is done.
pub fn execute(
    cpu: &mut CpuState,
    space: &mut impl Space,
    instruction: &Instruction,
) -> Result<(), Stop> {
    use Mnemonic::*;
    let size = instruction.memory_size().size();
    let Registers {
        source,
        destination,
        count,
    } = registers(instruction);
    let repeated = instruction.has_rep_prefix() || instruction.has_repne_prefix();
    let step = if cpu.rflags & DIRECTION == 0 {
        size as u64
    } else {
        (size as u64).wrapping_neg()
    };
    let reads = !matches!(
        instruction.mnemonic(),
        Stosb | Stosw | Stosd | Stosq | Scasb | Scasw | Scasd | Scasq | Insb | Insw | Insd
    );
    let writes = !matches!(
        instruction.mnemonic(),
        Lodsb | Lodsw | Lodsd | Lodsq | Outsb | Outsw | Outsd
    );
    let advance = |cpu: &mut CpuState, name: Name, by: u64| {
        let value = register(cpu, name).unwrap_or_default().wrapping_add(by);
        // The names above are all of general-purpose registers.
        let _ = set_register(cpu, name, value);
    };
    let mut done = !repeated;
    for _ in 0..BURST {
        if repeated && register(cpu, count) == Some(0) {
            done = true;
            break;
        }
        let element = element(cpu, space, instruction, size)?;
        if reads {
            advance(cpu, source, step);
        }
        if writes {
            advance(cpu, destination, step);
        }
        if repeated {
            advance(cpu, count, u64::MAX);
            done |= register(cpu, count) == Some(0);
        }
        match element {
            Element::Done => {}
            Element::Loaded(value) => {
                let _ = set_register(cpu, instruction.op0_register(), value);
            }
            Element::Compared(rflags) => {
                cpu.rflags = rflags;
                done |= (rflags & ZERO != 0) != instruction.has_repe_prefix();
            }
        }
        if done {
            break;
        }
    }
    if done {
        cpu.rip = instruction.next_ip();
    }
    Ok(())
}
