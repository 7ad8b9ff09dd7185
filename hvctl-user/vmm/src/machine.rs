// SPDX-License-Identifier: GPL-2.0
//! The machine: its devices, where they are, and how intercepts reach them.

use std::io::Write;
use std::sync::Arc;

use vm_memory::GuestMemory as _;
use vmm_sys_util::eventfd::EventFd;

use crate::device::exit_port::ExitPort;
use crate::device::fw_cfg::{self, FwCfg};
use crate::device::ioapic::{Ioapic, Pin};
use crate::device::pci::{self, AddressPort, DataPort, Window};
use crate::device::power::{AcpiPower, KeyboardReset, ResetControl};
use crate::device::rtc::Rtc;
use crate::device::serial::Serial;
use crate::device::testing::{LATCH_SIZE, Latch, Lines};
use crate::device::{Bus, Device};
use crate::emulate::{self, Access, Attempt, Source, Space, Stop, TaskSwitch};
use crate::hypervisor::{
    CpuState, EventKind, Exit, Failure, Gpr, Interrupts, MemoryAccess, PortAccess, Register, Run,
    Vp,
};
use crate::layout::{self, irq, port};
use crate::memory::GuestMemory;
use crate::outcome::{Ending, Outcome};
use crate::quota::Quota;

/// The far end of COM1.
pub struct Console {
    pub out: Box<dyn Write + Send>,
    /// Signalled when the guest has taken all its input.
    pub drained: EventFd,
}

pub struct Machine {
    ports: Bus,
    mmio: Bus,
    ioapic: Arc<Ioapic>,
    serial: Arc<Serial>,
    power_button: Pin,
    ending: Arc<Ending>,
    stray: Quota,
    memory: GuestMemory,
}

impl Machine {
    /// `for_tests`: with the exit port, and what else test kernels look for.
    pub fn new(
        memory: GuestMemory,
        interrupts: Arc<dyn Interrupts>,
        console: Console,
        pci: pci::Bus,
        for_tests: Option<FwCfg>,
        ending: Arc<Ending>,
    ) -> Self {
        let ioapic = Ioapic::new(interrupts);
        let com1 = Pin::new(ioapic.clone(), irq::COM1);
        let serial = Serial::new(com1, console.drained, console.out, ending.clone());

        let pci = Arc::new(pci);

        let mut ports = Bus::default();
        let mut add = |start: u16, size: u64, device: Arc<dyn Device>| {
            ports.add(u64::from(start), size, device);
        };
        add(port::COM1, 8, serial.clone());
        add(port::RTC, 2, Arc::new(Rtc::new()));
        add(
            port::KEYBOARD_COMMAND,
            1,
            Arc::new(KeyboardReset::new(ending.clone())),
        );
        add(
            port::SLEEP_CONTROL,
            3,
            Arc::new(AcpiPower::new(ending.clone())),
        );
        add(
            port::RESET_CONTROL,
            1,
            Arc::new(ResetControl::new(ending.clone())),
        );
        add(port::PCI_ADDRESS, 1, Arc::new(AddressPort(pci.clone())));
        add(port::PCI_DATA, 4, Arc::new(DataPort(pci.clone())));
        if let Some(fw_cfg) = for_tests {
            add(port::EXIT, 4, Arc::new(ExitPort::new(ending.clone())));
            add(port::FW_CFG, fw_cfg::SIZE, Arc::new(fw_cfg));
            for latch in port::TEST_LATCHES {
                add(latch, LATCH_SIZE, Arc::new(Latch::default()));
            }
            add(
                port::TEST_LINES,
                Lines::COUNT,
                Arc::new(Lines::new(&ioapic)),
            );
        }
        let mut mmio = Bus::default();
        mmio.add(layout::IOAPIC, 0x1000, ioapic.clone());
        mmio.add(layout::PCI, layout::PCI_SIZE, Arc::new(Window(pci)));
        Self {
            ports,
            mmio,
            power_button: Pin::new(ioapic.clone(), irq::POWER_BUTTON),
            ioapic,
            serial,
            ending,
            stray: Quota::default(),
            memory,
        }
    }

    pub fn serial(&self) -> &Serial {
        &self.serial
    }

    /// Asks the guest to turn itself off.
    pub fn press_power_button(&self) -> Result<(), Failure> {
        self.power_button.pulse()
    }

    pub fn ending(&self) -> &Ending {
        &self.ending
    }

