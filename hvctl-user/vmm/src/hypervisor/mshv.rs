// SPDX-License-Identifier: GPL-2.0
//! The hypervisor behind /dev/hvmod or /dev/mshv.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mshv_bindings as hv;
use mshv_ioctls::{InterruptRequest, IoEventAddress, Mshv, MshvError, NoDatamatch, VcpuFd, VmFd};

use vmm_sys_util::eventfd::EventFd;

use super::message;
use super::registers::{
    assoc, assoc64, from_assocs, name, pending_event, pending_interruption, to_assocs, vector_name,
};
use super::{
    CpuState, Event, Events, Exception, Failure, Interrupt, Interrupts, Message, Register, Run,
    Spare, Vp,
};

/// The devices that take partition calls, the preferred one first.
pub const DEVICES: [&str; 2] = ["/dev/hvmod", "/dev/mshv"];

/// No device takes partition calls.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(
        "neither /dev/hvmod nor /dev/mshv exists: hvmod is not loaded. Load it with \
         'insmod hvmod.ko'; 'hvctl check' says whether this machine can run it"
    )]
    Absent,
    #[error("cannot open {}: {cause}{}", path.display(), hint(cause))]
    Refused { path: PathBuf, cause: io::Error },
}

fn hint(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::PermissionDenied => {
            ": its owner and mode say who may. Run hvctl as root, or give it to a group of yours"
        }
        _ => "",
    }
}

/// Opens the first of `paths` that exists and is for this user.
pub fn open_device(paths: &[impl AsRef<Path>]) -> Result<(PathBuf, File), OpenError> {
    let mut refused = None;
    for path in paths {
        let path = path.as_ref();
        match OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_CLOEXEC)
            .open(path)
        {
            Ok(file) => return Ok((path.to_owned(), file)),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
            Err(cause) => {
                let path = path.to_owned();
                refused.get_or_insert(OpenError::Refused { path, cause });
            }
        }
    }
    Err(refused.unwrap_or(OpenError::Absent))
}

fn failed(call: &'static str) -> impl FnOnce(MshvError) -> Failure {
    move |cause| Failure {
        call,
        cause: cause.to_string(),
    }
}

/// Not those by which a guest asks for what its local APIC does with fewer exits.
fn linux_features() -> u64 {
    let mut features = hv::hv_partition_synthetic_processor_features::default();
    // SAFETY: every bit pattern is valid for both members of the union.
    unsafe {
        let bits = &mut features.__bindgen_anon_1;
        bits.set_hypervisor_present(1);
        bits.set_hv1(1);
        bits.set_access_hypercall_regs(1);
        bits.set_access_vp_index(1);
        bits.set_access_partition_reference_counter(1);
        bits.set_access_partition_reference_tsc(1);
        bits.set_access_frequency_regs(1);
        features.as_uint64[0]
    }
}

/// A partition; dropped with the last of its processors, it is destroyed.
#[derive(Debug, Clone)]
pub struct Partition {
    vm: Arc<VmFd>,
}

impl Partition {
    /// Creates an empty partition with local APICs. With `hyper_v` its guest finds what a Linux
    /// makes use of in Hyper-V's interface: a clock, and how fast the processor's clocks are.
    pub fn create(device: File, hyper_v: bool) -> Result<Self, Failure> {
        // SAFETY: the descriptor is a fresh one of ours, and ownership of it moves here.
        let mshv = unsafe { Mshv::new_with_fd_number(device.into_raw_fd()) };
        let arguments = hv::mshv_create_partition_v2 {
            pt_flags: 1 << hv::MSHV_PT_BIT_LAPIC
                | 1 << hv::MSHV_PT_BIT_X2APIC
                | 1 << hv::MSHV_PT_BIT_GPA_SUPER_PAGES,
            pt_isolation: u64::from(hv::MSHV_PT_ISOLATION_NONE),
            ..Default::default()
        };
        let vm = mshv
            .create_vm_with_args(&arguments)
            .map_err(failed("MSHV_CREATE_PARTITION"))?;
        if hyper_v {
            let code = hv::hv_partition_property_code_HV_PARTITION_PROPERTY_SYNTHETIC_PROC_FEATURES;
            vm.set_partition_property(code, linux_features())
                .map_err(failed("HVCALL_SET_PARTITION_PROPERTY (synthetic features)"))?;
        }
        vm.initialize()
            .map_err(failed("MSHV_INITIALIZE_PARTITION"))?;
        Ok(Self { vm: Arc::new(vm) })
    }

    /// Gives the guest `size` bytes of our memory.
    ///
    /// # Safety
    ///
    /// The memory must be ours, mapped for as long as the partition lives, and nothing
    /// may rest on its contents: the guest writes it at any time.
    pub unsafe fn map(&self, gpa: u64, host: *mut u8, size: u64) -> Result<(), Failure> {
        let region = hv::mshv_user_mem_region {
            size,
            guest_pfn: gpa >> 12,
            userspace_addr: host as u64,
            flags: 1 << hv::MSHV_SET_MEM_BIT_WRITABLE | 1 << hv::MSHV_SET_MEM_BIT_EXECUTABLE,
            ..Default::default()
        };
        self.vm
            .map_user_memory(region)
            .map_err(failed("MSHV_SET_GUEST_MEMORY"))
    }

