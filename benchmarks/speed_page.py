"""The page of the speed benchmarks: README.md of a folder, from the JSON files in it."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

__all__ = ["write"]

SCRIPTS = ("train_speed", "score_speed", "encode_speed")
TEXT = """# Speed of training, scoring and encoding

Written by `benchmarks/train_speed.py`, `score_speed.py` and `encode_speed.py` from the JSON files
beside it; their docstrings say what each line and column is. A ratio is how many times faster a
line is than another, median and range over the rounds, each round's processes having run one after
the other on the same machine. In trainings stock is float32 and the package bfloat16, so that a
ratio to stock also holds the precision. Scores reveal only large losses; they say nothing about a
method.
"""


def write(folder: Path) -> None:
    """Writes the page: a section for each JSON file, by script and name."""
    lines = [TEXT]
    for script in SCRIPTS:
        section = importlib.import_module(f"benchmarks.{script}").section
        for path in sorted(folder.glob(f"{script.removesuffix('_speed')}-*.json")):
            lines += section(json.loads(path.read_text(encoding="utf-8")))
    (folder / "README.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
