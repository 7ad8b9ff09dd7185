# SPDX-License-Identifier: GPL-2.0
"""Results as TAP: what the tests print is read, what everything came to is printed."""

import re
import sys

LINE = re.compile(r"(?P<bad>not )?ok\b\s*(?P<number>\d+)?\s*(?:- )?(?P<name>.*?)"
                  r"(?:\s*#\s*(?P<directive>skip|todo)\S*\s*(?P<reason>.*))?$", re.I)
# What a test ends with that was not run: kselftest's KSFT_SKIP.
SKIPPED = 4
PLAN = re.compile(r"1\.\.(\d+)(?:\s*#\s*skip\S*\s*(?P<reason>.*))?$", re.I)


class Report:
    """All results, numbered in one row, each printed as it comes."""

    def __init__(self, out=None):
        self.out = out or sys.stdout
        self.passed = self.failed = self.skipped = 0
        self.failures = []
        self.print("TAP version 13")

    def print(self, line):
        print(line, file=self.out, flush=True)

    def note(self, text):
        for line in text.splitlines():
            self.print(f"# {line}".rstrip())

    def number(self):
        return self.passed + self.failed + self.skipped

    def ok(self, name):
        self.passed += 1
        self.print(f"ok {self.number()} - {name}")

    def not_ok(self, name, why=""):
        self.failed += 1
        self.failures.append(name)
        self.print(f"not ok {self.number()} - {name}")
        self.note(why)

    def skip(self, name, reason):
        self.skipped += 1
        self.print(f"ok {self.number()} - {name} # SKIP {reason}")

    def close(self):
        """Print what it came to; the exit status."""
        if not self.number():
            self.not_ok("there are tests", "nothing was chosen")
        self.print(f"1..{self.number()}")
        for name in self.failures:
            self.note(f"failed: {name}")
        self.print(f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped")
        return 1 if self.failed else 0


class Record:
    """What a group has to say while others have theirs: told to a report when it has ended."""

    def __init__(self):
        self.said = []

    def note(self, text):
        self.said.append(("note", (text,)))

    def ok(self, name):
        self.said.append(("ok", (name,)))

    def not_ok(self, name, why=""):
        self.said.append(("not_ok", (name, why)))

    def skip(self, name, reason):
        self.said.append(("skip", (name, reason)))

    def tell(self, report):
        for what, arguments in self.said:
            getattr(report, what)(*arguments)


class Program:
    """The TAP of one test program, checked against its own plan."""

    def __init__(self, report, name):
        self.report = report
        self.name = name
        self.plan = None
        self.seen = self.failed = 0
        self.bailed = False

    def line(self, text):
        text = text.rstrip("\r\n")
        if text.startswith("TAP version"):
            return
        if found := PLAN.match(text):
            self.plan = int(found.group(1))
            if self.plan == 0:
                self.report.skip(self.name, found.group("reason") or "no reason given")
            return
        if text.startswith("Bail out!"):
            self.bailed = True
            self.wrong(text)
            return
        found = LINE.match(text)
        if not found:
            self.report.note(text.removeprefix("# "))
            return
        self.seen += 1
        name = f"{self.name}: {found.group('name')}"
        if found.group("number") and int(found.group("number")) != self.seen:
            self.wrong(f"result {found.group('number')} came where {self.seen} belongs")
        directive = (found.group("directive") or "").lower()
        if directive == "skip":
            self.report.skip(name, found.group("reason") or "no reason given")
        elif found.group("bad"):
            self.failed += 1
            self.report.not_ok(name)
        else:
            self.report.ok(name)

    def wrong(self, why):
        self.failed += 1
        self.report.not_ok(f"{self.name}: {why}")

    def end(self, status):
        """The program ended; None when it was cut off."""
        if status is None:
            self.wrong("ended before its last test")
            return
        if not self.bailed:
            if self.plan is None:
                self.wrong("gave no plan")
            elif self.plan != self.seen:
                self.wrong(f"ran {self.seen} of {self.plan} tests")
        if status and not self.failed and (status != SKIPPED or self.plan):
            self.wrong(f"ended with status {status}")


class Stream:
    """What a machine prints: programs, each between its marks."""

    BEGIN = re.compile(r"@@program (\S+)$")
    END = re.compile(r"@@end (\S+) (\d+)$")

    def __init__(self, report, group, programs):
        self.report = report
        self.group = group
        self.waiting = list(programs)
        self.current = None

    def line(self, text):
        text = text.rstrip("\r\n")
        if found := self.BEGIN.match(text):
            if found.group(1) in self.waiting:
                self.waiting.remove(found.group(1))
            self.current = Program(self.report, f"{self.group}/{found.group(1)}")
        elif found := self.END.match(text):
            if self.current:
                self.current.end(int(found.group(2)))
            self.current = None
        elif self.current:
            self.current.line(text)
        elif text.strip():
            self.report.note(text)

    def close(self, why):
        """The machine is gone; `why` is empty if it ended well."""
        if self.current:
            self.report.note(why)
            self.current.end(None)
        elif self.waiting and why:
            self.report.note(why)
        for name in self.waiting:
            self.report.not_ok(f"{self.group}/{name}", "not run: the machine had ended")
