// SPDX-License-Identifier: GPL-2.0
//! MSI-X (PCI Local Bus 3.0, section 6.8.2): the table, and which event of the device is
//! which interrupt of the guest.
//!
//! A device signals a [`Line`], an eventfd. While the vector that the line has is not
//! masked, the line is connected to the hypervisor and signalling it is all there is to do.
//! While it is masked the line is disconnected and the eventfd keeps what is pending: that
//! is the pending bit, and connecting it again delivers it.

use std::sync::Arc;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::routes::Routes;
use crate::device::bytes;
use crate::hypervisor::Message;

pub const CAPABILITY: u8 = 0x11;
/// Bits of the message control word.
pub const CONTROL_ENABLE: u16 = 1 << 15;
pub const CONTROL_MASK: u16 = 1 << 14;

pub const ENTRY_SIZE: u64 = 16;
const MASKED: u32 = 1;

/// What a virtio driver says when an event is to be no interrupt.
pub const NO_VECTOR: u16 = 0xffff;

#[derive(Clone, Copy)]
struct Entry {
    address: u64,
    data: u32,
    control: u32,
}

impl Entry {
    fn bytes(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.address.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.data.to_le_bytes());
        bytes[12..].copy_from_slice(&self.control.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: [u8; 16]) -> Self {
        Self {
            address: bytes::u64(&bytes[..8]) & !3,
            data: bytes::u32(&bytes[8..12]),
            control: bytes::u32(&bytes[12..]) & MASKED,
        }
    }

    /// Where local APICs take messages (SDM volume 3, section 11.11.1).
    fn reaches_an_apic(&self) -> bool {
        self.address >> 20 == 0xfee
    }
}

/// An event of the device that can be an interrupt.
struct Line {
    event: Arc<EventFd>,
    vector: u16,
    /// The message that it is connected as.
    connected: Option<Message>,
}

pub struct Msix {
    routes: Arc<Routes>,
    /// The interrupt number of line 0; the others follow.
    first: u32,
    entries: Vec<Entry>,
    lines: Vec<Line>,
    control: u16,
}

impl Msix {
    /// With as many vectors as lines.
    pub fn new(routes: Arc<Routes>, lines: u16) -> std::io::Result<Self> {
        let entry = Entry {
            address: 0,
            data: 0,
            control: MASKED,
        };
        let line = || {
            Ok(Line {
                event: Arc::new(EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)?),
                vector: NO_VECTOR,
                connected: None,
            })
        };
        Ok(Self {
            first: routes.reserve(lines),
            routes,
            entries: vec![entry; lines.into()],
            lines: (0..lines).map(|_| line()).collect::<std::io::Result<_>>()?,
            control: 0,
        })
    }

    /// The message control word, but for what the guest writes into it.
    pub fn control_word(&self) -> u16 {
        self.entries.len() as u16 - 1
    }

    pub fn line(&self, index: usize) -> Arc<EventFd> {
        self.lines[index].event.clone()
    }

    pub fn vector(&self, line: usize) -> u16 {
        self.lines[line].vector
    }

    /// Gives a line a vector; one that does not exist is none.
    pub fn set_vector(&mut self, line: usize, vector: u16) {
        let exists = usize::from(vector) < self.entries.len();
        self.lines[line].vector = if exists { vector } else { NO_VECTOR };
        self.update();
    }

    /// The guest wrote the message control word.
    pub fn set_control(&mut self, control: u16) {
        self.control = control & (CONTROL_ENABLE | CONTROL_MASK);
        self.update();
    }

    /// All lines without a vector, as after a reset of the device.
    pub fn forget_vectors(&mut self) {
        for line in &mut self.lines {
            line.vector = NO_VECTOR;
        }
        self.update();
        for line in &self.lines {
            // What nobody took is not for the next driver.
            let _ = line.event.read();
        }
    }

    pub fn read_table(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if let Some(entry) = self.entries.get((offset / ENTRY_SIZE) as usize) {
            bytes::read(&entry.bytes(), offset % ENTRY_SIZE, data);
        }
    }

    pub fn write_table(&mut self, offset: u64, data: &[u8]) {
        let Some(entry) = self.entries.get_mut((offset / ENTRY_SIZE) as usize) else {
            return;
        };
        let mut bytes = entry.bytes();
        bytes::write(&mut bytes, offset % ENTRY_SIZE, data);
        *entry = Entry::from_bytes(bytes);
        self.update();
    }

    pub fn read_pending(&self, offset: u64, data: &mut [u8]) {
        let mut pending = vec![0; self.entries.len().div_ceil(64) * 8];
        for line in &self.lines {
            let vector = usize::from(line.vector);
            if vector < self.entries.len() && line.connected.is_none() && is_signalled(&line.event)
            {
                pending[vector / 8] |= 1 << (vector % 8);
            }
        }
        data.fill(0);
        bytes::read(&pending, offset, data);
    }

    /// What a line is to be connected as now.
    fn wanted(&self, line: &Line) -> Option<Message> {
        let entry = self.entries.get(usize::from(line.vector))?;
        let on = self.control & (CONTROL_ENABLE | CONTROL_MASK) == CONTROL_ENABLE;
        (on && entry.control & MASKED == 0 && entry.reaches_an_apic()).then_some(Message {
            address: entry.address,
            data: entry.data,
        })
    }

    /// Connects and disconnects lines after a change.
    fn update(&mut self) {
        for index in 0..self.lines.len() {
            let number = self.first + index as u32;
            let line = &self.lines[index];
            let wanted = self.wanted(line);
            if wanted == line.connected {
                continue;
            }
            let result = match (line.connected, wanted) {
                (_, None) => self.routes.disconnect(&line.event, number),
                (Some(_), Some(message)) => self.routes.set(number, message),
                (None, Some(message)) => self
                    .routes
                    .set(number, message)
                    .and_then(|()| self.routes.connect(&line.event, number)),
            };
            match result {
                Ok(()) => self.lines[index].connected = wanted,
                Err(cause) => self.routes.complain(number, &cause),
            }
        }
    }
}

