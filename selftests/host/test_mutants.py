# SPDX-License-Identifier: GPL-2.0
"""The table of mutants fits the source and the tests that it names."""

import pathlib
import sys
import unittest

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "selftests"))

from runner import mutants, mutants_life  # noqa: E402

ALL = mutants.ALL + mutants_life.ALL


class Mutants(unittest.TestCase):
    def test_the_text_to_replace_is_there_once(self):
        for mutant in ALL:
            text = (TOP / mutant.path()).read_text()
            self.assertEqual(text.count(mutant.old), 1, f"{mutant.name}: {mutant.old}")
            self.assertNotEqual(mutant.old, mutant.new, mutant.name)

    def test_each_has_attacks_that_must_succeed(self):
        for mutant in ALL:
            self.assertTrue(mutant.fails, mutant.name)
            self.assertIn(mutant.program, mutants_life.PROGRAMS, mutant.name)

    def test_names_are_unique(self):
        names = [mutant.name for mutant in ALL]
        self.assertEqual(len(names), len(set(names)))


if __name__ == "__main__":
    unittest.main()
