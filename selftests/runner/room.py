# SPDX-License-Identifier: GPL-2.0
"""Room on the disks: said before a run, since a full disk fails as many things as there are."""

import pathlib
import shutil
import tempfile

from lab.hvlab import cache

from .host import TOP

# Of a clean tree, its lab there: what is built, and the disks of emulated machines.
NEEDED = 4 << 30


def places():
    """What is written to, and how to make room there."""
    return {
        TOP / "build": "'make clean' removes what was built",
        cache.directory(): "remove what is in it, and the lab is built anew",
        pathlib.Path(tempfile.gettempdir()): "or name another directory by TMPDIR",
    }


def lacking(free=lambda path: shutil.disk_usage(path).free):
    """Where there is too little room, a sentence each."""
    said = []
    for path, remedy in places().items():
        there = next(parent for parent in (path, *path.parents) if parent.exists())
        left = free(there)
        if left < NEEDED:
            said.append(f"{path}: {left >> 20} MiB are free and a run needs {NEEDED >> 20}; {remedy}")
    return said
