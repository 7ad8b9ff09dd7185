// SPDX-License-Identifier: GPL-2.0
//! The port that ends the run with a status of the guest's choice.

use std::sync::Arc;

use super::Device;
use crate::outcome::{Ending, Outcome};

pub struct ExitPort {
    ending: Arc<Ending>,
}

impl ExitPort {
    pub fn new(ending: Arc<Ending>) -> Self {
        Self { ending }
    }
}

impl Device for ExitPort {
    fn read(&self, _: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn write(&self, _: u64, data: &[u8]) {
        let mut value = [0; 4];
        let size = data.len().min(4);
        value[..size].copy_from_slice(&data[..size]);
        self.ending
            .end(Outcome::ExitPort(u32::from_le_bytes(value)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_is_the_outcome() {
        for (data, value) in [
            (&[3u8, 0, 0, 0][..], 3),
            (&[7][..], 7),
            (&[0, 1][..], 0x100),
        ] {
            let ending = Arc::new(Ending::new().unwrap());
            ExitPort::new(ending.clone()).write(0, data);
            assert_eq!(ending.outcome(), Some(&Outcome::ExitPort(value)));
        }
    }
}
