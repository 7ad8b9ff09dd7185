// SPDX-License-Identifier: GPL-2.0

//! hvcore's log ring: see `hvabi::log`.

use crate::{
    hvabi::log::{Level, LogRecord, LOG_RECORDS, TEXT_SIZE},
    loader::Core,
};
use kernel::{
    fmt::{self, Write},
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};

/// Number of the first record that was not looked at for [`forward`].
static NEXT: Atomic<u64> = Atomic::new(1);

/// All records from number `seq` on that are still there, with the number of the next.
pub(crate) struct Records<'a> {
    core: &'a Core,
    /// Number of the next record.
    pub(crate) next: u64,
    /// How many were overwritten.
    pub(crate) lost: u64,
}

impl<'a> Records<'a> {
    /// From number `seq` on.
    pub(crate) fn new(core: &'a Core, seq: u64) -> Self {
        // Far behind: the slot tells which number is there now.
        let oldest = match core.log_slot(seq.max(1)) {
            Some(record) if record.seq > seq => record.seq.saturating_sub(LOG_RECORDS as u64 - 1),
            _ => 1,
        };
        let next = seq.max(oldest).max(1);
        Self {
            core,
            next,
            lost: next - seq.max(1),
        }
    }
}

impl Iterator for Records<'_> {
    type Item = LogRecord;

    fn next(&mut self) -> Option<LogRecord> {
        loop {
            let record = self.core.log_slot(self.next)?;
            // hvcore may have written it while it was copied.
            let seq = self.core.log_slot(self.next)?.seq;
            if seq < self.next {
                return None;
            }
            self.next += 1;
            if seq == record.seq && seq == self.next - 1 {
                return Some(record);
            }
            self.lost += 1;
        }
    }
}

/// A record as one line.
pub(crate) struct Line<'a>(pub(crate) &'a LogRecord);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let record = self.0;
        let text = &record.text[..usize::from(record.len).min(TEXT_SIZE)];
        let level = match record.level {
            level if level <= Level::Critical as u8 => "critical",
            level if level == Level::Error as u8 => "error",
            level if level == Level::Warning as u8 => "warning",
            level if level <= Level::Info as u8 => "info",
            _ => "debug",
        };
        write!(
            f,
            "{:>6} {:>18} lp{} {}: ",
            record.seq, record.tsc, record.lp, level
        )?;
        // A panic's message has line ends.
        text.utf8_chunks()
            .flat_map(|chunk| chunk.valid().chars())
            .map(|char| if char.is_control() { ' ' } else { char })
            .try_for_each(|char| f.write_char(char))
    }
}

/// Begins anew, with the empty log of another hvcore.
pub(crate) fn begin() {
    NEXT.store(1, Relaxed);
}

/// Copies errors that were not seen yet to the kernel log. Whether hvcore says there that it died.
pub(crate) fn forward(core: &Core) -> bool {
    forward_up_to(core, Level::Error as u8)
}

/// Copies all records that were not seen yet to the kernel log: when a launch failed there will be
/// no other way to read them.
pub(crate) fn forward_all(core: &Core) {
    forward_up_to(core, Level::Debug as u8);
}

fn forward_up_to(core: &Core, level: u8) -> bool {
    let mut critical = false;
    let mut records = Records::new(core, NEXT.load(Relaxed));
    for record in records.by_ref().filter(|record| record.level <= level) {
        critical |= record.level <= Level::Critical as u8;
        pr_err!("hvcore: {}\n", Line(&record));
    }
    // Two at the same time print a record twice: no harm.
    NEXT.store(records.next, Relaxed);
    critical
}
