// SPDX-License-Identifier: GPL-2.0
//! What there is to know about this machine, gathered without judging it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::Path;

use hvmod_ioctls::{Caps, Client, Info, Signature};
use procfs::{ConfigSetting, CpuInfo, Current};
use raw_cpuid::CpuId;

use super::VmxCapability;

const FEATURE_CONTROL: u32 = 0x3a;

/// IA32_FEATURE_CONTROL, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeatureControl {
    pub locked: bool,
    pub vmx: bool,
}

/// A loaded kvm_intel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kvm {
    /// It takes VMX when it is loaded, not when a guest starts. `None`: not known.
    pub takes_vmx_at_load: Option<bool>,
    pub users: u64,
}

/// A loaded hvmod.
#[derive(Debug, Clone)]
pub struct Hvmod {
    pub device: Result<(Caps, Info), String>,
    /// This processor is in the root partition.
    pub root: bool,
}

#[derive(Debug, Clone)]
pub struct Facts {
    pub vendor: String,
    pub vmx: bool,
    /// Linux uses XSAVE (CPUID.1:ECX.OSXSAVE).
    pub xsave: bool,
    /// We run under some hypervisor, by its name.
    pub hypervisor: Option<String>,
    /// What the kernel thinks of VMX: it hides the flag when firmware has locked it off.
    pub kernel_shows_vmx: Option<bool>,
    pub feature_control: Option<FeatureControl>,
    pub capability: VmxCapability,
    /// The capability is from the MSRs, not from the kernel's list.
    pub from_msrs: bool,
    pub kvm: Option<Kvm>,
    pub release: String,
    /// Kernel built with Rust support. `None`: not known.
    pub rust: Option<bool>,
    pub hvmod: Option<Hvmod>,
}

fn msr(number: u32) -> Option<u64> {
    let mut value = [0; 8];
    let file = File::open("/dev/cpu/0/msr").ok()?;
    file.read_exact_at(&mut value, u64::from(number)).ok()?;
    Some(u64::from_le_bytes(value))
}

fn first_word(path: impl AsRef<Path>) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    text.split_whitespace().next().map(str::to_owned)
}

fn kvm() -> Option<Kvm> {
    let module = Path::new("/sys/module/kvm_intel");
    module.exists().then(|| Kvm {
        takes_vmx_at_load: first_word("/sys/module/kvm/parameters/enable_virt_at_load")
            .map(|value| value == "Y"),
        users: first_word(module.join("refcnt"))
            .and_then(|text| text.parse().ok())
            .unwrap_or(0),
    })
}

/// By the kernel's configuration, or by a symbol that only such kernels have.
fn rust() -> Option<bool> {
    if let Ok(config) = procfs::kernel_config() {
        return Some(matches!(
            config.get("CONFIG_RUST"),
            Some(ConfigSetting::Yes)
        ));
    }
    let symbols = BufReader::new(File::open("/proc/kallsyms").ok()?);
    let found = symbols
        .lines()
        .map_while(Result::ok)
        .any(|line| line.split_whitespace().nth(2) == Some("rust_fmt_argument"));
    // A kernel without the list of symbols says nothing either way.
    found.then_some(true)
}

fn hvmod() -> Option<Hvmod> {
    let loaded = Path::new("/sys/module/hvmod").exists() || Path::new(Client::DEVICE).exists();
    let root = hvmod_ioctls::signature_here() == Signature::Root;
    (loaded || root).then(|| {
        let ask = || {
            let client = Client::open()?;
            Ok((client.caps()?, client.info()?))
        };
        Hvmod {
            device: ask().map_err(|cause: std::io::Error| cause.to_string()),
            root,
        }
    })
}

impl Facts {
    pub fn gather() -> Self {
        let cpuid = CpuId::new();
        let features = cpuid.get_feature_info();
        let vmx = features.as_ref().is_some_and(|features| features.has_vmx());
        let xsave = features
            .as_ref()
            .is_some_and(|features| features.has_oxsave());
        let hypervisor = features
            .is_some_and(|features| features.has_hypervisor())
            .then(|| {
                cpuid
                    .get_hypervisor_info()
                    .map_or_else(|| "unknown".into(), |info| format!("{:?}", info.identify()))
            });
        let cpuinfo = CpuInfo::current().ok();
        let field = |name| cpuinfo.as_ref().and_then(|info| info.get_field(0, name));
        let words = |name| field(name).map(|text| text.split_whitespace().collect::<Vec<_>>());
        let from_msrs = if vmx {
            VmxCapability::from_msrs(msr)
        } else {
            None
        };
        let from_flags = || words("vmx flags").map(|flags| VmxCapability::from_flags(&flags));
        Self {
            vendor: cpuid
                .get_vendor_info()
                .map_or_else(|| "unknown".into(), |vendor| vendor.as_str().to_owned()),
            vmx,
            xsave,
            hypervisor,
            kernel_shows_vmx: words("flags").map(|flags| flags.contains(&"vmx")),
            feature_control: msr(FEATURE_CONTROL).map(|value| FeatureControl {
                locked: value & 1 != 0,
                vmx: value & 4 != 0,
            }),
            from_msrs: from_msrs.is_some(),
            capability: from_msrs.or_else(from_flags).unwrap_or_default(),
            kvm: kvm(),
            release: nix::sys::utsname::uname()
                .map(|name| name.release().to_string_lossy().into_owned())
                .unwrap_or_default(),
            rust: rust(),
            hvmod: hvmod(),
        }
    }
}
