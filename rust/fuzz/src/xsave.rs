// SPDX-License-Identifier: GPL-2.0

//! XCR0, and the layout that is offered to children, whatever CPUID says.

use hvcore::policy::xsave::{write_xcr0, Layout};

use crate::bytes::Bytes;

/// What XSETBV accepts (SDM vol. 1, 13.3).
fn accepted(value: u64, supported: u64) -> bool {
    let has = |bits: u64| value & bits == bits;
    let any = |bits: u64| value & bits != 0;
    value & !supported == 0
        && has(1)
        && (!any(4) || has(2))
        && (!any(0x18) || has(0x18))
        && (!any(0xe0) || has(0xe6))
        && (!any(0x6_0000) || has(0x6_0000))
}

pub fn run(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let native = bytes.value();
    let mut described = [[0u32; 4]; 12];
    described[0] = [native as u32, 0, 0, (native >> 32) as u32];
    for component in described.iter_mut().skip(2) {
        let near = |bytes: &mut Bytes| match bytes.u8() {
            0 => bytes.u32(),
            n => u32::from(n) * 64 - (u32::from(n) & 1),
        };
        *component = [near(&mut bytes), near(&mut bytes), u32::from(bytes.u8()), 0];
    }
    let layout = Layout::new(|i| described.get(i as usize).copied().unwrap_or([0; 4]));
    let offered = layout.offered();
    assert_eq!(offered & !native, 0, "more than the processor has");
    assert!(
        offered & 1 == 0 || accepted(offered, native),
        "XCR0 cannot be {offered:#x}"
    );
    assert!(layout.size(u64::MAX) <= 4096, "the area is a page");
    let value = bytes.value();
    let (mut end, mut compact) = (576, 576u32);
    for i in 2..64 {
        let [size, offset, flags, _] = described.get(i).copied().unwrap_or([0; 4]);
        let is = offered >> i & 1 != 0;
        let known = layout
            .component(i as u32)
            .map(|c| (c.size, c.offset, c.align));
        assert_eq!(known, is.then_some((size, offset, flags & 2 != 0)));
        assert!(
            !is || size > 0 && offset >= 576 && flags & 1 == 0,
            "component {i}"
        );
        if is && value >> i & 1 != 0 {
            end = end.max(offset + size);
            compact = size + [compact, compact.next_multiple_of(64)][usize::from(flags & 2 != 0)];
        }
    }
    assert_eq!(
        (layout.size(value), layout.compact_size(value)),
        (end, compact)
    );
    // A child, and the root, which has components that children are not offered.
    for supported in [offered, native, native | 0x18, native | 0x6_0000] {
        assert_eq!(
            write_xcr0(value, supported).is_ok(),
            accepted(value, supported),
            "{value:#x} of {supported:#x}"
        );
    }
    let value = value & offered | 1;
    assert!(layout.size(value) <= layout.size(offered));
    assert!(layout.size(value) >= 576 && layout.compact_size(value) >= 576);
}
