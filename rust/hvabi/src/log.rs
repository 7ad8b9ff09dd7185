// SPDX-License-Identifier: GPL-2.0

//! hvcore's log ring: written by hvcore, readable by the root at any time, also when hvcore died.

/// Pages of the ring.
pub const LOG_PAGES: usize = 16;

/// Bytes of text in a record.
pub const TEXT_SIZE: usize = 232;

/// One line of the log. The ring is an array of these; record number `n` (from 1) is written to
/// slot `(n - 1) % LOG_RECORDS`.
///
/// hvcore clears `seq`, writes the rest, then sets `seq`. A reader copies the record and takes it
/// if `seq` was the number it wanted both before and after.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct LogRecord {
    /// Number of the record, from 1; 0 while it is being written or never was.
    pub seq: u64,
    /// TSC of the LP when it was written.
    pub tsc: u64,
    /// Index of the LP that wrote it.
    pub lp: u16,
    /// A [`Level`].
    pub level: u8,
    /// Bytes of `text` that are used.
    pub len: u8,
    pub reserved: u32,
    /// UTF-8, no line end.
    pub text: [u8; TEXT_SIZE],
}

/// Number of records in the ring.
pub const LOG_RECORDS: usize = LOG_PAGES * crate::PAGE_SIZE / core::mem::size_of::<LogRecord>();

const _: () = assert!(core::mem::size_of::<LogRecord>() == 256);

/// How grave a record is. The numbers are syslog's.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// hvcore can not go on.
    Critical = 2,
    /// A partition can not go on.
    Error = 3,
    /// Somebody did what they should not.
    Warning = 4,
    /// A step of life: launch, create, destroy.
    Info = 6,
    /// For developers.
    Debug = 7,
}
