# SPDX-License-Identifier: GPL-2.0
"""Tests on the machine that this runs on, or on what virtme-ng makes of it: one whose files are
the lab's, with VMX if this machine has KVM with nested VMX."""

import os
import shlex
import shutil

from .groups import DEFAULT_MODEL
from .host import TOP

VIRTME = TOP / "selftests/lab/virtme"


def lacking():
    """What keeps every test from running on this machine, if anything does."""
    if os.geteuid():
        return "only root can load hvmod"
    if not shutil.which("busybox"):
        return "the tests use busybox's commands: install busybox"
    return ""


def unfit(group, cpus):
    """Why a group is not for a machine that is not the lab's, if it is not."""
    if group.reboots:
        return "it restarts the machine"
    if group.model != DEFAULT_MODEL or group.older_kernel:
        return "it is for another machine"
    if group.root or group.guest_disk or group.append:
        return "it needs what only the lab's machine has"
    if group.cpus > cpus:
        return f"it takes {group.cpus} processors"
    return ""


def command(stage, script):
    """Runs a script on this machine, with copies of the programs in `stage`, which it may spoil,
    and with busybox's commands before others of their names."""
    return ["sh", "-c", f"""
        place=$(mktemp -d /tmp/hvmod-test.XXXXXX) || exit
        trap 'rm -rf "$place"' EXIT
        cp -r {shlex.quote(str(stage))}/. "$place" && cd "$place" &&
        mkdir busybox && busybox --install -s "$place/busybox" || exit
        export PATH="$place/busybox:$PATH"
        busybox sh -c {shlex.quote(script)}"""]


def virtme(group, stage, script, limit):
    """Runs a script on a machine of virtme-ng."""
    series = ["--kernel", group.kernel] if group.kernel else []
    return [str(VIRTME), *series, "--cpus", str(group.cpus), "--memory", str(group.memory),
            "--timeout", str(limit), "--", *command(stage, script)]
