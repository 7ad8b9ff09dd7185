// SPDX-License-Identifier: GPL-2.0
//! Moves between memory and the XMM registers.

use iced_x86::{Code, Instruction, Register as Name};

use super::operand::{Place, is_memory, linear};
use super::walk::Access;
use super::{Space, Stop};
use crate::hypervisor::CpuState;

/// Bytes that the instruction moves, if it is one of these. A load clears the rest of the register.
fn moved(code: Code) -> Option<usize> {
    use Code::*;
    Some(match code {
        Movups_xmm_xmmm128 | Movups_xmmm128_xmm | Movupd_xmm_xmmm128 | Movupd_xmmm128_xmm
        | Movaps_xmm_xmmm128 | Movaps_xmmm128_xmm | Movapd_xmm_xmmm128 | Movapd_xmmm128_xmm
        | Movdqu_xmm_xmmm128 | Movdqu_xmmm128_xmm | Movdqa_xmm_xmmm128 | Movdqa_xmmm128_xmm
        | Movntps_m128_xmm | Movntpd_m128_xmm | Movntdq_m128_xmm | Movntdqa_xmm_m128
        | Lddqu_xmm_m128 => 16,
        Movq_xmm_xmmm64 | Movq_xmmm64_xmm | Movq_xmm_rm64 | Movq_rm64_xmm | Movsd_xmm_xmmm64
        | Movsd_xmmm64_xmm => 8,
        Movd_xmm_rm32 | Movd_rm32_xmm | Movss_xmm_xmmm32 | Movss_xmmm32_xmm => 4,
        _ => return None,
    })
}

fn index(name: Name) -> Option<usize> {
    name.is_xmm().then(|| name.number())
}

/// `None`: not one that is known here.
pub fn execute(
    cpu: &CpuState,
    space: &mut impl Space,
    instruction: &Instruction,
) -> Result<Option<()>, Stop> {
    let Some(size) = moved(instruction.code()) else {
        return Ok(None);
    };
    let store = is_memory(instruction.op0_kind());
    let access = Access {
        write: store,
        ..Access::read(cpu)
    };
    let memory = u32::from(!store);
    if !is_memory(instruction.op_kind(memory)) {
        return Ok(None);
    }
    let (Some(at), Some(register)) = (
        linear(cpu, instruction, memory, size, access)?,
        index(instruction.op_register(1 - memory)),
    ) else {
        return Ok(None);
    };
    // In halves of at most 8 bytes; both are found before either is touched.
    let first = Place::find(cpu, space, at, size.min(8), access)?;
    let second = match size {
        16 => Some(Place::find(cpu, space, at.wrapping_add(8), 8, access)?),
        _ => None,
    };
    if store {
        let Some(value) = space.vector(register) else {
            return Ok(None);
        };
        first.store(space, value as u64);
        if let Some(second) = second {
            second.store(space, (value >> 64) as u64);
        }
        return Ok(Some(()));
    }
    let low = u128::from(first.load(space));
    let high = second.map_or(0, |second| u128::from(second.load(space)));
    Ok(space.set_vector(register, high << 64 | low))
}
