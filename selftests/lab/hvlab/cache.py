# SPDX-License-Identifier: GPL-2.0
"""Where built things are kept, and what makes one stale.

A stage's directory is named by a hash of everything it is made from, so a
changed recipe never meets an old result, two versions can lie side by side,
and "is it there?" is the whole up-to-date check.
"""

import contextlib
import fcntl
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import threading
import time

LAB = pathlib.Path(__file__).resolve().parent.parent
TREE = LAB.parent.parent


class LabError(Exception):
    """A failure that one message explains; never shown with a stack trace."""


def directory():
    """The cache's directory, made when missing."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    path = pathlib.Path(base).resolve() / "hvmod-lab"
    path.mkdir(parents=True, exist_ok=True)
    return path


def key(*parts):
    """A short name for what `parts` say."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(str(part).encode() + b"\0")
    return digest.hexdigest()[:12]


@contextlib.contextmanager
def lock(name):
    """One builder at a time; a second one waits and then finds the result."""
    with open(directory() / f"{name}.lock", "w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"lab: waiting for another build of '{name}'", flush=True)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def fresh(final):
    """A scratch directory that becomes `final` only when the block succeeds."""
    scratch = final.with_name(final.name + ".partial")
    remove(scratch)
    scratch.mkdir(parents=True)
    yield scratch
    scratch.rename(final)


def remove(path):
    """Remove a tree; one with something mounted in it is left alone."""
    if not path.exists():
        return
    with open("/proc/self/mountinfo") as mounts:
        if any(line.split()[4].startswith(f"{path}/") for line in mounts):
            raise LabError(f"{path} has mounts in it: unmount them first")
    shutil.rmtree(path)


class Progress:
    """Says which stage runs, what it does, and for how long."""

    def __init__(self, total, out=None):
        self.total, self.out = total, out
        self.began = time.monotonic()
        self.lock = threading.Lock()

    def say(self, number, text):
        elapsed = int(time.monotonic() - self.began)
        with self.lock:
            print(f"[{number}/{self.total}] {elapsed // 60}:{elapsed % 60:02d} {text}",
                  file=self.out, flush=True)


class Stage:
    """One numbered step of the build with a log file of its own."""

    def __init__(self, progress, number, name):
        self.progress, self.number, self.name = progress, number, name
        self.log = directory() / "log" / f"{name}.log"
        self.log.parent.mkdir(exist_ok=True)
        self.log.write_bytes(b"")

    def say(self, text):
        self.progress.say(self.number, f"{self.name}: {text}")

    def execute(self, argv, failure, **options):
        """Run `argv` into the log; say `failure` with the log's end if it fails."""
        with open(self.log, "ab") as log:
            log.write(("+ " + " ".join(map(str, argv)) + "\n").encode())
            log.flush()
            started = self.log.stat().st_size
            try:
                process = subprocess.Popen(
                    argv, stdin=options.pop("stdin", subprocess.DEVNULL),
                    stdout=log, stderr=subprocess.STDOUT, **options)
            except OSError as error:
                raise LabError(f"{failure}\n  {argv[0]}: {error.strerror}") from error
            while True:
                try:
                    status = process.wait(timeout=20)
                    break
                except subprocess.TimeoutExpired:
                    self.say(f"... {self.last_line()}")
                except BaseException:
                    process.kill()
                    process.wait()
                    raise
        if status:
            with open(self.log, "rb") as log:
                log.seek(started)
                said = log.read().decode(errors="replace").splitlines()[-15:]
            raise LabError(f"{failure}\n  tried: {' '.join(map(str, argv))[:300]}\n"
                           f"  it ended with status {status}; the log is {self.log}; its end:\n    "
                           + "\n    ".join(said))

    def last_line(self):
        with open(self.log, "rb") as log:
            log.seek(max(0, self.log.stat().st_size - 400))
            lines = log.read().decode(errors="replace").split("\n")
        said = [line.strip() for line in lines if line.strip()]
        return said[-1][:100] if said else "working"


def run_main(main):
    """Call `main`, turning what a person can act on into one message."""
    try:
        status = main()
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        status = 130
    except BrokenPipeError:
        # Nobody reads any more; not even what Python would say of that.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        status = 141
    sys.exit(status)
