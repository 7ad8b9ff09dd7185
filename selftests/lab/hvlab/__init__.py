# SPDX-License-Identifier: GPL-2.0
"""The lab: an emulated machine with VMX, for people whose machine has none."""
