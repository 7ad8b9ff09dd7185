// SPDX-License-Identifier: GPL-2.0

//! `/sys/kernel/debug/hvmod`: the log and the counters of LPs, for people.

use crate::{
    core_log::{Line, Records},
    lps,
    sys::{
        debugfs::{Dir, Show},
        loaded,
    },
};
use kernel::{fmt, prelude::*};

/// Makes the directory.
pub(crate) fn new() -> Dir {
    Dir::new(c"hvmod").with::<Log>().with::<Lps>()
}

/// A line for each record of hvcore's log.
struct Log;

impl Show for Log {
    const NAME: &'static CStr = c"log";

    fn show(f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(core) = loaded::get() else {
            return Ok(());
        };
        for record in Records::new(&core, 1) {
            f.write_fmt(fmt!("{}\n", Line(&record)))?;
        }
        Ok(())
    }
}

/// A paragraph for each LP.
struct Lps;

impl Show for Lps {
    const NAME: &'static CStr = c"lps";

    fn show(f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(core) = loaded::get() else {
            return Ok(());
        };
        for lp in 0..lps::count() {
            let (Some(cpu), Some(stats)) = (lps::cpu_of(lp), core.lp_stats(lp)) else {
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
