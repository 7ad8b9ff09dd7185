// SPDX-License-Identifier: GPL-2.0
//! The program itself, where it must refuse: what it says, and its exit status.

use std::process::{Command, Output};

fn hvctl(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hvctl"))
        .args(arguments)
        .output()
        .unwrap()
}

#[track_caller]
fn refused(arguments: &[&str], status: i32, words: &[&str]) {
    let output = hvctl(arguments);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(status), "{text}");
    for word in words {
        assert!(text.contains(word), "'{word}' is not in: {text}");
    }
}

/// A file that looks like a bzImage as far as anybody looks before there is a hypervisor.
fn kernel() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut image = vec![0; 4096];
    image[0x202..0x206].copy_from_slice(b"HdrS");
    std::fs::write(&file, image).unwrap();
    file
}

#[test]
fn options_that_make_no_sense() {
    refused(&["run"], 2, &["--kernel"]);
    refused(
        &["run", "--kernel", "k", "--memory", "0"],
        2,
        &["needs memory"],
    );
    refused(
        &["run", "--kernel", "k", "--memory", "1000k"],
        2,
        &["whole MiB"],
    );
    refused(
        &["run", "--kernel", "k", "--memory", "plenty"],
        2,
        &["512M"],
    );
    refused(
        &["run", "--kernel", "k", "--console", "printer"],
        2,
        &["stdio"],
    );
    refused(&["frobnicate"], 2, &["frobnicate"]);
}

#[test]
fn files_that_are_not_what_they_should_be() {
    refused(
        &["run", "--kernel", "/nonexistent/vmlinuz"],
        2,
        &["kernel /nonexistent/vmlinuz"],
    );
    refused(&["run", "--kernel", "/"], 2, &["cannot read the kernel /"]);
    refused(
        &[
            "run",
            "--kernel",
            concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"),
        ],
        2,
        &["not a kernel", "bzImage"],
    );
    let kernel = kernel();
    let kernel = kernel.path().to_str().unwrap();
    let arguments = ["run", "--kernel", kernel, "--initrd", "/nonexistent/initrd"];
    refused(&arguments, 2, &["initrd /nonexistent/initrd"]);
}

#[test]
fn more_memory_than_the_machine_has() {
    let kernel = kernel();
    let kernel = kernel.path().to_str().unwrap();
    refused(
        &["run", "--kernel", kernel, "--memory", "65536G"],
        2,
        &["MiB", "--memory"],
    );
}

#[test]
fn a_run_that_is_not_there() {
    for (command, status) in [("stop", 2), ("balloon", 1), ("devices", 1)] {
        refused(
            &[command, "nobody-is-called-that"],
            status,
            &["no run of the name nobody-is-called-that", "--name"],
        );
    }
}

#[test]
fn devices_are_looked_at_before_the_hypervisor_is() {
    let kernel = kernel();
    let kernel = kernel.path().to_str().unwrap();
    for (option, words) in [
        ("--disk=path=/nonexistent/disk", "/nonexistent/disk"),
        ("--disk=path=/dev/null", "neither a file nor a block device"),
        ("--net=tap=a:b", "is no name"),
        ("--net=bridge=no-such-br", "no network interface no-such-br"),
        (
            "--share=dir=/nonexistent,tag=a",
            "cannot share /nonexistent",
        ),
        ("--virtio-console=file:/nonexistent/x", "/nonexistent/x"),
    ] {
        refused(&["run", "--kernel", kernel, option], 2, &[words]);
    }
}

#[test]
fn a_machine_without_hvmod() {
    if ["/dev/hvmod", "/dev/mshv"]
        .iter()
        .any(|path| std::path::Path::new(path).exists())
    {
        eprintln!("hvmod is loaded here: skipped");
        return;
    }
    let kernel = kernel();
    let kernel = kernel.path().to_str().unwrap();
    refused(
        &["run", "--kernel", kernel],
        2,
        &["insmod hvmod.ko", "hvctl check"],
    );
    refused(&["info"], 1, &["insmod hvmod.ko", "hvctl check"]);
    refused(&["log"], 1, &["insmod hvmod.ko"]);
}

#[test]
fn check_says_the_same_in_both_forms() {
    let (text, json) = (hvctl(&["check"]), hvctl(&["check", "--json"]));
    assert_eq!(text.status, json.status);
    let report: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(report["passed"], serde_json::json!(text.status.success()));
    let lines = String::from_utf8(text.stdout).unwrap();
    for requirement in report["requirements"].as_array().unwrap() {
        let what = requirement["what"].as_str().unwrap();
        assert!(lines.contains(what), "{what} is not in {lines}");
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let (reader, writer) = nix::unistd::pipe().unwrap();
    drop(reader);
    let output = Command::new(env!("CARGO_BIN_EXE_hvctl"))
        .args(["check", "--json"])
        .stdout(writer)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn help_explains_the_exit_statuses() {
    let output = hvctl(&["run", "--help"]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    for word in ["Exit status", "powered off", "2v+1", "--escape", "128+n"] {
        assert!(text.contains(word), "{word} is not in {text}");
    }
}
