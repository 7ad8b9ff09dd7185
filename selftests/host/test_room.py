# SPDX-License-Identifier: GPL-2.0
"""A disk that is too full must be named before a run."""

import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from runner import room  # noqa: E402


class Room(unittest.TestCase):
    def test_enough(self):
        self.assertEqual(room.lacking(lambda path: room.NEEDED), [])

    def test_each_disk_is_asked(self):
        said = room.lacking(lambda path: 394 << 20)
        self.assertEqual(len(said), len(room.places()))
        for line in said:
            self.assertIn(": 394 MiB are free and a run needs 4096; ", line)

    def test_what_is_not_there_yet_is_on_its_parent_s_disk(self):
        room.lacking(lambda path: self.assertTrue(path.exists()) or 0)


if __name__ == "__main__":
    unittest.main()
