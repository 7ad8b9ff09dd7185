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
    let fixed = core::array::from_fn(|_| {
        let one = kind(&mut bytes);
        let other = [one, kind(&mut bytes)][usize::from(bytes.u8() & 3 == 0)];
        one * 0x0101_0101 | (other * 0x0101_0101) << 32
    });
    let state = MtrrState {
        def_type,
        fixed,
        variable,
    };
    let start = u64::from(bytes.u8()) << 21 | u64::from(flags >> 2 & 1) << 38;
    let of = |at: u64| state.uniform(at, Size::K4).expect("a page has one type");
    let first = of(start);
    for at in (start..start + (1 << 21)).step_by(4096) {
        assert_eq!(of(at), by_the_manual(&state, at), "{at:#x}");
    }
    let same = (0..512).all(|n| of(start + n * 4096) == first);
    match state.uniform(start + u64::from(bytes.u16()), Size::M2) {
        Some(kind) => assert!(same && kind == first, "{start:#x}: {kind:?} and {first:?}"),
        // Ranges that overlap may cut a page in pieces that have the same type all the same.
        None => assert!(
            !same || ranges > 0 || flags & 1 != 0,
            "{start:#x}: all are {first:?}"
        ),
    }
    if flags & 2 == 0 {
        assert_eq!(first, MemType::Uncacheable, "MTRRs are off");
    }
}
