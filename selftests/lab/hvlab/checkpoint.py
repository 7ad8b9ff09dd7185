# SPDX-License-Identifier: GPL-2.0
"""Machines saved when they had booted, so that the next run restores one.

The boot is the same every time until the files of a run are looked at: the
first run of its kind saves the machine at that point, and others start there.
"""

import os
import shutil
import tempfile

from . import cache

KEPT = 20  # of some 200 MiB each; the longest unused go first


class Checkpoint:
    """The saved machine of one kind, named by everything it is made from."""

    def __init__(self, *made_from):
        self.place = cache.directory() / "machines"
        self.directory = self.place / cache.key(*made_from)
        self.partial = None

    def scratch(self):
        """Where the emulator may save; kept only when the machine went on."""
        self.place.mkdir(exist_ok=True)
        self.partial = tempfile.mkdtemp(prefix="saving.", dir=self.place)
        return self.partial

    def keep(self):
        """The machine that was saved runs: let others restore it."""
        if not self.partial:
            return
        try:
            if os.listdir(self.partial):
                os.rename(self.partial, self.directory)
        except OSError:
            pass  # another run was first
        shutil.rmtree(self.partial, ignore_errors=True)
        self.partial = None
        self.prune()

    def abandon(self):
        """Leave nothing half saved behind."""
        if self.partial:
            shutil.rmtree(self.partial, ignore_errors=True)
            self.partial = None

    def remove(self):
        shutil.rmtree(self.directory, ignore_errors=True)

    def prune(self):
        kept = sorted(self.place.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in kept[KEPT:]:
            shutil.rmtree(path, ignore_errors=True)

    def prepare(self, place, configuration):
        """The saved state, with the configuration of this run for the saved one's."""
        os.utime(self.directory)
        restore = place / "restore"
        restore.mkdir()
        for path in self.directory.iterdir():
            if path.name != "config":
                (restore / path.name).symlink_to(path)
        shutil.copy(configuration, restore / "config")
        return restore