    /// Gives the guest `size` bytes that only it can reach, and that begin as a copy of `image`.
    ///
    /// # Safety
    ///
    /// `size` bytes at `image` are readable.
    pub unsafe fn map_private(&self, gpa: u64, image: *mut u8, size: u64) -> Result<(), Failure> {
        let memory = hvmod_ioctls::PrivateMemory {
            guest_pfn: gpa >> 12,
            size,
            image: image as u64,
            flags: hvmod_ioctls::PRIVATE_WRITABLE | hvmod_ioctls::PRIVATE_EXECUTABLE,
            ..Default::default()
        };
        // SAFETY: the descriptor is the partition's for as long as `self` lives.
        let partition = unsafe { BorrowedFd::borrow_raw(self.vm.as_raw_fd()) };
        // SAFETY: as the caller says.
        unsafe { hvmod_ioctls::set_private_memory(partition, &memory) }.map_err(|cause| Failure {
            call: "HVMOD_SET_PRIVATE_MEMORY",
            cause: match cause.raw_os_error() {
                Some(libc::ENOTTY) => "this hypervisor has no private memory".into(),
                _ => cause.to_string(),
            },
        })
    }

    pub fn create_vp(&self, index: u8) -> Result<MshvVp, Failure> {
        let vcpu = self
            .vm
            .create_vcpu(index)
            .map_err(|cause| match cause.errno() {
                libc::EIO => Failure {
                    call: "MSHV_CREATE_VP",
                    cause: "no partition can run on this machine: 'hvctl check' says why".into(),
                },
                _ => failed("MSHV_CREATE_VP")(cause),
            })?;
        Ok(MshvVp {
            index,
            vcpu,
            _partition: self.clone(),
        })
    }
}

impl Interrupts for Partition {
    fn assert(&self, interrupt: Interrupt) -> Result<(), Failure> {
        let request = InterruptRequest {
            interrupt_type: interrupt.delivery as hv::hv_interrupt_type,
            apic_id: u64::from(interrupt.destination),
            vector: u32::from(interrupt.vector),
            level_triggered: interrupt.level,
            logical_destination_mode: interrupt.logical,
            long_mode: false,
        };
        self.vm
            .request_virtual_interrupt(&request)
            .map_err(failed("HVCALL_ASSERT_VIRTUAL_INTERRUPT"))
    }
}

impl Spare for Partition {
    fn discard(&self, gpa: u64, size: u64) -> Result<bool, Failure> {
        let memory = hvmod_ioctls::DiscardMemory {
            guest_pfn: gpa >> 12,
            size,
            ..Default::default()
        };
        // SAFETY: the descriptor is the partition's for as long as `self` lives.
        let partition = unsafe { BorrowedFd::borrow_raw(self.vm.as_raw_fd()) };
        match hvmod_ioctls::discard_memory(partition, &memory) {
            Ok(()) => Ok(true),
            Err(cause) if cause.raw_os_error() == Some(libc::ENOTTY) => Ok(false),
            Err(cause) => Err(Failure {
                call: "HVMOD_DISCARD_MEMORY",
                cause: cause.to_string(),
            }),
        }
    }
}

impl Events for Partition {
    fn route(&self, messages: &[(u32, Message)]) -> Result<(), Failure> {
        // The table's header and its entries, which follow it.
        const ENTRY: usize =
            size_of::<hv::mshv_user_irq_entry>() / size_of::<hv::mshv_user_irq_table>();
        let mut table = Vec::new();
        table.resize_with(1 + ENTRY * messages.len(), hv::mshv_user_irq_table::default);
        table[0].nr = messages.len() as u32;
        let entries = table[1..].as_mut_ptr().cast::<hv::mshv_user_irq_entry>();
        for (index, &(gsi, message)) in messages.iter().enumerate() {
            let entry = hv::mshv_user_irq_entry {
                gsi,
                address_lo: message.address as u32,
                address_hi: (message.address >> 32) as u32,
                data: message.data,
            };
            // SAFETY: there is room for all of them behind the header, and both types are
            // plain integers of the same alignment.
            unsafe { entries.add(index).write(entry) };
        }
        self.vm
            .set_msi_routing(&table[0])
            .map_err(failed("MSHV_SET_MSI_ROUTING"))
    }

    fn connect(&self, event: &EventFd, number: u32) -> Result<(), Failure> {
        self.vm
            .register_irqfd(event, number)
            .map_err(failed("MSHV_IRQFD"))
    }

    fn disconnect(&self, event: &EventFd, number: u32) -> Result<(), Failure> {
        self.vm
            .unregister_irqfd(event, number)
            .map_err(failed("MSHV_IRQFD"))
    }

    fn add_doorbell(&self, gpa: u64, event: &EventFd) -> Result<(), Failure> {
        self.vm
            .register_ioevent(event, &IoEventAddress::Mmio(gpa), NoDatamatch)
            .map_err(failed("MSHV_IOEVENTFD"))
    }

