# SPDX-License-Identifier: GPL-2.0
"""The disk of the Debian guest in QEMU, which interprets instructions: nothing in it is special."""

import os
import select
import subprocess
import time

from . import lab
from .host import ENTER, tail

BOOT = 900  # seconds, on a machine that has much to do
ANSWER = 300


class Console:
    """QEMU with the guest's serial line."""

    def __init__(self, place):
        drive = f"file={place}/guest.img,format=raw,if=virtio,snapshot=on"
        self.process = subprocess.Popen(
            [str(ENTER), "--", "qemu-system-x86_64", "-accel", "tcg", "-m", "512", "-no-reboot",
             "-display", "none", "-monitor", "none", "-serial", "stdio", "-nic", "none",
             "-kernel", f"{place}/vmlinuz", "-initrd", f"{place}/initrd.img",
             "-append", "console=ttyS0 root=/dev/vda rw quiet", "-drive", drive],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.said = ""

    def type(self, line):
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def wait(self, text, limit):
        """Whether it says the text, from here on, before so many seconds have passed."""
        start, deadline = len(self.said), time.monotonic() + limit
        while text not in self.said[start:]:
            left = deadline - time.monotonic()
            ready, _, _ = select.select([self.process.stdout], [], [], max(left, 0))
            data = os.read(self.process.stdout.fileno(), 65536) if ready else b""
            if not data:
                return False
            self.said += data.decode(errors="replace").replace("\r", "")
        return True

    def close(self):
        self.process.kill()
        self.process.wait()


def test(report):
    """Boot it, log in, ask systemd how it is."""
    place = lab.guest_disk(report)
    if not place:
        return
    console = Console(place)
    try:
        booted = console.wait("login:", BOOT)
        name = "a Debian guest's disk boots unchanged in QEMU (TCG)"
        if not booted:
            report.not_ok(name, tail(console.said))
            return
        report.ok(name)
        console.type("root")
        console.wait("root@guest", ANSWER)
        # The shell's echo of the command does not have the mark.
        console.type('echo "@""state: $(systemctl is-system-running --wait)"')
        name = "and systemd says that it is running"
        if console.wait("@state: running\n", ANSWER):
            report.ok(name)
        else:
            report.not_ok(name, tail(console.said))
    finally:
        console.close()