    /// Runs a processor until the run ends.
    pub fn run(&self, vp: &mut dyn Vp) {
        while self.ending.outcome().is_none() {
            let served = match vp.run() {
                Ok(Run::Exit(exit)) => self.serve(vp, exit),
                Ok(Run::Interrupted) => Ok(()),
                Err(failure) => Err(failure),
            };
            if let Err(failure) = served {
                let which = vp.index();
                self.ending
                    .end(Outcome::Hypervisor(format!("processor {which}: {failure}")));
            }
        }
        // For who wonders where a guest hung.
        if tracing::enabled!(tracing::Level::DEBUG) {
            let which = vp.index();
            match vp.state() {
                Ok(state) => tracing::debug!("processor {which} at the end of the run:\n{state}"),
                Err(failure) => tracing::debug!("processor {which}'s registers: {failure}"),
            }
        }
    }

    /// Serves one intercept.
    pub fn serve(&self, vp: &mut dyn Vp, exit: Exit) -> Result<(), Failure> {
        match exit {
            Exit::Port(access) if access.string => {
                self.emulate(vp, access.instruction.as_slice(), None, || {
                    let what = if access.write { "OUTS to" } else { "INS from" };
                    format!("{what} port {:#x}", access.port)
                })
            }
            Exit::Port(access) => self.port(vp, &access),
            Exit::Memory(access) => self.memory(vp, &access),
            Exit::TaskSwitch(task) => self.task_switch(vp, task),
            Exit::Eoi { vector } => self.ioapic.end_of_interrupt(vector),
            Exit::Halt => Ok(()),
            Exit::Unrecoverable => self.crash(vp, "the guest triple-faulted"),
            Exit::InvalidRegisters => self.crash(vp, "the guest's registers became impossible"),
            Exit::Unexpected { message_type } => Err(Failure {
                call: "MSHV_RUN_VP",
                cause: format!("unexpected message {message_type:#x}"),
            }),
        }
    }

    /// IN or OUT: all that is needed came with the intercept.
    fn port(&self, vp: &mut dyn Vp, access: &PortAccess) -> Result<(), Failure> {
        let size = usize::from(access.size);
        let rip = (
            Register::Rip,
            access
                .rip
                .wrapping_add(u64::from(access.instruction_length)),
        );
        if !matches!(size, 1 | 2 | 4) {
            let cause = format!("a port access of {size} bytes");
            return Err(Failure {
                call: "MSHV_RUN_VP",
                cause,
            });
        }
        if access.write {
            self.port_out(access.port, &access.rax.to_le_bytes()[..size]);
            return vp.write(&[rip]);
        }
        let mut data = [0; 4];
        self.port_in(access.port, &mut data[..size]);
        let value = u64::from(u32::from_le_bytes(data));
        let rax = match size {
            1 => access.rax & !0xff | value,
            2 => access.rax & !0xffff | value,
            _ => value,
        };
        vp.write(&[(Register::Gpr(Gpr::Rax), rax), rip])
    }

    fn memory(&self, vp: &mut dyn Vp, access: &MemoryAccess) -> Result<(), Failure> {
        if access.by_event {
            let what = "the guest's descriptor tables or stack are where no memory is";
            return self.crash(vp, &format!("{what} (guest-physical {:#x})", access.gpa));
        }
        if access.gpa == layout::FIRST_INSTRUCTION {
            let state = vp.state()?;
            if state.cs.base.wrapping_add(state.rip) == access.gpa {
                self.ending.end(Outcome::Reset);
                return Ok(());
            }
        }
        let attempt = access.linear.map(|linear| Attempt {
            linear,
            gpa: access.gpa,
            write: access.write,
        });
        self.emulate(vp, access.instruction.as_slice(), attempt, || {
            let what = if access.write { "write to" } else { "read of" };
            format!("{what} guest-physical {:#x}", access.gpa)
        })
    }

    fn task_switch(&self, vp: &mut dyn Vp, task: TaskSwitch) -> Result<(), Failure> {
        if self.is_private() {
            self.ending.end(Outcome::Unsupported(format!(
                "cannot switch tasks: {}",
                Stop::Private
            )));
            return Ok(());
        }
        let mut cpu = vp.state()?;
        let event = vp.take_event()?;
        let result = emulate::switch(&mut cpu, &mut self.reach(vp, None), task, event);
        vp.load(&cpu)?;
        let nmi = event.is_some_and(|event| event.kind == EventKind::Nmi);
        if nmi || task.source == Source::Return {
            vp.block_nmi(nmi)?;
        }
        match result {
            Ok(()) => Ok(()),
            Err(exception) => vp.raise(exception),
        }
    }

