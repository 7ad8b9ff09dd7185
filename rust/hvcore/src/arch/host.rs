// SPDX-License-Identifier: GPL-2.0

//! A processor for the host, where hvcore's instructions cannot be executed: what hvcore writes is
//! kept, and what it reads is what was kept, or chosen by who set the processor up. Each thread has
//! one. For tests and fuzzers.

extern crate std;

use core::cell::RefCell;
use std::boxed::Box;
use std::collections::{BTreeMap, BTreeSet};
use std::vec::Vec;

use super::enter::Entered;

/// What a guest does when it is entered: it gets its general registers, the VMCS is current.
pub type Guest = Box<dyn FnMut(&mut [u64; 16]) -> Entered>;

/// Translations that the processor was told to forget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgotten {
    /// All that come from any EPT.
    Ept,
    /// All of every VPID.
    Vpids,
    /// Those of one.
    Vpid(u16),
}

/// Registers and VMCSs.
#[derive(Default)]
pub struct Processor {
    /// By encoding, of each VMCS by its SPA.
    vmcs: BTreeMap<u64, BTreeMap<u32, u64>>,
    /// SPA of the current VMCS.
    current: Option<u64>,
    /// VMCSs that were launched, and not cleared since.
    launched: BTreeSet<u64>,
    msrs: BTreeMap<u32, u64>,
    control: BTreeMap<&'static str, u64>,
    xcr0: u64,
    pkru: u32,
    tsc: u64,
    /// In the order in which it was told, by any LP.
    pub forgotten: Vec<Forgotten>,
    /// CPUID by leaf and subleaf; all zero without it.
    pub cpuid: Option<fn(u32, u32) -> [u32; 4]>,
    /// See [`Guest`].
    pub guest: Option<Guest>,
}

std::thread_local! {
    static PROCESSOR: RefCell<Processor> = RefCell::new(Processor::default());
}

/// Does something with this thread's processor.
pub fn with<T>(work: impl FnOnce(&mut Processor) -> T) -> T {
    PROCESSOR.with(|processor| work(&mut processor.borrow_mut()))
}

/// A new one, just switched on.
pub fn reset() {
    with(|processor| *processor = Processor::default());
}

/// A VM entry.
pub fn enter(registers: &mut [u64; 16], launched: bool) -> Entered {
    let current = with(|p| p.current).expect("a VM entry without a current VMCS");
    if with(|p| p.launched.contains(&current)) != launched {
        return Entered::Failed;
    }
    // Taken out, so that the guest can use the processor.
    let mut guest = with(|p| p.guest.take()).expect("a guest");
    let entered = guest(registers);
    with(|p| {
        p.guest = Some(guest);
        if entered == Entered::Exited {
            p.launched.insert(current);
        }
    });
    entered
}

/// The functions of the module of this name that touches the real processor.
pub mod insn {
    use super::{with, Forgotten};
    use core::ops::AddAssign;

    pub fn cpuid(leaf: u32, subleaf: u32) -> [u32; 4] {
        with(|p| p.cpuid).map_or([0; 4], |cpuid| cpuid(leaf, subleaf))
    }

    pub fn rdmsr(index: u32) -> u64 {
        with(|p| p.msrs.get(&index).copied().unwrap_or(0))
    }

    pub fn wrmsr(index: u32, value: u64) {
        with(|p| p.msrs.insert(index, value));
    }

    pub fn wrmsr_checked(index: u32, value: u64) -> bool {
        wrmsr(index, value);
        true
    }

    /// Time goes on by a little each time somebody looks.
    pub fn rdtsc() -> u64 {
        with(|p| {
            p.tsc.add_assign(100);
            p.tsc
        })
    }

    macro_rules! control_register {
        ($($read:ident, $write:ident, $name:literal;)*) => { $(
            pub fn $read() -> u64 {
                with(|p| p.control.get($name).copied().unwrap_or(0))
            }

            pub fn $write(value: u64) {
                with(|p| p.control.insert($name, value));
            }
        )* };
    }

    control_register! {
        read_cr0, write_cr0, "cr0";
        read_cr2, write_cr2, "cr2";
        read_cr4, write_cr4, "cr4";
        read_dr0, write_dr0, "dr0";
        read_dr1, write_dr1, "dr1";
        read_dr2, write_dr2, "dr2";
        read_dr3, write_dr3, "dr3";
        read_dr6, write_dr6, "dr6";
        read_dr7, write_dr7, "dr7";
    }

    pub fn read_rsp() -> u64 {
        hvabi::boot::STACKS_BASE
    }

    pub fn read_rbp() -> u64 {
        0
    }

    pub fn xgetbv() -> u64 {
        with(|p| p.xcr0)
    }

    pub fn xsetbv(value: u64) {
        with(|p| p.xcr0 = value);
    }

    pub fn rdpkru() -> u32 {
        with(|p| p.pkru)
    }

    pub fn wrpkru(value: u32) {
        with(|p| p.pkru = value);
    }

    pub fn wbinvd() {}

    pub fn halt() {
        panic!("this LP stops for good");
    }

    /// The VM-instruction error is in the VMCS, or there is no VMCS.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct VmxFailed;

    pub fn vmxon(_spa: u64) -> Result<(), VmxFailed> {
        Ok(())
    }

    pub fn vmclear(spa: u64) -> Result<(), VmxFailed> {
        with(|p| {
            p.current = p.current.filter(|current| *current != spa);
            p.launched.remove(&spa);
        });
        Ok(())
    }

    pub fn vmptrld(spa: u64) -> Result<(), VmxFailed> {
        with(|p| p.current = Some(spa));
        Ok(())
    }

    /// A field that was never written is 0.
    pub fn vmread(encoding: u32) -> u64 {
        with(|p| {
            let current = p.current.expect("VMREAD without a current VMCS");
            p.vmcs.entry(current).or_default().get(&encoding).copied().unwrap_or(0)
        })
    }

    pub fn vmwrite(encoding: u32, value: u64) {
        with(|p| {
            let current = p.current.expect("VMWRITE without a current VMCS");
            p.vmcs.entry(current).or_default().insert(encoding, value);
        });
    }

    pub fn vmptrst() -> u64 {
        with(|p| p.current.unwrap_or(u64::MAX))
    }

    pub fn vmxoff() {}

    pub fn invept_all() {
        with(|p| p.forgotten.push(Forgotten::Ept));
    }

    pub fn invvpid_all() {
        with(|p| p.forgotten.push(Forgotten::Vpids));
    }

    pub fn invvpid_one(vpid: u16) {
        with(|p| p.forgotten.push(Forgotten::Vpid(vpid)));
    }

    pub fn reset() -> ! {
        panic!("the machine is reset");
    }
}
