// SPDX-License-Identifier: GPL-2.0
//! `hvctl check`.

mod facts;
mod requirement;
mod vmx_capability;

use std::io::{self, Write};

use anyhow::Result;

pub use facts::{Facts, Hvmod, Kvm};
pub use requirement::{Requirement, Verdict, judge};
pub use vmx_capability::VmxCapability;

use crate::{args, status};

pub fn main(args: &args::Check) -> Result<u8> {
    let requirements = judge(&Facts::gather());
    let passed = passes(&requirements);
    let text = if args.json {
        serde_json::to_string_pretty(&serde_json::json!({
            "passed": passed,
            "requirements": requirements,
        }))? + "\n"
    } else {
        let lines: String = requirements.iter().map(Requirement::to_string).collect();
        let end = if passed {
            "This machine can run hvmod.\n"
        } else {
            "This machine cannot run hvmod as it is; see above.\n"
        };
        lines + end
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(if passed { 0 } else { status::FAILED })
}

/// Whether nothing that is required is missing.
pub fn passes(requirements: &[Requirement]) -> bool {
    requirements
        .iter()
        .all(|requirement| !requirement.required || requirement.verdict == Verdict::Ok)
}

#[cfg(test)]
mod tests;
