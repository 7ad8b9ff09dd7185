# SPDX-License-Identifier: GPL-2.0
"""The runner must count right, above all what went wrong."""

import io
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from runner import groups, tap  # noqa: E402


def counted(lines, status=0):
    report = tap.Report(io.StringIO())
    program = tap.Program(report, "p")
    for line in lines:
        program.line(line)
    program.end(status)
    return report.passed, report.failed, report.skipped


class Programs(unittest.TestCase):
    def test_results(self):
        self.assertEqual(counted(["ok 1 - a", "not ok 2 - b", "ok 3 - c # SKIP none", "1..3"], 1), (1, 1, 1))

    def test_plan_first(self):
        self.assertEqual(counted(["TAP version 13", "1..2", "ok 1 a", "ok 2 b"]), (2, 0, 0))

    def test_all_skipped(self):
        self.assertEqual(counted(["1..0 # SKIP no VMX"]), (0, 0, 1))

    def test_all_skipped_with_its_status(self):
        self.assertEqual(counted(["1..0 # SKIP no VMX"], 4), (0, 0, 1))

    def test_status_of_a_skip_and_results(self):
        self.assertEqual(counted(["ok 1 - a", "1..1"], 4), (1, 1, 0))

    def test_status_of_a_skip_and_nothing(self):
        self.assertEqual(counted([], 4), (0, 1, 0))

    def test_too_few(self):
        self.assertEqual(counted(["1..3", "ok 1 - a", "ok 2 - b"]), (2, 1, 0))

    def test_no_plan(self):
        self.assertEqual(counted(["ok 1 - a"]), (1, 1, 0))

    def test_nothing(self):
        self.assertEqual(counted([]), (0, 1, 0))

    def test_status_alone(self):
        self.assertEqual(counted(["ok 1 - a", "1..1"], 139), (1, 1, 0))

    def test_out_of_order(self):
        self.assertEqual(counted(["ok 1 - a", "ok 3 - b", "1..2"]), (2, 1, 0))

    def test_bail_out(self):
        self.assertEqual(counted(["ok 1 - a", "Bail out! gone"], 1), (1, 1, 0))

    def test_cut_off(self):
        self.assertEqual(counted(["ok 1 - a", "1..1"], None), (1, 1, 0))


class Streams(unittest.TestCase):
    def counted(self, lines, why):
        report = tap.Report(io.StringIO())
        stream = tap.Stream(report, "g", ["a", "b", "c"])
        for line in lines:
            stream.line(line)
        stream.close(why)
        return report.passed, report.failed, report.skipped

    def test_all(self):
        lines = []
        for name in "abc":
            lines += [f"@@program {name}", "ok 1 - x", "1..1", f"@@end {name} 0"]
        self.assertEqual(self.counted(lines, ""), (3, 0, 0))

    def test_the_machine_dies(self):
        lines = ["@@program a", "ok 1 - x", "1..1", "@@end a 0", "@@program b", "ok 1 - x"]
        # b was cut off, c never began.
        self.assertEqual(self.counted(lines, "panic"), (2, 2, 0))

    def test_the_machine_never_speaks(self):
        self.assertEqual(self.counted([], "no such machine"), (0, 3, 0))

    def test_a_program_is_forgotten(self):
        lines = ["@@program a", "1..0 # SKIP x", "@@end a 0"]
        self.assertEqual(self.counted(lines, ""), (0, 2, 1))


class Closing(unittest.TestCase):
    def test_nothing_is_a_failure(self):
        out = io.StringIO()
        self.assertEqual(tap.Report(out).close(), 1)
        self.assertEqual(out.getvalue().splitlines()[-1], "0 passed, 1 failed, 0 skipped")

    def test_last_line(self):
        out = io.StringIO()
        report = tap.Report(out)
        report.ok("a")
        report.skip("b", "why")
        self.assertEqual(report.close(), 0)
        self.assertEqual(out.getvalue().splitlines()[-1], "1 passed, 0 failed, 1 skipped")


class Recording(unittest.TestCase):
    def test_all_is_told(self):
        out = io.StringIO()
        record, report = tap.Record(), tap.Report(out)
        record.ok("a")
        record.not_ok("b", "because")
        record.skip("c", "reason")
        record.note("said")
        record.tell(report)
        self.assertEqual((report.passed, report.failed, report.skipped), (1, 1, 1))
        self.assertEqual(out.getvalue().splitlines()[1:],
                         ["ok 1 - a", "not ok 2 - b", "# because", "ok 3 - c # SKIP reason", "# said"])


class Groups(unittest.TestCase):
    def test_names_are_unique(self):
        names = [group.name for group in groups.ALL]
        self.assertEqual(len(names), len(set(names)))
        for group in groups.ALL:
            programs = [name for name, _ in group.programs]
            self.assertEqual(len(programs), len(set(programs)), group.name)


if __name__ == "__main__":
    unittest.main()
