# SPDX-License-Identifier: GPL-2.0
"""The fuzzers' shares, and that what libFuzzer prints is read."""

import pathlib
import re
import sys
import tempfile
import unittest
import unittest.mock

TOP = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(TOP / "selftests"))

from runner import fuzzing  # noqa: E402


class Shares(unittest.TestCase):
    def test_each_target_has_one(self):
        source = (TOP / "rust/fuzz/src/lib.rs").read_text()
        self.assertEqual(re.findall(r'\bname: "(\w+)"', source),
                         sorted(set(fuzzing.SHARES) - fuzzing.HVCTL))

    def test_each_target_has_inputs(self):
        for target in fuzzing.names():
            self.assertTrue(any(fuzzing.seeds(target).iterdir()), target)

    def test_together_they_are_a_thousand(self):
        self.assertEqual(sum(fuzzing.SHARES.values()), 1000)


class Output(unittest.TestCase):
    SAID = ("#512\tpulse  cov: 120 ft: 130 corp: 7/60b lim: 17 exec/s: 256 rss: 28Mb\n"
            "#600\tDONE   cov: 129 ft: 545 corp: 262/11Kb lim: 256 exec/s: 300 rss: 29Mb\n"
            "stat::number_of_executed_units: 600\n")

    def test_numbers(self):
        self.assertEqual(fuzzing.EXECUTED.search(self.SAID).group(1), "600")
        self.assertEqual(fuzzing.STATE.findall(self.SAID)[-1], ("129", "262"))

    def test_a_program_without_coverage_is_noticed(self):
        said = "#512\tpulse  corp: 1/1b lim: 17 exec/s: 256 rss: 28Mb\n"
        self.assertEqual(fuzzing.STATE.findall(said), [])

    def fuzzer(self, status):
        """What comes of a fuzzer that ends with this status."""
        with tempfile.TemporaryDirectory() as place:
            program = pathlib.Path(place, "fuzzer")
            program.write_text(f"#!/bin/sh\necho '#9 DONE cov: 5 ft: 5 corp: 1/1b'\nexit {status}\n")
            program.chmod(0o755)
            with unittest.mock.patch.multiple(fuzzing, OUT=pathlib.Path(place), TOP=pathlib.Path(place)):
                return fuzzing.fuzz(program, "cr", 9, 1)

    def test_an_interrupt_is_no_finding(self):
        self.assertRaises(KeyboardInterrupt, self.fuzzer, fuzzing.INTERRUPTED)
        self.assertEqual(self.fuzzer(0).finding, "")
        self.assertNotEqual(self.fuzzer(77).finding, "")


if __name__ == "__main__":
    unittest.main()
