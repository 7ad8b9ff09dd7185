// SPDX-License-Identifier: GPL-2.0
//! `hvctl log`.

use std::io::{self, Write};
use std::time::Duration;

use anyhow::{Context, Result};
use hvmod_ioctls::LogRecord;

use crate::args;

const LEVELS: [&str; 8] = [
    "emergency",
    "alert",
    "critical",
    "error",
    "warning",
    "notice",
    "info",
    "debug",
];
const PAUSE: Duration = Duration::from_millis(200);

pub fn main(args: &args::Log) -> Result<u8> {
    let client = crate::info::open()?;
    let tsc_khz = client.info().context("hvmod's information")?.tsc_khz;
    let mut next = 0;
    let mut out = io::stdout().lock();
    loop {
        let read = client.log(next).context("hvmod's log")?;
        if read.lost > 0 {
            writeln!(out, "({} records were overwritten)", read.lost)?;
        }
        for record in &read.records {
            writeln!(out, "{}", line(record, tsc_khz))?;
        }
        out.flush()?;
        // A kernel that does not move on must not keep us here.
        let more = !read.records.is_empty() && read.next > next;
        next = read.next.max(next);
        if !more {
            if !args.follow {
                return Ok(0);
            }
            std::thread::sleep(PAUSE);
        }
    }
}

fn line(record: &LogRecord, tsc_khz: u64) -> String {
    let microseconds =
        u128::from(record.tsc) * 1000 / u128::from(if tsc_khz == 0 { 1 } else { tsc_khz });
    let (seconds, fraction) = (microseconds / 1_000_000, microseconds % 1_000_000);
    let level = LEVELS.get(usize::from(record.level)).unwrap_or(&"?");
    format!(
        "[{seconds:5}.{fraction:06}] LP {} {level}: {}",
        record.lp,
        record.message()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_a_line() {
        let mut record = LogRecord {
            tsc: 75_000_000,
            lp: 1,
            level: 6,
            len: 5,
            ..Default::default()
        };
        record.text[..5].copy_from_slice(b"hello");
        assert_eq!(line(&record, 50_000), "[    1.500000] LP 1 info: hello");
        record.level = 200;
        assert!(line(&record, 0).contains("?: hello"));
    }
}