    /// Carries out the instruction at RIP.
    fn emulate(
        &self,
        vp: &mut dyn Vp,
        bytes: &[u8],
        attempt: Option<Attempt>,
        why: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        let before = vp.state()?;
        let mut cpu = before;
        let result = emulate::step(&mut cpu, &mut self.reach(vp, attempt), bytes);
        let changes = cpu.changes_since(&before);
        if !changes.is_empty() {
            vp.write(&changes)?;
        }
        match result {
            Ok(()) => Ok(()),
            Err(Stop::Fault(exception)) => vp.raise(exception),
            Err(stop @ Stop::Private) => {
                let why = why();
                self.ending.end(Outcome::Unsupported(format!(
                    "cannot emulate a {why}: {stop}"
                )));
                Ok(())
            }
            Err(stop @ Stop::Unknown { .. }) => {
                let (what, which) = (why(), vp.index());
                self.ending.end(Outcome::Unsupported(format!(
                    "{stop} for a {what} on processor {which}"
                )));
                Ok(())
            }
        }
    }

    /// Whether all of the guest's memory is its own alone.
    fn is_private(&self) -> bool {
        self.memory.num_regions() == 0
    }

    fn reach<'a>(&'a self, vp: &'a mut dyn Vp, attempt: Option<Attempt>) -> Reach<'a> {
        Reach {
            machine: self,
            vp,
            attempt,
        }
    }

    fn crash(&self, vp: &mut dyn Vp, what: &str) -> Result<(), Failure> {
        let what = format!("{what} on processor {}", vp.index());
        let message = match vp.state() {
            Ok(state) => format!("{what}\n{state}"),
            Err(failure) => format!("{what} (and its registers cannot be read: {failure})"),
        };
        self.ending.end(Outcome::Crash(message));
        Ok(())
    }

    fn port_in(&self, port: u16, data: &mut [u8]) {
        if !self.ports.read(u64::from(port), data) {
            tracing::debug!("read of port {port:#x}, where nothing is");
        }
    }

    fn port_out(&self, port: u16, data: &[u8]) {
        if !self.ports.write(u64::from(port), data) {
            tracing::debug!("write of {data:02x?} to port {port:#x}, where nothing is");
        }
    }
}

fn report(failure: &Failure) {
    tracing::error!("{failure}");
}

/// The machine as an instruction reaches it.
struct Reach<'a> {
    machine: &'a Machine,
    vp: &'a mut dyn Vp,
    /// What the instruction was stopped at.
    attempt: Option<Attempt>,
}

impl Space for Reach<'_> {
    fn memory(&self) -> &GuestMemory {
        &self.machine.memory
    }

    /// As the processor translated it, else by the guest's page tables.
    fn translate(&self, cpu: &CpuState, linear: u64, access: Access) -> Result<u64, Stop> {
        match self.attempt.and_then(|it| it.translate(linear, access)) {
            Some(gpa) => Ok(gpa),
            None if self.machine.is_private() => Err(Stop::Private),
            None => {
                emulate::translate(&self.machine.memory, cpu, linear, access).map_err(Stop::Fault)
            }
        }
    }

    fn vector(&mut self, index: usize) -> Option<u128> {
        self.vp.vector(index).inspect_err(report).ok()
    }

    fn set_vector(&mut self, index: usize, value: u128) -> Option<()> {
        self.vp.set_vector(index, value).inspect_err(report).ok()
    }

    fn mmio_read(&mut self, gpa: u64, data: &mut [u8]) {
        if !self.machine.mmio.read(gpa, data) && self.machine.stray.take() {
            tracing::warn!("read of guest-physical {gpa:#x}, where nothing is");
        }
    }

    fn mmio_write(&mut self, gpa: u64, data: &[u8]) {
        if !self.machine.mmio.write(gpa, data) && self.machine.stray.take() {
            tracing::warn!("write of {data:02x?} to guest-physical {gpa:#x}, where nothing is");
        }
    }

    fn port_read(&mut self, port: u16, data: &mut [u8]) {
        self.machine.port_in(port, data);
    }

    fn port_write(&mut self, port: u16, data: &[u8]) {
        self.machine.port_out(port, data);
    }
}

#[cfg(test)]
mod tests;