    fn remove_doorbell(&self, gpa: u64, event: &EventFd) -> Result<(), Failure> {
        self.vm
            .unregister_ioevent(event, &IoEventAddress::Mmio(gpa), NoDatamatch)
            .map_err(failed("MSHV_IOEVENTFD"))
    }
}

/// A virtual processor of a [`Partition`].
#[derive(Debug)]
pub struct MshvVp {
    index: u8,
    vcpu: VcpuFd,
    _partition: Partition,
}

impl Vp for MshvVp {
    fn index(&self) -> u8 {
        self.index
    }

    fn run(&mut self) -> Result<Run, Failure> {
        match self.vcpu.run() {
            Ok(message) => message::decode(&message).map(Run::Exit),
            Err(cause) => match cause.errno() {
                libc::EINTR | libc::EAGAIN => Ok(Run::Interrupted),
                _ => Err(failed("MSHV_RUN_VP")(cause)),
            },
        }
    }

    fn state(&mut self) -> Result<CpuState, Failure> {
        let mut assocs = to_assocs(&CpuState::default());
        self.vcpu
            .get_reg(&mut assocs)
            .map_err(failed("HVCALL_GET_VP_REGISTERS"))?;
        Ok(from_assocs(&assocs))
    }

    fn load(&mut self, state: &CpuState) -> Result<(), Failure> {
        self.vcpu
            .set_reg(&to_assocs(state))
            .map_err(failed("HVCALL_SET_VP_REGISTERS"))
    }

    fn write(&mut self, registers: &[(Register, u64)]) -> Result<(), Failure> {
        let assocs: Vec<_> = registers
            .iter()
            .map(|&(register, value)| assoc64(name(register), value))
            .collect();
        self.vcpu
            .set_reg(&assocs)
            .map_err(failed("HVCALL_SET_VP_REGISTERS"))
    }

    fn raise(&mut self, exception: Exception) -> Result<(), Failure> {
        let value = hv::hv_register_value {
            reg128: pending_event(exception),
        };
        self.vcpu
            .set_reg(&[assoc(
                hv::hv_register_name_HV_REGISTER_PENDING_EVENT0,
                value,
            )])
            .map_err(failed("HVCALL_SET_VP_REGISTERS (pending event)"))
    }

    fn take_event(&mut self) -> Result<Option<Event>, Failure> {
        let name = hv::hv_register_name_HV_REGISTER_PENDING_INTERRUPTION;
        let mut assocs = [assoc64(name, 0)];
        self.vcpu
            .get_reg(&mut assocs)
            .map_err(failed("HVCALL_GET_VP_REGISTERS (pending interruption)"))?;
        // SAFETY: every bit pattern is valid for this member of the union.
        let event = pending_interruption(unsafe { assocs[0].value.reg64 });
        if event.is_some() {
            self.vcpu
                .set_reg(&[assoc64(name, 0)])
                .map_err(failed("HVCALL_SET_VP_REGISTERS (pending interruption)"))?;
        }
        Ok(event)
    }

    fn vector(&mut self, index: usize) -> Result<u128, Failure> {
        let mut assocs = [assoc64(vector_name(index), 0)];
        self.vcpu
            .get_reg(&mut assocs)
            .map_err(failed("HVCALL_GET_VP_REGISTERS (XMM)"))?;
        // SAFETY: every bit pattern is valid for this member of the union.
        let value = unsafe { assocs[0].value.reg128 };
        Ok(u128::from(value.high_part) << 64 | u128::from(value.low_part))
    }

    fn set_vector(&mut self, index: usize, value: u128) -> Result<(), Failure> {
        let reg128 = hv::hv_u128 {
            low_part: value as u64,
            high_part: (value >> 64) as u64,
        };
        self.vcpu
            .set_reg(&[assoc(vector_name(index), hv::hv_register_value { reg128 })])
            .map_err(failed("HVCALL_SET_VP_REGISTERS (XMM)"))
    }

    fn block_nmi(&mut self, blocked: bool) -> Result<(), Failure> {
        const NMI_MASKED: u32 = 1;
        let name = hv::hv_register_name_HV_REGISTER_INTERRUPT_STATE;
        self.vcpu
            .set_reg(&[assoc64(name, u64::from(blocked) << NMI_MASKED)])
            .map_err(failed("HVCALL_SET_VP_REGISTERS (interrupt state)"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_devices_are_explained() {
        let error = open_device(&["/nonexistent/hvmod"]).unwrap_err();
        assert!(error.to_string().contains("insmod hvmod.ko"), "{error}");
    }

    #[test]
    fn the_first_that_can_be_opened_is_taken_and_the_first_that_cannot_is_told() {
        // A directory stands for what this user may not open.
        let (path, _) = open_device(&["/", "/nonexistent/hvmod", "/dev/null"]).unwrap();
        assert_eq!(path, Path::new("/dev/null"));
        let error = open_device(&["/nonexistent/hvmod", "/proc", "/"]).unwrap_err();
        assert!(error.to_string().contains("cannot open /proc:"), "{error}");
    }
}
