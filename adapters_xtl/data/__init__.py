"""Rows: where they lie, reading and checking them, and which of them select and which
are reported.
"""

from __future__ import annotations

__all__ = ["PROTOCOLS"]

PROTOCOLS = ("clean", "xtreme")
