// SPDX-License-Identifier: GPL-2.0

//! Physical memory: addresses, pages that hvcore owns, EPT, and who owns what.
//!
//! | module | its noun |
//! |---|---|
//! | [`addr`] | addresses and ranges that were checked |
//! | [`frame`] | a page of hvcore, and tables in it; the only `unsafe` here |
//! | [`pool`] | free pages |
//! | [`mtrr`] | memory type of a physical range |
//! | [`ept`] | an address space of a partition |
//! | [`owner`] | the owner of each page |
//! | [`space`] | who sees what |

pub mod addr;
pub mod ept;
pub mod frame;
pub mod mtrr;
pub mod owner;
pub mod pool;
pub mod space;

#[cfg(not(hvcore_image))]
pub mod ept_model;
#[cfg(not(hvcore_image))]
pub mod world;

#[cfg(test)]
mod ept_tests;
#[cfg(test)]
mod owner_tests;
#[cfg(test)]
mod space_tests;

/// Random numbers for tests: deterministic, so that a failure can be repeated.
#[cfg(test)]
pub(crate) mod rng {
    pub struct Rng(u64);

    impl Rng {
        pub fn new(seed: u64) -> Rng {
            Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
        }

        pub fn next(&mut self) -> u64 {
            // xorshift64*
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
        }

        pub fn below(&mut self, n: u64) -> u64 {
            (self.next() >> 16) % n
        }
    }
}
