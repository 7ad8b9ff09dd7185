# SPDX-License-Identifier: GPL-2.0
"""Reading what a machine says while it says it."""

import re

END = re.compile(rb"\n@@LAB end (\d+) (\d+)@@\n")
BEGIN = b"@@LAB begin@@\n"
# The machine is lost when its kernel says one of these.
DEATH = re.compile(rb"Kernel panic - not syncing[^\n]*|reboot: (?:machine restart|Power down|System halted)")


class Tail:
    """What has been added to a growing file."""

    def __init__(self, path):
        self.file = open(path, "rb")

    def read(self):
        return self.file.read()


class Output:
    """The command's own output, cut out of the second serial line."""

    def __init__(self, write):
        self.write = write
        self.pending = b""
        self.begun = False
        self.status = None
        self.missing = 0

    def feed(self, data):
        self.pending += data
        if not self.begun:
            _, found, rest = self.pending.partition(BEGIN)
            if not found:
                return
            self.begun, self.pending = True, rest
        end = END.search(self.pending)
        if end:
            self.write(self.pending[:end.start()])
            self.status, self.missing = int(end.group(1)), int(end.group(2))
            self.pending = b""
        elif self.status is None:
            # Part of the end's line may be here already: keep that back.
            keep = self.pending.rfind(b"\n@@LAB")
            if keep < 0:
                keep = len(self.pending) - (1 if self.pending.endswith(b"\n") else 0)
                for length in range(1, 6):
                    if self.pending.endswith(b"\n@@LAB"[:length]):
                        keep = len(self.pending) - length
            self.write(self.pending[:keep])
            self.pending = self.pending[keep:]

    def flush(self):
        if self.begun:
            self.write(self.pending)
        self.pending = b""


def panic(path):
    """What the emulator gave up for, such as a triple fault."""
    said = [line for line in tail(path, 40) if ">>PANIC<<" in line]
    return said[-1].split(">>PANIC<<")[1].strip() if said else None


def tail(path, lines):
    """The end of a log, for a message."""
    try:
        text = path.read_bytes()[-64 * 1024:].decode(errors="replace")
    except OSError:
        return []
    return [line.rstrip() for line in text.splitlines() if line.strip()][-lines:]
