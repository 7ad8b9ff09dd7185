// SPDX-License-Identifier: GPL-2.0
//! VM exits, counted by reason.

use std::fmt;

use hvmod_ioctls::EXIT_REASONS;
use serde::Serialize;

#[derive(Debug, Serialize)]
pub struct Exits {
    reason: usize,
    name: String,
    pub count: u64,
}

/// Counters that are not zero, by number of reason, the most frequent first.
pub fn exits<'a>(counters: impl IntoIterator<Item = &'a [u64; EXIT_REASONS]>) -> Vec<Exits> {
    let mut sums = [0u64; EXIT_REASONS];
    for counter in counters {
        for (sum, count) in sums.iter_mut().zip(counter) {
            *sum = sum.saturating_add(*count);
        }
    }
    let name = |reason| {
        hvmod_ioctls::exit_reason(reason)
            .map_or_else(|| format!("exit reason {reason}"), str::to_owned)
    };
    let mut exits: Vec<_> = (0..EXIT_REASONS)
        .filter(|&reason| sums[reason] > 0)
        .map(|reason| Exits {
            reason,
            name: name(reason),
            count: sums[reason],
        })
        .collect();
    exits.sort_by_key(|exit| std::cmp::Reverse(exit.count));
    exits
}

pub fn list(f: &mut fmt::Formatter<'_>, title: &str, exits: &[Exits]) -> fmt::Result {
    if exits.is_empty() {
        return writeln!(f, "{title}: none");
    }
    writeln!(f, "{title}:")?;
    for exit in exits {
        writeln!(f, "  {:>12}  {} ({})", exit.count, exit.name, exit.reason)?;
    }
    Ok(())
}
