// SPDX-License-Identifier: GPL-2.0
//! The table of interrupt messages, which all functions share.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use vmm_sys_util::eventfd::EventFd;

use crate::hypervisor::{Events, Failure, Message};
use crate::quota::Quota;

struct State {
    messages: BTreeMap<u32, Message>,
    next: u32,
}

/// Who has which interrupt numbers, and which messages they stand for.
pub struct Routes {
    events: Arc<dyn Events>,
    state: Mutex<State>,
    quota: Quota,
}

impl Routes {
    pub fn new(events: Arc<dyn Events>) -> Arc<Self> {
        let state = State {
            messages: BTreeMap::new(),
            next: 0,
        };
        Arc::new(Self {
            events,
            state: Mutex::new(state),
            quota: Quota::default(),
        })
    }

    /// Numbers for nobody else; returns the first.
    pub fn reserve(&self, count: u16) -> u32 {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let first = state.next;
        state.next += u32::from(count);
        first
    }

    /// Makes a number stand for a message.
    pub fn set(&self, number: u32, message: Message) -> Result<(), Failure> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.messages.insert(number, message) == Some(message) {
            return Ok(());
        }
        let table: Vec<_> = state
            .messages
            .iter()
            .map(|(number, message)| (*number, *message))
            .collect();
        let routed = self.events.route(&table);
        if routed.is_err() {
            state.messages.remove(&number);
        }
        routed
    }

    /// Says that a number could not be served, but not as often as a guest can cause it.
    pub fn complain(&self, number: u32, cause: &Failure) {
        if self.quota.take() {
            tracing::warn!("interrupt {number} of a device: {cause}");
        }
    }

    pub fn connect(&self, event: &EventFd, number: u32) -> Result<(), Failure> {
        self.events.connect(event, number)
    }

    pub fn disconnect(&self, event: &EventFd, number: u32) -> Result<(), Failure> {
        self.events.disconnect(event, number)
    }

    pub fn events(&self) -> &dyn Events {
        &*self.events
    }
}
