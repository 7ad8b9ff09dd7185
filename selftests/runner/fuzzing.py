# SPDX-License-Identifier: GPL-2.0
"""Coverage-guided fuzzing of hvcore's pure parts: libFuzzer, with the targets of rust/fuzz."""

import concurrent.futures
import dataclasses
import re
import shutil
import time

from . import host

TOP = host.TOP
OUT = TOP / "build/fuzz"
SEEDS = TOP / "rust/fuzz/seeds"

# How many of a thousand executions each target gets: those that take longest get fewest.
SHARES = {
    "apic": 40, "cpuid": 200, "cr": 160, "ept": 8, "event": 240, "hypercall": 6, "msr": 100,
    "mtrr": 60, "ownership": 6, "xsave": 180,
}
# Bytes of an input.
LONGEST = {"hypercall": 1024, "ownership": 512, "ept": 512}

EXECUTED = re.compile(r"^stat::number_of_executed_units:\s*(\d+)", re.M)
# The last thing that libFuzzer says of coverage, and of the inputs that reached it.
STATE = re.compile(r"^#\d+\s+\w+\s+cov: (\d+) ft: \d+ corp: (\d+)/", re.M)


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


def build():
    """The fuzzer, and whether the lab built it: else this machine's cargo and C++ compiler."""
    here = host.cargo_here() and bool(shutil.which("g++") or shutil.which("c++"))
    place = OUT / ("target" if here else "lab")
    # What is set for other builds would take the place of the coverage.
    argv = ["env", "-u", "RUSTFLAGS", "-u", "CARGO_ENCODED_RUSTFLAGS", "cargo", "build", "--release",
            "--locked", "--target-dir", str(place)]
    done = host.capture(host.command(not here, *argv), TOP / "rust/fuzz/libfuzzer")
    if done.returncode:
        raise NotBuilt(host.tail(done.stdout))
    return place / "x86_64-unknown-linux-gnu/release/hvcore-fuzz", not here


def fuzz(program, target, runs, seed, in_lab=False):
    """Executes `runs` inputs, from those that are kept on: where the program was built, whose C
    library it wants."""
    corpus, found = OUT / "corpus" / target, OUT / "found"
    corpus.mkdir(parents=True, exist_ok=True)
    found.mkdir(parents=True, exist_ok=True)
    before = set(found.iterdir())
    argv = ["env", f"FUZZ_TARGET={target}", "RUST_BACKTRACE=0", str(program), f"-runs={runs}",
            f"-seed={seed}", f"-max_len={LONGEST.get(target, 256)}", "-len_control=20",
            "-timeout=60", "-print_final_stats=1", f"-artifact_prefix={found}/{target}-",
            str(corpus), str(SEEDS / target)]
    began = time.monotonic()
    done = host.capture(host.command(in_lab, *argv), TOP)
    seconds = time.monotonic() - began
    executed, states = EXECUTED.search(done.stdout), STATE.findall(done.stdout)
    covered, kept = map(int, states[-1]) if states else (0, 0)
    finding = ""
    if done.returncode:
        said = re.search(r"^thread .* panicked at .*(?:\n.*){0,6}", done.stdout, re.M)
        inputs = sorted(set(found.iterdir()) - before)
        finding = "\n".join([
            said.group(0) if said else host.tail(done.stdout, 20),
            *(f"input: {path.relative_to(TOP)}" for path in inputs),
            f"again: FUZZ_TARGET={target} {program.relative_to(TOP)} INPUT",
            f"when it is mended, keep the input: rust/fuzz/seeds/{target}/found-WHAT"])
    elif not covered:
        finding = "libFuzzer saw no coverage: the program was not built for it"
    return Outcome(target, int(executed.group(1)) if executed else 0, covered, kept, seconds, finding)


def run(targets, total, seed, jobs, told):
    """Fuzzes targets, together `total` executions; `told` of each when it ends."""
    program, in_lab = build()
    whole = sum(SHARES[target] for target in targets)
    # The longest first.
    order = sorted(targets, key=lambda target: SHARES[target])
    with concurrent.futures.ThreadPoolExecutor(max(jobs, 1)) as pool:
        waiting = [pool.submit(fuzz, program, target, -(-total * SHARES[target] // whole), seed, in_lab)
                   for target in order]
        outcomes = []
        for done in concurrent.futures.as_completed(waiting):
            outcomes.append(done.result())
            told(outcomes[-1])
    return outcomes