fn is_signalled(event: &EventFd) -> bool {
    let mut fds = [PollFd::new(bytes::borrow(event), PollFlags::POLLIN)];
    matches!(poll(&mut fds, PollTimeout::ZERO), Ok(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::virtio::bench::Recorder;

    fn msix() -> (Msix, Arc<Recorder>) {
        let recorder = Arc::new(Recorder::default());
        (
            Msix::new(Routes::new(recorder.clone()), 2).unwrap(),
            recorder,
        )
    }

    fn entry(data: u32, control: u32) -> [u8; 16] {
        Entry {
            address: 0xfee0_1000,
            data,
            control,
        }
        .bytes()
    }

    #[test]
    fn a_line_is_connected_while_nothing_masks_it() {
        let (mut msix, recorder) = msix();
        msix.set_vector(0, 1);
        msix.write_table(16, &entry(0x31, 0));
        assert!(recorder.connected().is_empty(), "not before MSI-X is on");
        msix.set_control(CONTROL_ENABLE);
        let message = Message {
            address: 0xfee0_1000,
            data: 0x31,
        };
        assert_eq!(recorder.connected(), [(0, message)]);
        msix.set_control(CONTROL_ENABLE | CONTROL_MASK);
        assert!(recorder.connected().is_empty());
        msix.set_control(CONTROL_ENABLE);
        msix.write_table(16 + 12, &1u32.to_le_bytes());
        assert!(recorder.connected().is_empty());
    }

    #[test]
    fn what_comes_while_masked_is_pending_and_is_not_lost() {
        let (mut msix, _) = msix();
        msix.set_control(CONTROL_ENABLE);
        msix.set_vector(1, 1);
        msix.write_table(16, &entry(0x31, 1));
        let pending = |msix: &Msix| {
            let mut data = [0; 8];
            msix.read_pending(0, &mut data);
            u64::from_le_bytes(data)
        };
        assert_eq!(pending(&msix), 0);
        msix.line(1).write(1).unwrap();
        assert_eq!(pending(&msix), 2);
        msix.write_table(16 + 12, &0u32.to_le_bytes());
        assert_eq!(pending(&msix), 0);
        assert!(is_signalled(&msix.line(1)), "left for who connects it");
    }

    #[test]
    fn a_message_that_goes_elsewhere_is_none() {
        let (mut msix, recorder) = msix();
        msix.set_control(CONTROL_ENABLE);
        msix.set_vector(0, 0);
        let mut bytes = entry(0x31, 0);
        bytes[4] = 1;
        msix.write_table(0, &bytes);
        assert!(recorder.connected().is_empty());
        msix.set_vector(0, 2);
        assert_eq!(msix.vector(0), NO_VECTOR);
    }

    #[test]
    fn two_lines_can_have_one_vector() {
        let (mut msix, recorder) = msix();
        msix.set_control(CONTROL_ENABLE);
        msix.write_table(0, &entry(0x41, 0));
        msix.set_vector(0, 0);
        msix.set_vector(1, 0);
        assert_eq!(recorder.connected().len(), 2);
        msix.forget_vectors();
        assert!(recorder.connected().is_empty());
    }
}
