# SPDX-License-Identifier: GPL-2.0
"""What tests there are, in words."""

import re

from . import groups, host

# Where the sources of programs are, and how their names end.
SOURCES = [("selftests/hvmod", ""), ("selftests/hvmod", ".c"), ("hvctl-user/vmm/examples", ".rs")]


def source(command):
    """The source of the program that a command of a group runs."""
    name = command.split("./")[-1].split()[0]
    paths = [host.TOP / place / f"{name}{end}" for place, end in SOURCES]
    return next(path for path in paths if path.is_file())


def head(path):
    """The comment that a source begins with, behind its licence, as one line."""
    text = re.sub(r"\A(#!.*\n)?.*SPDX.*\n", "", path.read_text()).lstrip()
    found = re.match(r"/\*.*?\*/|((#|//!)[^\n]*\n)+", text, re.S).group()
    return " ".join(re.sub(r"^[ *#/!]+", "", line).strip() for line in found.splitlines()).strip()


def about(command):
    """What a program shows: the first sentence of its source, without its own name."""
    return re.split(r"(?<=\.) ", re.sub(r"^\w+\.sh.*?: ", "", head(source(command))))[0]


def lines():
    """The list of all tests."""
    yield "On this machine (the host layer):"
    for name, what in host.TESTS.items():
        yield f"  {name:18} {what}"
    yield "With --soak also:"
    for name, what in host.SOAK_TESTS.items():
        yield f"  {name:18} {what}"
    yield "On emulated machines (the lab layer), a group of programs on each:"
    for group in groups.ALL:
        machine = group.model if group.machine == "bochs" else group.machine
        yield (f"  {group.name:18} {' '.join(name for name, _ in group.programs)} "
               f"({group.cpus} LP, {machine}{', older kernel' if group.older_kernel else ''}"
               f"{'; takes long: by its name or in a soak' if group.long else ''})")
    yield "What the programs show:"
    for name, command in dict(program for group in groups.ALL for program in group.programs).items():
        yield f"  {name:18} {about(command)}"
