// SPDX-License-Identifier: GPL-2.0

//! The local APIC of a VP (SDM vol. 3, 12), as a state machine.
//!
//! Its registers are kept in a page with the layout of the virtual-APIC page (31.1.1), which the
//! processor can read by itself where it virtualizes APIC registers. Time comes from outside: `now`
//! is the TSC of the machine. Interrupts from other LPs come through [`posted`].

pub mod posted;
pub mod regs;
mod timer;

#[cfg(test)]
mod posted_tests;
#[cfg(test)]
mod tests;

use crate::mem::addr::Spa;
use crate::mem::frame::{Frame, PageBox};
use crate::policy::cpuid::Clock;
use crate::policy::Gp;
use hvabi::APIC_GPA;
use posted::Address;
use regs::offset::*;
pub use regs::*;
use timer::Timer;

/// The registers, in 32-bit words.
pub type Registers = [u32; 1024];

/// A local APIC.
#[derive(Debug)]
pub struct Apic {
    page: PageBox<Registers>,
    id: u32,
    /// IA32_APIC_BASE.
    base: u64,
    /// SVR's enable bit. Kept apart, as is the timer's LVT register: the processor may have
    /// overwritten them in the page before [`Apic::written`] is called.
    enabled: bool,
    /// Errors since the last write to ESR.
    errors: u32,
    timer: Timer,
}

impl Apic {
    /// After RESET.
    pub fn new(frame: Frame, id: u32, bsp: bool, clock: Clock) -> Apic {
        let base = APIC_GPA | BASE_ENABLE | if bsp { BASE_BSP } else { 0 };
        let page = PageBox::zeroed(frame);
        let timer = Timer::new(clock);
        let mut apic = Apic { page, id, base, enabled: false, errors: 0, timer };
        apic.init();
        apic
    }

    pub fn into_frame(self) -> Frame {
        self.page.into_frame()
    }

    /// For the virtual-APIC address in the VMCS.
    pub fn page_spa(&self) -> Spa {
        self.page.spa()
    }

    /// INIT: the registers as after power-up; ID and IA32_APIC_BASE stay (12.4.7.3).
    pub fn init(&mut self) {
        self.page.fill(0);
        self.enabled = false;
        self.errors = 0;
        self.timer.reset();
        self.put(VERSION, VERSION_VALUE);
        self.put(DFR, u32::MAX);
        self.put(SVR, 0xff);
        for lvt in (LVT_TIMER..=LVT_ERROR).step_by(16) {
            self.put(lvt, LVT_MASKED);
        }
        self.set_identity();
    }

    /// ID, and in x2APIC mode the logical ID that follows from it (12.12.10.2).
    fn set_identity(&mut self) {
        if self.x2apic() {
            self.put(ID, self.id);
            self.put(LDR, (self.id >> 4) << 16 | 1 << (self.id & 15));
        } else {
            self.put(ID, self.id << 24);
        }
    }

    fn get(&self, offset: u16) -> u32 {
        self.page[usize::from(offset) / 4 % 1024]
    }

    fn put(&mut self, offset: u16, value: u32) {
        self.page[usize::from(offset) / 4 % 1024] = value;
    }

    /// The APIC is there: IA32_APIC_BASE.EN.
    pub fn present(&self) -> bool {
        self.base & BASE_ENABLE != 0
    }

    pub fn x2apic(&self) -> bool {
        self.base & BASE_EXTD != 0
    }

    /// IA32_APIC_BASE.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Where the registers are in xAPIC mode.
    pub fn page_gpa(&self) -> u64 {
        self.base & 0x000f_ffff_ffff_f000
    }

    /// The registers are in memory: xAPIC mode.
    pub fn in_memory(&self) -> bool {
        self.present() && !self.x2apic()
    }

    /// WRMSR of IA32_APIC_BASE (12.12.5). The BSP bit stays as it is.
    pub fn write_base(&mut self, value: u64, phys_bits: u32) -> Result<(), Gp> {
        let reserved = 0x2ff | !((1 << phys_bits.clamp(32, 52)) - 1);
        let mode = |base: u64| (base & BASE_ENABLE != 0, base & BASE_EXTD != 0);
        let allowed = match (mode(self.base), mode(value)) {
            (_, (false, true)) => false,
            // x2APIC mode is reached from xAPIC mode only, and left to "disabled" only.
            ((false, _), (true, true)) | ((true, true), (true, false)) => false,
            _ => true,
        };
        if value & reserved != 0 || !allowed {
            return Err(Gp);
        }
        let old = self.base;
        self.base = value & !BASE_BSP | old & BASE_BSP;
        match (mode(old), mode(self.base)) {
            // What it held is lost.
            ((true, _), (false, _)) => self.init(),
            ((_, false), (_, true)) => {
                self.put(ICR_HIGH, 0);
                self.set_identity();
            }
            _ => {}
        }
        Ok(())
    }

