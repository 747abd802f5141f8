"""Runs the real command line in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def xtl(*arguments: str | Path, code: int = 0, timeout: float = 300, **environment: str) -> subprocess.CompletedProcess[str]:
    """`xtl …`; asserts the exit code, and that no traceback was shown."""
    done = subprocess.run(
        [sys.executable, "-m", "adapters_xtl", *map(str, arguments)],
        capture_output=True, text=True, timeout=timeout, env={**os.environ, **environment}, check=False,
    )  # fmt: skip
    assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    assert "Traceback" not in done.stderr, done.stderr
    return done


def xtl_json(*arguments: str | Path, **options: Any) -> dict[str, Any]:
    """`xtl … --json`: exactly one JSON object on stdout."""
    done = xtl(*arguments, "--json", **options)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def complaints(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines in which the command says what is wrong."""
    return [line.removeprefix("xtl: ") for line in done.stderr.splitlines() if line.startswith("xtl: ")]
