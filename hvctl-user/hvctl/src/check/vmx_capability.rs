// SPDX-License-Identifier: GPL-2.0
//! What the processor's VMX can do, from its MSRs or from the kernel's list.

/// Abilities that hvmod needs. `None`: not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VmxCapability {
    pub ept: Option<bool>,
    /// 2 MiB pages, write-back tables and a walk of four levels.
    pub ept_details: Option<bool>,
    pub invept: Option<bool>,
    pub vpid: Option<bool>,
    pub invvpid: Option<bool>,
    pub unrestricted_guest: Option<bool>,
    pub msr_bitmap: Option<bool>,
    pub tpr_shadow: Option<bool>,
    pub apic_access: Option<bool>,
    pub apic_registers: Option<bool>,
    pub preemption_timer: Option<bool>,
}

pub const BASIC: u32 = 0x480;
const PIN_BASED: u32 = 0x481;
const PROCESSOR_BASED: u32 = 0x482;
const SECONDARY: u32 = 0x48b;
const EPT_VPID: u32 = 0x48c;
const TRUE_PIN_BASED: u32 = 0x48d;
const TRUE_PROCESSOR_BASED: u32 = 0x48e;

fn bit(value: u64, bit: u32) -> bool {
    value >> bit & 1 != 0
}

impl VmxCapability {
    /// From the MSRs; `None` when they cannot be read.
    pub fn from_msrs(read: impl Fn(u32) -> Option<u64>) -> Option<Self> {
        let basic = read(BASIC)?;
        let has_true_controls = bit(basic, 55);
        // The upper half says which controls may be 1.
        let allowed = |plain, exact| {
            read(if has_true_controls { exact } else { plain }).map(|value| value >> 32)
        };
        let pin = allowed(PIN_BASED, TRUE_PIN_BASED)?;
        let processor = allowed(PROCESSOR_BASED, TRUE_PROCESSOR_BASED)?;
        let secondary = if bit(processor, 31) {
            read(SECONDARY)? >> 32
        } else {
            0
        };
        let (has_ept, has_vpid) = (bit(secondary, 1), bit(secondary, 5));
        let ept = if has_ept || has_vpid {
            read(EPT_VPID)?
        } else {
            0
        };
        let ept_bits = |bits: &[u32]| bits.iter().all(|&number| bit(ept, number));
        Some(Self {
            ept: Some(has_ept),
            ept_details: Some(has_ept && ept_bits(&[6, 14, 16])),
            invept: Some(ept_bits(&[20, 25, 26])),
            vpid: Some(has_vpid),
            invvpid: Some(ept_bits(&[32, 41])),
            unrestricted_guest: Some(bit(secondary, 7)),
            msr_bitmap: Some(bit(processor, 28)),
            tpr_shadow: Some(bit(processor, 21)),
            apic_access: Some(bit(secondary, 0)),
            apic_registers: Some(bit(secondary, 8)),
            preemption_timer: Some(bit(pin, 6)),
        })
    }

    /// From the "vmx flags" of /proc/cpuinfo. What the kernel does not list there, every
    /// processor with an unrestricted guest has.
    pub fn from_flags(flags: &[&str]) -> Self {
        let has = |flag| Some(flags.contains(&flag));
        let implied = if flags.contains(&"unrestricted_guest") {
            has("ept")
        } else {
            None
        };
        Self {
            ept: has("ept"),
            ept_details: implied,
            invept: implied,
            vpid: has("vpid"),
            invvpid: has("invvpid"),
            unrestricted_guest: has("unrestricted_guest"),
            msr_bitmap: implied,
            tpr_shadow: has("vtpr"),
            apic_access: has("vapic"),
            apic_registers: has("vapic_reg"),
            preemption_timer: has("preemption_timer"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn msrs_of_a_capable_processor() {
        let msrs = |number| {
            Some(match number {
                BASIC => 1 << 55,
                TRUE_PIN_BASED => 1 << (32 + 6),
                TRUE_PROCESSOR_BASED => (1 << 31 | 1 << 28 | 1 << 21) << 32,
                SECONDARY => 0x1ff << 32,
                EPT_VPID => 1 << 6 | 1 << 14 | 1 << 16 | 7 << 20 | 0x60 << 20 | 1 << 32 | 0xf << 40,
                other => panic!("{other:#x} was read"),
            })
        };
        let all = Some(true);
        let capability = VmxCapability::from_msrs(msrs).unwrap();
        assert_eq!(
            capability,
            VmxCapability {
                ept: all,
                ept_details: all,
                invept: all,
                vpid: all,
                invvpid: all,
                unrestricted_guest: all,
                msr_bitmap: all,
                tpr_shadow: all,
                apic_access: all,
                apic_registers: all,
                preemption_timer: all,
            }
        );
    }

    #[test]
    fn msrs_of_a_processor_with_nothing() {
        let capability = VmxCapability::from_msrs(|_| Some(0)).unwrap();
        assert_eq!(
            (capability.ept, capability.unrestricted_guest),
            (Some(false), Some(false))
        );
        assert_eq!(VmxCapability::from_msrs(|_| None), None);
    }

    #[test]
    fn flags_imply_what_they_do_not_list() {
        let flags = [
            "ept",
            "vpid",
            "invvpid",
            "unrestricted_guest",
            "vtpr",
            "vapic",
            "vapic_reg",
        ];
        let capability = VmxCapability::from_flags(&flags);
        assert_eq!(
            (capability.ept_details, capability.preemption_timer),
            (Some(true), Some(false))
        );
        assert_eq!(VmxCapability::from_flags(&["ept"]).ept_details, None);
    }
}
