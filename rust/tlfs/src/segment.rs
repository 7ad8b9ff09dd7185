// SPDX-License-Identifier: GPL-2.0

//! Segment and descriptor-table registers: TLFS form and VMCS form.
//!
//! The attributes of the TLFS are those of a descriptor: bits 0 to 3 type, 4 S, 5 and 6 DPL, 7 P,
//! 12 AVL, 13 L, 14 D/B, 15 G. The access rights of the VMCS have the same bits and a 17th,
//! "unusable"; the TLFS says that with P clear.

use super::hvabi;
use super::pod::pod_struct;
use hvabi::state::Table;
use hvabi::vp::Segment;

pod_struct! {
    /// `struct hv_x64_segment_register`.
    pub struct SegmentRegister {
        pub base: u64,
        pub limit: u32,
        pub selector: u16,
        pub attributes: u16,
    }
    /// `struct hv_x64_table_register`.
    pub struct TableRegister {
        pub pad: [u16; 3],
        pub limit: u16,
        pub base: u64,
    }
}

const ATTRIBUTES: u32 = 0xf0ff;
const PRESENT: u32 = 1 << 7;
const UNUSABLE: u32 = 1 << 16;

impl From<Segment> for SegmentRegister {
    fn from(segment: Segment) -> Self {
        let mut attributes = segment.access & ATTRIBUTES;
        if segment.access & UNUSABLE != 0 {
            attributes &= !PRESENT;
        }
        SegmentRegister {
            base: segment.base,
            limit: segment.limit,
            selector: segment.selector,
            attributes: attributes as u16,
        }
    }
}

impl From<SegmentRegister> for Segment {
    fn from(register: SegmentRegister) -> Self {
        let mut access = u32::from(register.attributes) & ATTRIBUTES;
        if access & PRESENT == 0 {
            access |= UNUSABLE;
        }
        Segment {
            base: register.base,
            limit: register.limit,
            access,
            selector: register.selector,
            reserved: [0; 3],
        }
    }
}

impl From<Table> for TableRegister {
    fn from(table: Table) -> Self {
        TableRegister {
            pad: [0; 3],
            limit: table.limit as u16,
            base: table.base,
        }
    }
}

impl From<TableRegister> for Table {
    fn from(register: TableRegister) -> Self {
        Table {
            base: register.base,
            limit: u32::from(register.limit),
            reserved: 0,
        }
    }
}
