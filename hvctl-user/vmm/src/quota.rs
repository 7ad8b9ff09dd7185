// SPDX-License-Identifier: GPL-2.0
//! A limit to what a guest can make us say.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const PERIOD: Duration = Duration::from_secs(10);
const PER_PERIOD: u32 = 10;

/// A few tokens per period.
#[derive(Debug, Default)]
pub struct Quota {
    state: Mutex<Option<(Instant, u32)>>,
}

impl Quota {
    /// Whether there was one left.
    pub fn take(&self) -> bool {
        self.take_at(Instant::now())
    }

    fn take_at(&self, now: Instant) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, used) = match *state {
            Some((since, used)) if now.duration_since(since) < PERIOD => (since, used),
            _ => (now, 0),
        };
        *state = Some((since, used.saturating_add(1)));
        used < PER_PERIOD
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_run_out_and_come_back() {
        let quota = Quota::default();
        let now = Instant::now();
        let taken = (0..1000).filter(|_| quota.take_at(now)).count();
        assert_eq!(taken, PER_PERIOD as usize);
        assert!(quota.take_at(now + PERIOD));
    }
}
