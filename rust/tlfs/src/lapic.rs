// SPDX-License-Identifier: GPL-2.0

//! State of the local APIC: `struct hv_local_interrupt_controller_state` and the register page.

use super::pod::{self, pod_struct};
use super::PAGE_SIZE;

pod_struct! {
    /// `struct hv_local_interrupt_controller_state`.
    pub struct LapicState {
        pub apic_id: u32,
        pub apic_version: u32,
        pub apic_ldr: u32,
        pub apic_dfr: u32,
        pub apic_spurious: u32,
        pub apic_isr: [u32; 8],
        pub apic_tmr: [u32; 8],
        pub apic_irr: [u32; 8],
        pub apic_esr: u32,
        pub apic_icr_high: u32,
        pub apic_icr_low: u32,
        pub apic_lvt_timer: u32,
        pub apic_lvt_thermal: u32,
        pub apic_lvt_perfmon: u32,
        pub apic_lvt_lint0: u32,
        pub apic_lvt_lint1: u32,
        pub apic_lvt_error: u32,
        pub apic_lvt_cmci: u32,
        pub apic_error_status: u32,
        pub apic_initial_count: u32,
        pub apic_counter_value: u32,
        pub apic_divide_configuration: u32,
        pub apic_remote_read: u32,
    }
}

impl LapicState {
    /// Whether the timer waits for IA32_TSC_DEADLINE: that mode, and not masked.
    pub fn has_deadline(&self) -> bool {
        self.apic_lvt_timer & 7 << 16 == 2 << 17
    }
}

/// Offset in the register page (SDM vol. 3, table 12-1) of each word of [`LapicState`], in order.
/// `apic_error_status` has no place of its own: it is the ESR too.
const OFFSETS: [u16; LAPIC_WORDS] = {
    let mut offsets = [0; LAPIC_WORDS];
    let head = [0x20, 0x30, 0xd0, 0xe0, 0xf0];
    let tail = [
        0x280, 0x310, 0x300, 0x320, 0x330, 0x340, 0x350, 0x360, 0x370, 0x2f0, 0x280, 0x380, 0x390,
        0x3e0, 0xc0,
    ];
    let mut i = 0;
    while i < head.len() {
        offsets[i] = head[i];
        i += 1;
    }
    let mut i = 0;
    while i < 8 {
        offsets[5 + i] = 0x100 + 0x10 * i as u16;
        offsets[13 + i] = 0x180 + 0x10 * i as u16;
        offsets[21 + i] = 0x200 + 0x10 * i as u16;
        i += 1;
    }
    let mut i = 0;
    while i < tail.len() {
        offsets[29 + i] = tail[i];
        i += 1;
    }
    offsets
};

const LAPIC_WORDS: usize = core::mem::size_of::<LapicState>() / 4;

/// The state that a register page holds.
///
/// Each word is as in the register, the APIC ID too: in bits 24 to 31 in xAPIC mode, and in all bits
/// in x2APIC mode.
pub fn from_page(page: &[u8; PAGE_SIZE]) -> LapicState {
    let mut state = pod::zeroed::<LapicState>();
    for (word, offset) in pod::bytes_of_mut(&mut state)
        .chunks_exact_mut(4)
        .zip(OFFSETS)
    {
        word.copy_from_slice(&page[usize::from(offset)..usize::from(offset) + 4]);
    }
    state
}

/// Writes `state` to a register page; what the state does not hold (TPR, PPR) stays.
pub fn to_page(state: &LapicState, page: &mut [u8; PAGE_SIZE]) {
    let mut state = *state;
    state.apic_error_status = state.apic_esr;
    for (word, offset) in pod::bytes_of(&state).chunks_exact(4).zip(OFFSETS) {
        page[usize::from(offset)..usize::from(offset) + 4].copy_from_slice(word);
    }
}
