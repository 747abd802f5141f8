"""Runs the real command line in a process of its own.

Its imports take seconds: the processes are forked from one that has imported the libraries, unless
the environment, which some of them read at import, is another one, or the test is about a start
from nothing.
"""

from __future__ import annotations

import atexit
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

_started_with = dict(os.environ)
_warm = multiprocessing.get_context("forkserver")
_warm.set_forkserver_preload(
    ["adapters_xtl.experiment", "adapters_xtl.cli", "adapters", "peft", "tests.frozen_imports"]
)


@cache
def _outputs() -> str:
    """A directory for what the processes write; it goes with this process."""
    folder = tempfile.mkdtemp(prefix="xtl-test-output-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


class Running:
    """`xtl …` in a process of its own that is watched and signalled while it runs.

    `before`: a function of a module that is called in it first, e.g. to drop a method in.
    """

    def __init__(
        self,
        *arguments: str | Path,
        before: Callable[[], object] | None = None,
        **environment: str,
    ) -> None:
        there = {**os.environ, **environment}
        changed = _libraries(there).items() ^ _libraries(_started_with).items()
        assert not changed, f"a library may read these at import: {sorted(changed)}"
        aside = tempfile.mkdtemp(dir=_outputs())
        self.out, self.err = Path(aside, "out"), Path(aside, "err")
        call = (list(map(str, arguments)), os.getcwd(), there, self.out, self.err, before)
        self._process = _warm.Process(target=_call, args=call)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """The exit code, or minus the number of the signal that ended it; None while it runs."""
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def wait(self, timeout: float = 300) -> int:
        """The exit code. Kills the process, and raises TimeoutExpired, when it takes longer."""
        self._process.join(timeout)
        code = self.poll()
        if code is None:
            self._process.kill()
            self._process.join()
            raise subprocess.TimeoutExpired("xtl", timeout)
        return code

    def said(self) -> list[str]:
        """The lines on stderr so far."""
        return self.err.read_text().splitlines() if self.err.exists() else []


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


# torch, Ray and the tests' own Slurm set such names while this process uses them
SET_MEANWHILE = ("TORCHINDUCTOR_", "RAY_", "SLURM_", "PYTHONBREAKPOINT")


def _libraries(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environment.items()
        if not name.startswith(("PYTEST_", "XTL_", *SET_MEANWHILE))
    }


def _forked(
    command: list[str], environment: dict[str, str], timeout: float
) -> subprocess.CompletedProcess[str]:
    running = Running(*command[3:], **environment)
    code = running.wait(timeout)
    return subprocess.CompletedProcess(
        command, code, running.out.read_text(), running.err.read_text()
    )


def _call(
    arguments: list[str],
    where: str,
    environment: dict[str, str],
    out: Path,
    err: Path,
    before: Callable[[], object] | None,
) -> None:
    for number, path in enumerate((Path(os.devnull), out, err)):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND), number)
    os.chdir(where)
    os.environ.update(environment)
    for name in set(os.environ) - set(environment):
        del os.environ[name]
    sys.argv = ["xtl", *arguments]
    if before is not None:
        before()
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
