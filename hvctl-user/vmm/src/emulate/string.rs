// SPDX-License-Identifier: GPL-2.0
//! String instructions: MOVS, STOS, LODS, INS and OUTS, repeated or not.

use iced_x86::{Code, Instruction, Mnemonic, OpKind, Register as Name};

use super::operand::{Place, linear, register, set_register};
use super::walk::Access;
use super::{Space, Stop};
use crate::hypervisor::{CpuState, Gpr};

const DIRECTION: u64 = 1 << 10;

/// Elements done at most before the guest is entered again, so that a long repetition
/// can be interrupted.
const BURST: usize = 1024;

/// Whether this is one of them (MOVSD is also the name of an SSE instruction).
pub fn is_string(instruction: &Instruction) -> bool {
    use Mnemonic::*;
    match instruction.mnemonic() {
        Movsd => instruction.code() == Code::Movsd_m32_m32,
        Movsb | Movsw | Movsq | Stosb | Stosw | Stosd | Stosq | Lodsb | Lodsw | Lodsd | Lodsq
        | Insb | Insw | Insd | Outsb | Outsw | Outsd => true,
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

/// Does the instruction's next element.
fn element(
    cpu: &CpuState,
    space: &mut impl Space,
    instruction: &Instruction,
    size: usize,
) -> Result<Option<u64>, Stop> {
    use Mnemonic::*;
    let place = |space: &mut _, operand: u32, access: Access| {
        // Registers of the address are always there: they are in the instruction's name.
        let linear = linear(cpu, instruction, operand).unwrap_or_default();
        Place::find(cpu, space, linear, size, access)
    };
    let (load, store) = (Access::read(cpu), Access::write(cpu));
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
        Lodsb | Lodsw | Lodsd | Lodsq => return Ok(Some(place(space, 1, load)?.load(space))),
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
    Ok(None)
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
        Stosb | Stosw | Stosd | Stosq | Insb | Insw | Insd
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
    for _ in 0..BURST {
        if repeated && register(cpu, count) == Some(0) {
            break;
        }
        if let Some(value) = element(cpu, space, instruction, size)? {
            let _ = set_register(cpu, instruction.op0_register(), value);
        }
        if reads {
            advance(cpu, source, step);
        }
        if writes {
            advance(cpu, destination, step);
        }
        if !repeated {
            break;
        }
        advance(cpu, count, u64::MAX);
    }
    if !repeated || register(cpu, count) == Some(0) {
        cpu.rip = instruction.next_ip();
    }
    Ok(())
}
