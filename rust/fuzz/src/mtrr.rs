// SPDX-License-Identifier: GPL-2.0

//! The memory type of a large page, against that of each page in it.

use hvcore::mem::addr::Size;
use hvcore::mem::mtrr::{MemType, MtrrState, VARIABLE_MAX};

use crate::bytes::Bytes;

/// The type of the byte at `at` (SDM vol. 3, 13.11.2 to 13.11.4).
fn by_the_manual(state: &MtrrState, at: u64) -> MemType {
    let kind = |raw: u64| MemType::from_raw(raw & 0xff).unwrap_or(MemType::Uncacheable);
    if state.def_type >> 11 & 1 == 0 {
        return MemType::Uncacheable;
    }
    if state.def_type >> 10 & 1 != 0 && at < 1 << 20 {
        // 8 ranges of 64 KiB, 16 of 16 KiB, 64 of 4 KiB.
        let range = match at >> 18 {
            0 | 1 => at >> 16,
            2 => 8 + (at - 0x8_0000 >> 14),
            _ => 24 + (at - 0xc_0000 >> 12),
        } as usize;
        return kind(state.fixed[range / 8].to_le_bytes()[range % 8].into());
    }
    let ranges = state
        .variable
        .iter()
        .filter(|(_, mask)| mask >> 11 & 1 != 0);
    let inside = ranges.filter(|(base, mask)| (at ^ base) & mask >> 12 << 12 == 0);
    let kinds: Vec<_> = inside.map(|(base, _)| kind(*base)).collect();
    let only = |allowed: &[MemType]| kinds.iter().all(|kind| allowed.contains(kind));
    match kinds.first() {
        None => kind(state.def_type),
        Some(first) if only(&[*first]) => *first,
        _ if only(&[MemType::WriteBack, MemType::WriteThrough]) => MemType::WriteThrough,
        // Undefined, or with one that is uncacheable.
        _ => MemType::Uncacheable,
    }
}

pub fn run(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let kinds = [0, 1, 4, 5, 6, 2, 6, 6];
    let kind = |bytes: &mut Bytes| kinds[usize::from(bytes.u8() & 7)];
    let mut variable = [(0, 0); VARIABLE_MAX];
    let ranges = usize::from(bytes.u8() & 7);
    for range in &mut variable[..ranges] {
        let (base, size) = (u64::from(bytes.u16()), 12 + u32::from(bytes.u8() & 15));
        // Sometimes a mask with holes, which a BIOS may write.
        let hole = [0, u64::from(bytes.u16()) << 12][usize::from(bytes.u8() & 7 == 0)];
        let mask = ((1 << 39) - 1) & !((1u64 << size) - 1) & !hole;
        *range = (base << 12 & mask | kind(&mut bytes), mask | 1 << 11);
    }
    let flags = bytes.u8();
    let def_type = kind(&mut bytes) | u64::from(flags & 3) << 10;
    // Two types in each register, in any order.
    let fixed = core::array::from_fn(|_| {
        let (a, b, c) = (bytes.u8(), bytes.u8(), bytes.u8());
        let others = [0, a >> 3 ^ b & 0xf8][usize::from(c & 3 == 0)];
        let kind = |field: usize| kinds[usize::from([a, b][usize::from(others >> field & 1)] & 7)];
        u64::from_le_bytes(core::array::from_fn(|field| kind(field) as u8))
    });
    let state = MtrrState {
        def_type,
        fixed,
        variable,
    };
    let start = u64::from(bytes.u8()) << 21 | u64::from(flags >> 2 & 1) << 38;
    let inside = bytes.u16();
    // The fixed ranges are all in the first one.
    for start in [start, 0] {
        check_large(&state, start, u64::from(inside), ranges > 0);
    }
    check_huge(&state, start, u64::from(inside));
}

/// The 2 MiB at `start`, named by any address in it. Variable ranges that overlap may cut it in
/// pieces that have the same type all the same.
fn check_large(state: &MtrrState, start: u64, inside: u64, ranges: bool) {
    let mut kinds = (start..start + (1 << 21)).step_by(4096).map(|at| {
        let kind = by_the_manual(state, at);
        assert_eq!(state.uniform(at, Size::K4), Some(kind), "{at:#x}");
        kind
    });
    let first = kinds.next().expect("there are pages");
    // Each page is looked at, though one other is enough.
    let same = kinds.filter(|kind| *kind != first).count() == 0;
    match state.uniform(start + inside, Size::M2) {
        Some(kind) => assert!(same && kind == first, "{start:#x}: {kind:?} and {first:?}"),
        None => assert!(!same || ranges, "{start:#x}: all are {first:?}"),
    }
}

/// Some pages of the 1 GiB at `start`, and all that the fixed ranges tell apart.
fn check_huge(state: &MtrrState, start: u64, inside: u64) {
    let start = start >> 30 << 30;
    let Some(kind) = state.uniform(start + inside, Size::G1) else {
        return;
    };
    let low = (start..start + (1 << 20)).step_by(4096);
    let all = (start..start + (1 << 30)).step_by(1 << 23);
    for at in low.chain(all.map(|at| at | inside << 7)) {
        assert_eq!(by_the_manual(state, at), kind, "{at:#x} of 1 GiB");
    }
}
