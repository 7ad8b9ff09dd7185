// SPDX-License-Identifier: GPL-2.0

use super::facts::FeatureControl;
use super::*;
use hvmod_ioctls::{CAP_CHILDREN, Caps, Info};

fn capable() -> Facts {
    let flags = [
        "ept",
        "vpid",
        "invvpid",
        "unrestricted_guest",
        "vtpr",
        "vapic",
        "vapic_reg",
        "preemption_timer",
    ];
    Facts {
        vendor: "GenuineIntel".into(),
        vmx: true,
        xsave: true,
        hypervisor: None,
        kernel_shows_vmx: Some(true),
        feature_control: None,
        capability: VmxCapability::from_flags(&flags),
        from_msrs: false,
        kvm: None,
        release: "7.3.4".into(),
        rust: Some(true),
        hvmod: None,
    }
}

fn text(facts: &Facts) -> String {
    judge(facts).iter().map(Requirement::to_string).collect()
}

/// What is missing, as one line each.
fn failures(facts: &Facts) -> Vec<String> {
    judge(facts)
        .iter()
        .filter(|requirement| requirement.required && requirement.verdict != Verdict::Ok)
        .map(Requirement::to_string)
        .collect()
}

#[track_caller]
fn fails_alone(facts: &Facts, words: &[&str]) {
    let failures = failures(facts);
    let [failure] = &failures[..] else {
        panic!("{failures:?}")
    };
    for word in words {
        assert!(failure.contains(word), "{word} is not in {failure}");
    }
    assert!(!passes(&judge(facts)));
}

#[test]
fn a_capable_machine_passes() {
    let requirements = judge(&capable());
    assert!(passes(&requirements), "{}", text(&capable()));
    assert!(text(&capable()).contains("insmod hvmod.ko"));
}

#[test]
fn each_missing_thing_is_named_with_its_fix() {
    fails_alone(
        &Facts {
            vmx: false,
            ..capable()
        },
        &["VMX", "firmware"],
    );
    let nested = Facts {
        vmx: false,
        hypervisor: Some("KVM".into()),
        ..capable()
    };
    fails_alone(&nested, &["nested virtualization", "KVM"]);
    let locked = FeatureControl {
        locked: true,
        vmx: false,
    };
    let facts = Facts {
        feature_control: Some(locked),
        ..capable()
    };
    fails_alone(&facts, &["locked with VMX off", "firmware's setup"]);
    fails_alone(
        &Facts {
            kernel_shows_vmx: None,
            ..capable()
        },
        &["unknown", "modprobe msr"],
    );
    fails_alone(
        &Facts {
            rust: Some(false),
            ..capable()
        },
        &["CONFIG_RUST"],
    );
    fails_alone(
        &Facts {
            xsave: false,
            ..capable()
        },
        &["XSAVE", "boot Linux without 'noxsave'"],
    );
    let capability = VmxCapability {
        apic_registers: Some(false),
        ..capable().capability
    };
    fails_alone(
        &Facts {
            capability,
            ..capable()
        },
        &["virtual APIC registers (for children)"],
    );
    let capability = VmxCapability {
        unrestricted_guest: Some(false),
        ..capable().capability
    };
    fails_alone(
        &Facts {
            capability,
            ..capable()
        },
        &["unrestricted guest"],
    );
    let capability = VmxCapability {
        preemption_timer: Some(false),
        ..capable().capability
    };
    fails_alone(
        &Facts {
            capability,
            ..capable()
        },
        &["VMX-preemption timer"],
    );
}

#[test]
fn kvm_is_in_the_way_only_while_it_holds_vmx() {
    let kvm = |takes_vmx_at_load, users| Facts {
        kvm: Some(Kvm {
            takes_vmx_at_load,
            users,
        }),
        ..capable()
    };
    fails_alone(&kvm(Some(true), 0), &["modprobe -r kvm_intel"]);
    fails_alone(&kvm(None, 0), &["modprobe -r kvm_intel"]);
    fails_alone(&kvm(Some(false), 2), &["in use", "modprobe -r kvm_intel"]);
    assert!(passes(&judge(&kvm(Some(false), 0))));
}

#[test]
fn an_unknown_configuration_is_no_obstacle() {
    assert!(passes(&judge(&Facts {
        rust: None,
        ..capable()
    })));
}

#[test]
fn with_hvmod_loaded_hidden_vmx_is_no_failure() {
    let device = Ok((
        Caps {
            caps: CAP_CHILDREN,
            ..Default::default()
        },
        Info {
            lps: 2,
            ..Default::default()
        },
    ));
    let loaded = Facts {
        vmx: false,
        kernel_shows_vmx: Some(false),
        hvmod: Some(Hvmod { device, root: true }),
        ..capable()
    };
    assert!(passes(&judge(&loaded)));
    assert!(text(&loaded).contains("hvmod is loaded: all requirements met"));

    // Not every machine that can be a root can have children.
    let childless = |xsave| Facts {
        xsave,
        hvmod: Some(Hvmod {
            device: Ok(Default::default()),
            root: true,
        }),
        ..capable()
    };
    fails_alone(&childless(false), &["XSAVE", "'noxsave'"]);
    fails_alone(&childless(true), &["APIC registers", "APICv"]);

    let broken = Facts {
        hvmod: Some(Hvmod {
            device: Err("Permission denied".into()),
            root: true,
        }),
        ..loaded
    };
    fails_alone(&broken, &["Permission denied"]);
}

#[test]
fn gathering_works_wherever_we_are() {
    let facts = Facts::gather();
    assert!(!facts.release.is_empty());
    assert!(!judge(&facts).is_empty());
}