    /// Reads a register as by memory access in xAPIC mode.
    pub fn read(&mut self, offset: u16, now: u64) -> u32 {
        match offset {
            CURRENT_COUNT => self.timer.current(self.get(INITIAL_COUNT), now),
            PPR => self.ppr().into(),
            EOI | SELF_IPI => 0,
            _ if readable(offset) => self.get(offset),
            _ => {
                self.error(ESR_REGISTER);
                0
            }
        }
    }

    /// Writes a register as by memory access in xAPIC mode.
    pub fn write(&mut self, offset: u16, value: u32, now: u64) -> Effect {
        match offset {
            ID => self.put(ID, self.id << 24),
            TPR => self.set_tpr(value as u8),
            EOI => return self.eoi(),
            LDR => self.put(LDR, value & 0xff00_0000),
            DFR => self.put(DFR, value | 0x0fff_ffff),
            SVR => self.write_svr(value),
            ESR => {
                let errors = core::mem::take(&mut self.errors);
                self.put(ESR, errors);
            }
            ICR => return self.write_icr(value, self.get(ICR_HIGH) >> 24),
            ICR_HIGH => self.put(ICR_HIGH, value & 0xff00_0000),
            LVT_TIMER..=LVT_ERROR if offset & 15 == 0 => {
                if offset == LVT_TIMER {
                    // What was due before belongs to the old vector, or is masked.
                    self.expire(now);
                }
                let masked = if self.enabled { 0 } else { LVT_MASKED };
                let value = value & lvt_bits(offset) | masked;
                self.put(offset, value);
                if offset == LVT_TIMER {
                    self.timer.set_lvt(value);
                    return Effect::Timer;
                }
            }
            INITIAL_COUNT => {
                let count = if self.timer.counts() { value } else { 0 };
                self.put(INITIAL_COUNT, count);
                self.timer.start(count, now);
                return Effect::Timer;
            }
            DIVIDE => {
                // What was due stays due, whatever the pace from now on.
                self.expire(now);
                self.put(DIVIDE, value & 0xb);
                self.timer.set_divide(value, self.get(INITIAL_COUNT), now);
                return Effect::Timer;
            }
            VERSION | PPR | CURRENT_COUNT => {}
            _ if readable(offset) => {}
            _ => self.error(ESR_REGISTER),
        }
        Effect::None
    }

    /// The processor wrote a register of the page itself (APIC-write VM exit, 31.4.3.2).
    pub fn written(&mut self, offset: u16, now: u64) -> Effect {
        let offset = offset & 0xff0;
        let value = self.get(offset);
        // Registers that it lets the guest write although they can not be written.
        match offset {
            VERSION => self.put(VERSION, VERSION_VALUE),
            ESR | EOI => self.put(offset, 0),
            SELF_IPI => return self.send_self(value as u8),
            _ => {}
        }
        self.write(offset, value, now)
    }

    /// RDMSR of an x2APIC register.
    pub fn msr_read(&mut self, offset: u16, now: u64) -> Result<u64, Gp> {
        if !self.x2apic() || matches!(offset, DFR | ICR_HIGH | EOI | SELF_IPI) {
            return Err(Gp);
        }
        match offset {
            ICR => Ok(u64::from(self.get(ICR_HIGH)) << 32 | u64::from(self.get(ICR))),
            PPR | CURRENT_COUNT => Ok(self.read(offset, now).into()),
            _ if readable(offset) => Ok(self.get(offset).into()),
            _ => Err(Gp),
        }
    }

    /// WRMSR of an x2APIC register.
    pub fn msr_write(&mut self, offset: u16, value: u64, now: u64) -> Result<Effect, Gp> {
        let writable = match offset {
            TPR | SELF_IPI => 0xff,
            EOI | ESR => 0,
            SVR => 0x3ff,
            ICR => !0xfff3_2000,
            // Bits 12 and 14 can not be written, but are no error.
            LVT_TIMER..=LVT_ERROR if offset & 15 == 0 => u64::from(lvt_bits(offset)) | 0x5000,
            INITIAL_COUNT => u32::MAX.into(),
            DIVIDE => 0xb,
            _ => return Err(Gp),
        };
        if !self.x2apic() || value & !writable != 0 {
            return Err(Gp);
        }
        Ok(match offset {
            ICR => {
                self.put(ICR_HIGH, (value >> 32) as u32);
                self.write_icr(value as u32, (value >> 32) as u32)
            }
            SELF_IPI => self.send_self(value as u8),
            _ => self.write(offset, value as u32, now),
        })
    }

