"""Imported by every Python process that has this folder on its path, before anything else: so the
processes that a study starts know the dropped-in files too.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent))

import command_line  # noqa: F401
