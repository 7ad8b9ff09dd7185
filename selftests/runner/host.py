# SPDX-License-Identifier: GPL-2.0
"""Tests that need no machine with VMX: cargo's, the formatters' and the linters'."""

import os
import pathlib
import re
import shutil
import subprocess

TOP = pathlib.Path(__file__).resolve().parent.parent.parent
ENTER = TOP / "selftests/lab/enter"
# The tests, and what each shows.
TESTS = {
    "cargo-rust": "cargo test in rust: hvcore's logic, and what hvmod makes of Hyper-V's structures",
    "cargo-hvctl-user": "cargo test in hvctl-user: hvctl, its devices and its emulator",
    "fuzz": "the fuzzers of hvcore and of the emulator, for seconds",
    "fmt": "rustfmt, with the kernel's settings where they apply",
    "clippy": "clippy for the module and all crates",
    "tcb": "the trusted core is within rust/hvcore/limits",
    "runner": "the scripts' own tests; what documents name is there",
    "debian-qemu": "the disk of a Debian guest boots in QEMU too",
}
SOAK_TESTS = {"fuzz-devices": "ten million damaged queues for each device of hvctl"}
# Debian 13's, for which the sources are written.
OLDEST_CARGO = (1, 85)
# Of hours of fuzzing, for each device.
DEVICE_INPUTS = 10_000_000

TEST = re.compile(r"test (?P<name>.+?) \.\.\. (?P<result>ok|FAILED|ignored)(?:, (?P<reason>.*))?$")
TOTAL = re.compile(r"test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored")
RUNNING = re.compile(r"\s*(?:Running (?P<what>.*?) \(.*\)|Doc-tests (?P<doc>\S+))$")


def cargo_here():
    """Whether this machine has a cargo that is new enough."""
    if not shutil.which("cargo"):
        return False
    said = subprocess.run(["cargo", "--version"], capture_output=True, text=True, check=False).stdout
    version = re.match(r"cargo (\d+)\.(\d+)", said)
    return bool(version) and tuple(map(int, version.groups())) >= OLDEST_CARGO


def command(lab, *argv):
    return [str(ENTER), "--", *argv] if lab else list(argv)


def capture(argv, directory):
    return subprocess.run(argv, cwd=directory, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors="replace", check=False)


def cargo_test(report, name, directory, lab, which=("--workspace",), environment=()):
    """`cargo test` of a workspace, or of `which` part of it, each test a result."""
    target = TOP / "build" / ("lab/test" if lab else "test") / directory.name
    argv = command(lab, "env", *environment, "cargo", "test", "--no-fail-fast",
                   "--target-dir", str(target), *which)
    done = capture(argv, directory)
    passed = failed = ignored = 0
    totals = [0, 0, 0]
    what = name
    for line in done.stdout.splitlines():
        if found := RUNNING.match(line):
            what = found.group("what") or f"doc {found.group('doc')}"
        elif found := TEST.match(line):
            test = f"{name}: {what}: {found.group('name')}"
            if found.group("result") == "ok":
                passed += 1
                report.ok(test)
            elif found.group("result") == "FAILED":
                failed += 1
                report.not_ok(test)
            else:
                ignored += 1
                report.skip(test, found.group("reason") or "ignored in the source")
        elif found := TOTAL.match(line):
            totals = [sum(pair) for pair in zip(totals, map(int, found.groups()))]
    if [passed, failed, ignored] != totals:
        report.not_ok(f"{name}: each of cargo's results was read",
                      f"read {[passed, failed, ignored]}, cargo counts {totals}")
    if done.returncode and not failed:
        report.not_ok(f"{name}: cargo test", tail(done.stdout))
    elif failed:
        report.note(tail(done.stdout, 120))
    elif not passed:
        report.not_ok(f"{name}: cargo test", "there was no test in it")
    return done.stdout


# Optimized, but with the checks of the other build.
FUZZ_BUILD = ("CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true", "CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS=true")


def fuzz_devices(report, lab, inputs):
    """The fuzzers of hvctl's devices, `inputs` for each."""
    report.note(f"fuzz-devices: {inputs} inputs for each device")
    said = cargo_test(report, "fuzz-devices", TOP / "hvctl-user", lab,
                      ("--release", "--package", "vmm", "--lib", "--", "--nocapture", "fuzz::"),
                      (f"FUZZ_INPUTS={inputs}", *FUZZ_BUILD))
    for line in said.splitlines():
        if " inputs, " in line:
            report.note(f"fuzz-devices: {line}")


def tail(text, lines=40):
    return "\n".join(text.splitlines()[-lines:])


def check(report, name, argv, directory=TOP):
    done = capture(argv, directory)
    if done.returncode:
        report.not_ok(name, tail(done.stdout))
    else:
        report.ok(name)


def formatter(report, lab):
    check(report, "rustfmt", command(lab, "make", "--no-print-directory", "fmt-check"))


def tests(report, wanted, have_lab):
    """Run those that are `wanted`: a function of the name."""
    here = cargo_here()
    if here and have_lab and "KSRC" not in os.environ:
        # Of a test that compares with the kernel's headers.
        asked = capture([str(ENTER), "--", "printenv", "KDIR"], TOP)
        if asked.returncode == 0:
            os.environ["KSRC"] = asked.stdout.strip()
    for name, directory in (("rust", TOP / "rust"), ("hvctl-user", TOP / "hvctl-user")):
        if not wanted(f"cargo-{name}"):
            continue
        report.note(f"cargo test in {directory.relative_to(TOP)}"
                    + ("" if here else ", in the lab's Debian 13"))
        if here or have_lab:
            cargo_test(report, name, directory, lab=not here)
        else:
            report.skip(f"{name}: cargo test", "neither this machine nor the lab has cargo")
    if wanted("fuzz-devices"):
        if here or have_lab:
            fuzz_devices(report, not here, DEVICE_INPUTS)
        else:
            report.skip("fuzz-devices", "neither this machine nor the lab has cargo")
    if wanted("fmt"):
        if have_lab or shutil.which("rustfmt"):
            formatter(report, lab=not (here and shutil.which("rustfmt")))
        else:
            report.skip("rustfmt", "there is none, and no lab")
    if wanted("clippy"):
        if have_lab:
            check(report, "clippy", ["make", "--no-print-directory", "LAB=1", "clippy"])
        else:
            report.skip("clippy", "it needs the lab")
    if wanted("tcb"):
        if have_lab:
            check(report, "the trusted core is within its limits", ["make", "--no-print-directory", "tcb"])
        else:
            report.skip("tcb", "its image is built in the lab")
    if wanted("runner"):
        check(report, "the runner's own tests",
              ["python3", "-m", "unittest", "discover", "-q", "-s", str(TOP / "selftests/host")])
