// SPDX-License-Identifier: GPL-2.0

//! `/sys/kernel/debug/hvmod`: the log and the counters of LPs, for people.

use crate::{
    core_log::{Line, Records},
    loader::Core,
    lps,
};
use kernel::{
    debugfs::{Dir, File, Writer},
    fmt,
    prelude::*,
    sync::Arc,
};

/// The directory.
#[pin_data]
pub(crate) struct DebugFs {
    #[pin]
    log: File<Log>,
    #[pin]
    lps: File<Lps>,
}

impl DebugFs {
    /// Makes the directory for `core`.
    pub(crate) fn new(core: Arc<Core>) -> impl PinInit<Self, Error> {
        let dir = Dir::new(c"hvmod");
        try_pin_init!(Self {
            log <- dir.read_only_file(c"log", Log(core.clone())),
            lps <- dir.read_only_file(c"lps", Lps(core)),
        })
    }
}

/// `log`: a line for each record of hvcore's log.
struct Log(Arc<Core>);

impl Writer for Log {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for record in Records::new(&self.0, 1) {
            f.write_fmt(fmt!("{}\n", Line(&record)))?;
        }
        Ok(())
    }
}

/// `lps`: a paragraph for each LP.
struct Lps(Arc<Core>);

impl Writer for Lps {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for lp in 0..lps::count() {
            let (Some(cpu), Some(stats)) = (lps::cpu_of(lp), self.0.lp_stats(lp)) else {
                continue;
            };
            writeln!(
                f,
                "lp {lp} cpu {cpu} apic {} active {} runs {} hypercalls {} nmis {} denied {} \
                 flushes {} hidden_reads {}",
                stats.apic_id,
                stats.active,
                stats.child_runs,
                stats.hypercalls,
                stats.nmis,
                stats.denied,
                stats.flushes,
                stats.hidden_reads,
            )?;
            if stats.denied != 0 {
                writeln!(f, "  last denied access at {:#x}", stats.denied_rip)?;
            }
            for (whose, exits) in [("root", &stats.root_exits), ("child", &stats.child_exits)] {
                for (reason, count) in exits.iter().enumerate().filter(|(_, &count)| count != 0) {
                    writeln!(f, "  {whose} exit {reason:>2}: {count}")?;
                }
            }
        }
        Ok(())
    }
}
