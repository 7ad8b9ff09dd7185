# SPDX-License-Identifier: GPL-2.0
"""Tests in the lab's emulated machines."""

import os
import shlex
import subprocess
import tempfile
import time

from . import here
from .host import ENTER, TOP, capture, tail
from .tap import Stream

RUN = TOP / "selftests/lab/run"
BUILD = TOP / "selftests/lab/build"
STAGE = TOP / "build/selftests"


def build(report, series):
    """Build the lab with these kernel series ('': the newest); whether it is there."""
    argv = [str(BUILD)]
    for name in series:
        argv += ["--kernel", name]
    # Its progress is for people: not TAP, and no part of the report.
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=2, check=False)
    if done.returncode:
        report.not_ok("the lab can be built", f"{' '.join(argv)}: status {done.returncode}")
    return done.returncode == 0


def build_root(name):
    """Build a larger user space of the lab; why not, if that fails."""
    done = subprocess.run([str(BUILD), "--root", name], stdin=subprocess.DEVNULL, stdout=2,
                          stderr=subprocess.PIPE, text=True, errors="replace", check=False)
    if done.returncode:
        return (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[0]
    return ""


def series_offered():
    """Kernel series that the archive has, newest first; the lab's root must be there."""
    program = ("import sys; sys.path.insert(0, sys.argv[1]); from hvlab import kernel; "
               "print(*kernel.series_offered())")
    done = subprocess.run(["python3", "-c", program, str(TOP / "selftests/lab")],
                          capture_output=True, text=True, check=False)
    return done.stdout.split() if done.returncode == 0 else []


def guest_disk(report):
    """The directory of a Debian guest's disk, which is built if it is not there; or None."""
    done = subprocess.run(["python3", "-m", "hvlab.guest"], cwd=TOP / "selftests/lab",
                          stdin=subprocess.DEVNULL, stdout=2, check=False)
    place = subprocess.run(["python3", "-c", "from hvlab import guest; print(guest.directory())"],
                           cwd=TOP / "selftests/lab", capture_output=True, text=True, check=False)
    if done.returncode or place.returncode:
        report.not_ok("a Debian guest's disk can be built", f"status {done.returncode}")
        return None
    return place.stdout.strip()


def prepare(report, series, here=False):
    """Build what the tests need, for one kernel series or the one that runs here; what could not
    be had."""
    kernel = [] if here else ["LAB=1", *([f"KERNEL={series}"] if series else [])]
    stage = STAGE / (series or "newest")
    stage.mkdir(parents=True, exist_ok=True)
    make = ["make", "--no-print-directory", *kernel]
    steps = [
        ("hvmod.ko", [*make, "module"]),
        ("hvmod-debug.ko", [*make, "HVMOD_DEBUG=1", "module"]),
        ("hvctl", [*make, "hvctl"]),
    ]
    missing = set()
    for product, argv in steps:
        began = time.monotonic()
        done = capture(argv, TOP)
        name = f"build: {product}" + (f" for {series}" if series else "")
        if done.returncode:
            report.not_ok(name, tail(done.stdout, 30))
            missing.add(product)
            continue
        subprocess.run(["install", "-m", "755", str(TOP / "build" / product), str(stage / product)],
                       check=True)
        report.ok(name)
        report.note(f"{time.monotonic() - began:.0f} s")
    if here:
        entered = ["env", f"KDIR=/lib/modules/{os.uname().release}/build"]
    else:
        entered = [str(ENTER), *(["--kernel", series] if series else []), "--"]
    done = capture([*entered, "make", "-k", "-C", str(TOP / "selftests"), f"OUT={stage}"], TOP)
    if done.returncode:
        report.not_ok("build: test programs" + (f" for {series}" if series else ""),
                      tail(done.stdout, 30))
        missing.add("programs")
    else:
        report.ok("build: test programs" + (f" for {series}" if series else ""))
    return missing


def environment(group, soak):
    """What the programs are told of the machine and of how much there is to do."""
    told = {"SOAK": "1" if soak else "", "MODEL": group.model, "CPUS": str(group.cpus),
            "CHILDREN": "1" if group.children else ""}
    # Of tests that try things at random, for who wants to try others.
    return told | {name: os.environ[name] for name in ("SEEDS", "COUNT") if os.environ.get(name)}


def script(group, soak):
    """What a shell is told that is where the programs are: each between two marks."""
    lines = [f"export {name}={shlex.quote(value)}" for name, value in environment(group, soak).items()]
    for name, command in group.programs:
        lines += [f"echo; echo '@@program {name}'",
                  f"( {command} ) 2>&1",
                  f"status=$?; echo; echo \"@@end {name} $status\""]
    lines.append("exit 0")
    return "\n".join(lines)


def run(report, group, soak):
    """Boot the group's machine and run its programs."""
    stage = STAGE / (group.kernel or "newest")
    began = time.monotonic()
    stream = Stream(report, group.name, [name for name, _ in group.programs])
    with tempfile.TemporaryFile("w+", errors="replace") as errors:
        with subprocess.Popen(command(report, group, stage, soak), stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=errors, text=True, errors="replace",
                              env=os.environ) as process:
            for line in process.stdout:
                stream.line(line)
        errors.seek(0)
        said = errors.read()
    failed = process.returncode != 0
    stream.close(tail(said, 90) if failed else "")
    if failed and not stream.current and not stream.waiting:
        report.not_ok(f"{group.name}: the machine ended well",
                      f"status {process.returncode}\n{tail(said, 90)}")
    report.note(f"{group.name}: {time.monotonic() - began:.0f} s")


def command(report, group, stage, soak):
    """What runs the group's programs on its machine."""
    timeout = group.timeout * (20 if soak else 1)
    if group.machine == "here":
        report.note(f"{group.name}: this machine")
        return here.command(stage, script(group, soak))
    if group.machine == "virtme":
        report.note(f"{group.name}: virtme-ng, {group.cpus} LP, {group.memory} MiB")
        return here.virtme(group, stage, script(group, soak), 8 * timeout)
    # Of Bochs, which is never idle, processor time counts: others may have work too.
    limits = ["--timeout", str(timeout)]
    if group.machine == "bochs":
        limits = ["--cpu-time", str(timeout), "--timeout", str(8 * timeout)]
    argv = [str(RUN), "--machine", group.machine, "--cpus", str(group.cpus),
            "--memory", str(group.memory), *limits, "--put", f"{stage}:t"]
    if group.machine == "bochs":
        argv += ["--model", group.model]
    if group.append:
        argv += ["--append", group.append]
    if group.reboots:
        argv += ["--reboots"]
    if group.kernel:
        argv += ["--kernel", group.kernel]
    if group.root:
        argv += ["--root", group.root]
    if group.guest_disk:
        place = guest_disk(report)
        argv += ["--put", f"{place}:guest"] if place else []
    argv += ["--", "cd /put/t\n" + script(group, soak)]
    where = f"{group.model}, " if group.machine == "bochs" else "QEMU without VMX, "
    report.note(f"{group.name}: {where}{group.cpus} LP, {group.memory} MiB"
                + (f", kernel {group.kernel}" if group.kernel else ""))
    return argv
