// SPDX-License-Identifier: GPL-2.0

//! The pages that hvcore writes and the root may read: counters of LPs, and the log.

use crate::mem::frame::direct;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU64, Ordering};
use hvabi::log::{Level, LogRecord, LOG_RECORDS, TEXT_SIZE};
use hvabi::stats::LpStats;
use hvabi::PAGE_SIZE;

/// SPA of the log ring, and number of the last record.
static LOG_SPA: AtomicU64 = AtomicU64::new(0);
static LOG_SEQ: AtomicU64 = AtomicU64::new(0);

/// Says where the ring is. Called once, by the first LP.
pub fn set_log(spa: u64) {
    LOG_SPA.store(spa, Ordering::Release);
}

/// Counters of an LP; only that LP has a handle.
pub struct Stats {
    page: *mut LpStats,
}

impl Stats {
    /// The public page of LP `index`; `public_spa` and the index come from the launch.
    pub fn new(public_spa: u64, index: u32) -> Self {
        let spa = public_spa + u64::from(index) * PAGE_SIZE as u64;
        Self { page: direct(spa).cast() }
    }

    /// Changes the counters.
    #[inline(always)]
    pub fn get(&mut self) -> &mut LpStats {
        // SAFETY: the page lies in the block, is written by this LP alone, and the root can only
        // read it, which harms nobody if it sees a counter half written.
        unsafe { &mut *self.page }
    }
}

/// Text of one record.
struct Line {
    text: [u8; TEXT_SIZE],
    len: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for &byte in text.as_bytes() {
            if let Some(slot) = self.text.get_mut(self.len) {
                *slot = byte;
                self.len += 1;
            }
        }
        Ok(())
    }
}

/// Appends a record to the ring. Any LP, at any time, also when hvcore is dying: takes no lock.
pub fn log(lp: u32, level: Level, text: fmt::Arguments<'_>) {
    let mut line = Line { text: [0; TEXT_SIZE], len: 0 };
    // A `Line` takes everything, by cutting off.
    let _ = line.write_fmt(text);
    #[cfg(hvcore_debug_port)]
    {
        line.text[..line.len].iter().for_each(|&byte| super::insn::debug_byte(byte));
        super::insn::debug_byte(b'\n');
    }
    let spa = LOG_SPA.load(Ordering::Acquire);
    if spa == 0 {
        return;
    }
    let seq = LOG_SEQ.fetch_add(1, Ordering::AcqRel) + 1;
    let slot = (seq - 1) as usize % LOG_RECORDS;
    let address = spa + (slot * core::mem::size_of::<LogRecord>()) as u64;
    let record: *mut LogRecord = direct(address).cast();
    // SAFETY: the slot lies in the ring, and `seq` is its first, aligned field.
    let published = unsafe { AtomicU64::from_ptr(record.cast()) };
    published.store(0, Ordering::Release);
    let value = LogRecord {
        seq: 0,
        tsc: super::insn::rdtsc(),
        lp: lp as u16,
        level: level as u8,
        len: line.len as u8,
        reserved: 0,
        text: line.text,
    };
    // SAFETY: the slot lies in the ring; two LPs share one only if a whole ring was written in
    // the meantime, and then a garbled line is all that happens.
    unsafe { record.write_volatile(value) };
    published.store(seq, Ordering::Release);
}