    fn write_svr(&mut self, value: u32) {
        self.put(SVR, value & 0x3ff);
        self.enabled = value & SVR_ENABLE != 0;
        if !self.enabled {
            for lvt in (LVT_TIMER..=LVT_ERROR).step_by(16) {
                self.put(lvt, self.get(lvt) | LVT_MASKED);
            }
            self.timer.set_lvt(self.get(LVT_TIMER));
        }
    }

    /// A write of the low half of ICR, which sends (12.6.1).
    fn write_icr(&mut self, value: u32, destination: u32) -> Effect {
        let value = value & 0xccfff;
        self.put(ICR, value);
        let vector = value as u8;
        let Some(delivery) = Delivery::from_raw(value >> 8) else {
            return Effect::None;
        };
        let target = match value >> 18 & 3 {
            0 => Target::Destination { id: destination, logical: value & 1 << 11 != 0 },
            1 => Target::Myself,
            2 => Target::All,
            _ => Target::Others,
        };
        match delivery {
            Delivery::Fixed | Delivery::LowestPriority if vector < 16 => {
                self.error(ESR_SEND_VECTOR);
                return Effect::None;
            }
            Delivery::Fixed if target == Target::Myself => return self.send_self(vector),
            // Nobody can be told to stop being initialized (12.6.1, "INIT level de-assert").
            Delivery::Init if value & 1 << 14 == 0 => return Effect::None,
            Delivery::ExtInt => return Effect::None,
            Delivery::Init | Delivery::Startup if target == Target::Myself => return Effect::None,
            _ => {}
        }
        Effect::Ipi(Ipi { vector, delivery, target })
    }

    fn send_self(&mut self, vector: u8) -> Effect {
        if vector < 16 {
            self.error(ESR_SEND_VECTOR);
        } else {
            self.set_irr(vector, false);
        }
        Effect::None
    }

    /// Notes an error and raises the error interrupt (12.5.3).
    fn error(&mut self, bit: u32) {
        self.errors |= bit;
        let lvt = self.get(LVT_ERROR);
        // One with an invalid vector would be the next error.
        if lvt & LVT_MASKED == 0 && lvt as u8 >= 16 {
            self.set_irr(lvt as u8, false);
        }
    }

    /// An interrupt arrives: it is pending until [`accept`](Apic::accept)ed. False if the APIC takes
    /// none now.
    pub fn set_irr(&mut self, vector: u8, level: bool) -> bool {
        if !self.present() || !self.enabled {
            return false;
        }
        if vector < 16 {
            self.error(ESR_RECEIVE_VECTOR);
            return false;
        }
        self.set_bit(IRR, vector, true);
        self.set_bit(TMR, vector, level);
        true
    }

    /// The interrupt to inject: the highest that is pending, if its priority is above the
    /// processor's (12.8.3.1).
    pub fn pending(&self) -> Option<u8> {
        if !self.present() || !self.enabled {
            return None;
        }
        self.highest(IRR).filter(|vector| vector >> 4 > self.ppr() >> 4)
    }

    /// The processor takes the pending interrupt.
    pub fn accept(&mut self, vector: u8) {
        self.set_bit(IRR, vector, false);
        self.set_bit(ISR, vector, true);
        self.update_ppr();
    }

    /// The highest that is pending and the highest in service, 0 if none: the guest interrupt
    /// status of virtual-interrupt delivery (25.4.2).
    pub fn status(&self) -> u16 {
        let of = |set| u16::from(self.highest(set).unwrap_or(0));
        of(ISR) << 8 | of(IRR)
    }

    fn eoi(&mut self) -> Effect {
        let Some(vector) = self.highest(ISR) else {
            return Effect::Eoi { level: None };
        };
        self.set_bit(ISR, vector, false);
        self.update_ppr();
        Effect::Eoi { level: self.bit(TMR, vector).then_some(vector) }
    }

    pub fn tpr(&self) -> u8 {
        self.get(TPR) as u8
    }

    /// MOV to CR8 sets `class << 4`.
    pub fn set_tpr(&mut self, tpr: u8) {
        self.put(TPR, tpr.into());
        self.update_ppr();
    }

    /// The processor's priority (12.8.3.1).
    pub fn ppr(&self) -> u8 {
        let (tpr, service) = (self.tpr(), self.highest(ISR).unwrap_or(0));
        if tpr >> 4 >= service >> 4 {
            tpr
        } else {
            service & 0xf0
        }
    }

    fn update_ppr(&mut self) {
        self.put(PPR, self.ppr().into());
    }

    fn bit(&self, set: u16, vector: u8) -> bool {
        self.get(set + u16::from(vector / 32) * 16) >> (vector % 32) & 1 != 0
    }

