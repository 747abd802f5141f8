"""Runs the real command line in a process of its own.

Its imports take seconds: the processes are forked from one that has imported the libraries, unless
the environment, which some of them read at import, is another one, or the test is about a start
from nothing.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_started_with = dict(os.environ)
_warm = multiprocessing.get_context("forkserver")
_warm.set_forkserver_preload(["adapters_xtl.experiment", "adapters_xtl.cli", "adapters", "peft"])


def xtl(
    *arguments: str | Path,
    code: int = 0,
    timeout: float = 300,
    cold: bool = False,
    **environment: str,
) -> subprocess.CompletedProcess[str]:
    """`xtl …`; asserts the exit code, and that no traceback was shown. `cold`: a new interpreter."""
    command = [sys.executable, "-m", "adapters_xtl", *map(str, arguments)]
    there = {**os.environ, **environment}
    if cold or _libraries(there) != _libraries(_started_with):
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, env=there, check=False
        )
    else:
        done = _forked(command, there, timeout)
    assert done.returncode == code, (
        f"exit code {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def _libraries(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environment.items()
        if not name.startswith(("PYTEST_", "XTL_"))
    }


def _forked(
    command: list[str], environment: dict[str, str], timeout: float
) -> subprocess.CompletedProcess[str]:
    with tempfile.TemporaryDirectory() as aside:
        out, err = Path(aside, "out"), Path(aside, "err")
        process = _warm.Process(
            target=_call, args=(command[3:], os.getcwd(), environment, out, err)
        )
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(command, timeout)
        return subprocess.CompletedProcess(
            command, process.exitcode, out.read_text(), err.read_text()
        )


def _call(
    arguments: list[str], where: str, environment: dict[str, str], out: Path, err: Path
) -> None:
    for number, path in enumerate((Path(os.devnull), out, err)):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND), number)
    os.chdir(where)
    os.environ.update(environment)
    for name in set(os.environ) - set(environment):
        del os.environ[name]
    sys.argv = ["xtl", *arguments]
    from adapters_xtl.cli import main

    main()


def xtl_json(*arguments: str | Path, **options: Any) -> dict[str, Any]:
    """`xtl … --json`: exactly one JSON object on stdout."""
    done = xtl(*arguments, "--json", **options)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def complaints(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines in which the command says what is wrong."""
    return [
        line.removeprefix("xtl: ") for line in done.stderr.splitlines() if line.startswith("xtl: ")
    ]
