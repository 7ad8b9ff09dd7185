# SPDX-License-Identifier: GPL-2.0
"""Coverage-guided fuzzing of pure code: libFuzzer, with hvcore's targets of rust/fuzz, and hvctl's."""

import concurrent.futures
import dataclasses
import re
import shutil
import signal
import time

from . import host

TOP = host.TOP
OUT = TOP / "build/fuzz"

# How many of a thousand executions each target gets: those that take longest get fewest.
SHARES = {
    "apic": 40, "cpuid": 170, "cr": 140, "ept": 8, "event": 150, "hypercall": 6, "msr": 100,
    "mtrr": 60, "ownership": 6, "speculation": 50, "xsave": 170,
    "emulator": 100,
}
# Those of hvctl; the others are hvcore's.
HVCTL = {"emulator"}
# Bytes of an input, where many steps make one: these are long from the start.
LONGEST = {"hypercall": 1024, "ownership": 512, "ept": 512, "emulator": 512}

EXECUTED = re.compile(r"^stat::number_of_executed_units:\s*(\d+)", re.M)
# The last thing that libFuzzer says of coverage, and of the inputs that reached it.
STATE = re.compile(r"^#\d+\s+\w+\s+cov: (\d+) ft: \d+ corp: (\d+)/", re.M)


# Exit status of a fuzzer that was interrupted (FuzzerOptions.h).
INTERRUPTED = 72


class NotBuilt(Exception):
    pass


@dataclasses.dataclass
class Outcome:
    """What came of one target."""

    target: str
    executions: int
    covered: int
    kept: int
    seconds: float
    # What was found, in words, or empty.
    finding: str

    def line(self):
        return (f"{self.target}: executions={self.executions} edges={self.covered} "
                f"inputs={self.kept} seconds={self.seconds:.0f}")


def names():
    return list(SHARES)


def seeds(target):
    return TOP / ("hvctl-user" if target in HVCTL else "rust") / "fuzz/seeds" / target


def build(target):
    """The fuzzer that has the target, and whether the lab built it: else this machine's cargo and C++
    compiler."""
    crate, name = ("hvctl-user/fuzz", "vmm-fuzz") if target in HVCTL else ("rust/fuzz/libfuzzer", "hvcore-fuzz")
    here = host.cargo_here() and bool(shutil.which("g++") or shutil.which("c++"))
    place = OUT / ("target" if here else "lab")
    # What is set for other builds would take the place of the coverage.
    argv = ["env", "-u", "RUSTFLAGS", "-u", "CARGO_ENCODED_RUSTFLAGS", "cargo", "build", "--release",
            "--locked", "--target-dir", str(place)]
    done = host.capture(host.command(not here, *argv), TOP / crate)
    if done.returncode:
        raise NotBuilt(host.tail(done.stdout))
    return place / "x86_64-unknown-linux-gnu/release" / name, not here


def fuzz(program, target, runs, seed, in_lab=False):
    """Executes `runs` inputs, from those that are kept on: where the program was built, whose C
    library it wants."""
    corpus, found = OUT / "corpus" / target, OUT / "found"
    corpus.mkdir(parents=True, exist_ok=True)
    found.mkdir(parents=True, exist_ok=True)
    before = set(found.iterdir())
    argv = ["env", f"FUZZ_TARGET={target}", "RUST_BACKTRACE=0", str(program), f"-runs={runs}",
            f"-seed={seed}", f"-max_len={LONGEST.get(target, 256)}",
            f"-len_control={0 if target in LONGEST else 20}",
            "-timeout=60", "-print_final_stats=1", f"-artifact_prefix={found}/{target}-",
            str(corpus), str(seeds(target))]
    began = time.monotonic()
    done = host.capture(host.command(in_lab, *argv), TOP)
    seconds = time.monotonic() - began
    executed, states = EXECUTED.search(done.stdout), STATE.findall(done.stdout)
    covered, kept = map(int, states[-1]) if states else (0, 0)
    finding = ""
    if done.returncode in (INTERRUPTED, -signal.SIGINT, 128 + signal.SIGINT):
        raise KeyboardInterrupt
    if done.returncode:
        said = re.search(r"^thread .* panicked at .*(?:\n.*){0,6}", done.stdout, re.M)
        inputs = sorted(set(found.iterdir()) - before)
        finding = "\n".join([
            said.group(0) if said else host.tail(done.stdout, 20),
            *(f"input: {path.relative_to(TOP)}" for path in inputs),
            f"again: FUZZ_TARGET={target} {program.relative_to(TOP)} INPUT",
            f"when it is mended, keep the input: {seeds(target).relative_to(TOP)}/found-WHAT"])
    elif not covered:
        finding = "libFuzzer saw no coverage: the program was not built for it"
    return Outcome(target, int(executed.group(1)) if executed else 0, covered, kept, seconds, finding)


def run(targets, total, seed, jobs, told):
    """Fuzzes targets, together `total` executions; `told` of each when it ends."""
    # Each is built once, one after the other.
    built = {hvctl: build(next(target for target in targets if (target in HVCTL) == hvctl))
             for hvctl in {target in HVCTL for target in targets}}
    whole = sum(SHARES[target] for target in targets)
    # The longest first.
    order = sorted(targets, key=lambda target: SHARES[target])
    with concurrent.futures.ThreadPoolExecutor(max(jobs, 1)) as pool:
        waiting = []
        for target in order:
            program, in_lab = built[target in HVCTL]
            runs = -(-total * SHARES[target] // whole)
            waiting.append(pool.submit(fuzz, program, target, runs, seed, in_lab))
        outcomes = []
        try:
            for done in concurrent.futures.as_completed(waiting):
                outcomes.append(done.result())
                told(outcomes[-1])
        except KeyboardInterrupt:
            # Those that run have had the signal too.
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return outcomes
