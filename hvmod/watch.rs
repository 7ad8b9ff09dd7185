// SPDX-License-Identifier: GPL-2.0

//! Looks each second whether hvcore has something bad to say, so that it comes to the kernel log
//! even where nobody asks for it.

use crate::{
    hypercall,
    sys::ticker::{Tick, Ticker},
};

/// The looking goes on while this exists.
pub(crate) struct Watch(#[allow(dead_code)] Ticker);

impl Watch {
    /// Starts; there must be no other.
    pub(crate) fn new() -> Self {
        Self(Ticker::start::<Self>())
    }
}

impl Tick for Watch {
    fn tick() {
        hypercall::report();
    }
}
