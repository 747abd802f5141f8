"""Rows of a task: where they lie, reading and checking them, which select and which are reported.

`sources` finds a task's files (embedded, hub, mirror), `reading` makes checked examples of them and
keeps the selecting rows apart from the reported ones, `imports` turns the publishers' original
files into a mirror.
"""

from __future__ import annotations

__all__ = ["PROTOCOLS"]

PROTOCOLS = ("clean", "xtreme")