    fn set_bit(&mut self, set: u16, vector: u8, value: bool) {
        let offset = set + u16::from(vector / 32) * 16;
        let bit = 1 << (vector % 32);
        let word = self.get(offset);
        self.put(offset, if value { word | bit } else { word & !bit });
    }

    /// The highest vector of a set.
    fn highest(&self, set: u16) -> Option<u8> {
        (0..8u8).rev().find_map(|i| {
            let word = self.get(set + u16::from(i) * 16);
            Some(i * 32 + word.checked_ilog2()? as u8)
        })
    }

    /// What a signal on LINT0 or LINT1 (LVT offset) becomes; with the APIC disabled they are the
    /// processor's INTR and NMI pins (12.4.3).
    pub fn lint(&self, lvt: u16) -> Option<(Delivery, u8)> {
        let value = self.get(lvt);
        if !self.present() {
            return match lvt {
                LVT_LINT0 => Some((Delivery::ExtInt, 0)),
                LVT_LINT1 => Some((Delivery::Nmi, 0)),
                _ => None,
            };
        }
        if value & LVT_MASKED != 0 {
            return None;
        }
        let delivery = Delivery::from_raw(value >> 8)?;
        (delivery != Delivery::Startup && delivery != Delivery::LowestPriority)
            .then_some((delivery, value as u8))
    }

    /// Machine TSC at which the timer's interrupt is due.
    pub fn deadline(&self) -> Option<u64> {
        self.timer.expiry().filter(|_| self.present() && self.timer.lvt() & LVT_MASKED == 0)
    }

    /// Fires the timer if it is due.
    pub fn expire(&mut self, now: u64) {
        if self.timer.expire(self.get(INITIAL_COUNT), now) {
            let lvt = self.timer.lvt();
            if lvt & LVT_MASKED == 0 {
                self.set_irr(lvt as u8, false);
            }
        }
    }

    /// IA32_TSC_DEADLINE, in the VP's time.
    pub fn tsc_deadline(&self) -> u64 {
        self.timer.deadline()
    }

    /// WRMSR of IA32_TSC_DEADLINE; the VP's TSC is the machine's plus `offset`.
    pub fn write_tsc_deadline(&mut self, value: u64, offset: u64, now: u64) {
        self.timer.set_deadline(value, offset, now);
    }

    /// The VP's TSC got another offset: what it waits for comes at another time.
    pub fn set_tsc_offset(&mut self, offset: u64, now: u64) {
        self.timer.set_deadline(self.timer.deadline(), offset, now);
    }

    /// How other LPs find this APIC; to be [published](posted::Posted::publish) when it changes,
    /// which is by a write to IA32_APIC_BASE, LDR, DFR or SVR, and by INIT.
    pub fn address(&self) -> Address {
        Address {
            id: self.id,
            ldr: (self.get(LDR) >> 24) as u8,
            flat: self.get(DFR) >> 28 == 0xf,
            present: self.present(),
            x2apic: self.x2apic(),
            enabled: self.enabled,
        }
    }

    /// The registers, for somebody outside.
    pub fn export(&self, now: u64) -> Registers {
        let mut page = *self.page;
        let mut put = |offset: u16, value| page[usize::from(offset) / 4] = value;
        put(CURRENT_COUNT, self.timer.current(self.get(INITIAL_COUNT), now));
        put(PPR, self.ppr().into());
        page
    }

    /// Takes registers that somebody outside chose: each is cut to what it can hold.
    pub fn import(&mut self, page: &Registers, now: u64) {
        let from = |offset: u16| page[usize::from(offset) / 4 % 1024];
        self.init();
        self.write_svr(from(SVR));
        if !self.x2apic() {
            self.write(LDR, from(LDR), now);
            self.write(DFR, from(DFR), now);
            self.put(ICR_HIGH, from(ICR_HIGH) & 0xff00_0000);
        } else {
            self.put(ICR_HIGH, from(ICR_HIGH));
        }
        self.put(ICR, from(ICR) & 0xccfff);
        self.put(ESR, from(ESR) & 0xff);
        for lvt in (LVT_TIMER..=LVT_ERROR).step_by(16) {
            self.write(lvt, from(lvt), now);
        }
        for set in [ISR, TMR, IRR] {
            for i in 0..8 {
                // Vectors below 16 do not exist.
                let legal = if i == 0 { 0xffff_0000 } else { u32::MAX };
                self.put(set + i * 16, from(set + i * 16) & legal);
            }
        }
        self.write(DIVIDE, from(DIVIDE), now);
        if self.timer.counts() {
            self.put(INITIAL_COUNT, from(INITIAL_COUNT));
            self.timer.start(from(CURRENT_COUNT).min(from(INITIAL_COUNT)), now);
        }
        self.set_tpr(from(TPR) as u8);
    }
}
