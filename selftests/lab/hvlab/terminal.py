# SPDX-License-Identifier: GPL-2.0
"""A terminal to type at the emulated machine, by way of a pseudo-terminal."""

import os
import select
import sys
import termios
import tty


class Line:
    """The machine's second serial line, joined to this terminal."""

    def __init__(self, wanted):
        self.wanted = wanted
        self.name = None
        self.saved = None

    def __enter__(self):
        if self.wanted:
            self.master, self.slave = os.openpty()
            tty.setraw(self.slave)
            self.name = os.ttyname(self.slave)
            if sys.stdin.isatty():
                self.saved = termios.tcgetattr(0)
                tty.setraw(0)
        return self

    def __exit__(self, *_):
        if self.saved:
            termios.tcsetattr(0, termios.TCSADRAIN, self.saved)
        if self.wanted:
            os.close(self.master)
            os.close(self.slave)

    def read(self):
        """What the machine said within a moment; passes on what was typed."""
        ready, _, _ = select.select([self.master, 0], [], [], 0.1)
        if 0 in ready:
            typed = os.read(0, 1024)
            if typed:
                os.write(self.master, typed)
        return os.read(self.master, 65536) if self.master in ready else b""
