"""The benchmarks' processes, forked from one that has the libraries loaded."""

from __future__ import annotations

import functools
import importlib
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from tests.command_line import Running


def measured(command: Sequence[str], env: Mapping[str, str]) -> dict[str, Any]:
    """As `benchmarks.speed_tools.measured`, without the system's figures."""
    _, module, *arguments = command
    if module == "adapters_xtl":
        running = Running(*arguments, XTL_CACHE=env["XTL_CACHE"])
    else:
        running = Running(before=functools.partial(run, module, list(arguments)))
    code = running.wait()
    if code:
        raise RuntimeError(f"exit code {code}: {' | '.join(running.said()[-5:])}")
    answer = json.loads(running.out.read_text().strip().splitlines()[-1])
    return {"answer": answer, "process_seconds": 1.0, "peak_resident_bytes": 1 << 30}


def run(module: str, arguments: Sequence[str]) -> None:
    """A script's `main`, in place of the command line's."""
    sys.exit(importlib.import_module(module).main(arguments))
