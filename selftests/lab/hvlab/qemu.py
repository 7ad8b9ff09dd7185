# SPDX-License-Identifier: GPL-2.0
"""QEMU, installed into the Debian 13 root: a machine without VMX.

Taken from the backports: 11.1 also has the mshv accelerator compiled in, which
is one of the programs that hvmod serves.
"""

from . import archive, root

PROGRAM = "qemu-system-x86_64"


def build(stage):
    """Install QEMU unless it is there."""
    if (root.directory() / "usr/bin" / PROGRAM).exists():
        return
    stage.say("installing QEMU (for the machine without VMX)")
    stage.execute(root.command(
        "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-y", "-q", "install",
        "--no-install-recommends", "-t", f"{archive.SUITE}-backports", "qemu-system-x86"),
        "could not install QEMU into the Debian 13 root")
