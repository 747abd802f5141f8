"""Systems without POSIX's modules, and installs without the extras: what is missing there is taken
away from a process of its own. Nothing but starting processes is tried so.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

from adapters_xtl.base.extras import EXTRAS

ROOT = Path(__file__).parents[2]
TAKEN_AWAY = """
import os, signal, sys
for name in ("fcntl", "grp", "pwd", "resource", "termios"):
    sys.modules[name] = None
del signal.SIGHUP, signal.SIGALRM, signal.setitimer, os.geteuid, os.getuid
del os.fork, os.sysconf, os.sched_getaffinity, os.mkfifo
for name in ("bitsandbytes", "datasets", "evaluate", "faiss", "matplotlib", "pandas"):
    sys.modules[name] = None
"""
EVERYTHING = """
import importlib, pkgutil
import adapters, peft
import adapters_xtl
for found in pkgutil.walk_packages(adapters_xtl.__path__, "adapters_xtl."):
    if not found.name.endswith(("__main__", "metrics._evaluate", "formats._mining")):
        importlib.import_module(found.name)
"""
RECIPE = """
from adapters_xtl.__main__ import main
main()
"""


def _without(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    # filelock says that it falls back to files that only mark a lock
    command = [sys.executable, "-W", "ignore", "-c", TAKEN_AWAY + code, *arguments]
    # an output that takes no letter but ASCII's: a code page of Windows takes few more
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_every_file_is_imported_without_posix_and_extras() -> None:
    """`pwd`, `resource`, `fcntl`, SIGHUP and user ids are missing on Windows."""
    done = _without(EVERYTHING)
    assert done.returncode == 0, done.stderr[-1000:]


def test_a_recipe_needs_neither_posix_nor_extras(tmp_path: Path) -> None:
    runs = str(tmp_path / "runs")
    options = ["--method", "lora", "--backbone", "tiny", "--set", "train.max_steps=2"]
    done = _without(RECIPE, "recipe", "mnli", *options, "--runs", runs)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "| chance" in done.stdout and "mnli \\xb7 validation" in done.stdout


def test_the_extras_are_those_of_the_package() -> None:
    """A package that an extra brings is named with it, and is no dependency of all."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for package, extra in EXTRAS.values():
        brought = project["optional-dependencies"][extra]
        assert any(requirement.startswith(f"{package}>=") for requirement in brought), package
        assert not any(requirement.startswith(package) for requirement in project["dependencies"])


def test_what_needs_an_extra_says_which(tmp_path: Path) -> None:
    """All of one request at once, before anything is loaded or trained."""
    runs = ["--runs", str(tmp_path / "runs")]
    tatoeba = ("recipe", "tatoeba", "--on", "mnli", "--backbone", "tiny", *runs)
    for arguments, messages in (
        (
            (*tatoeba, "--bits", "4", "--set-parents", "train.optimizer=adamw8bit"),
            (
                "a backbone of 4-bit weights needs bitsandbytes: pip install"
                " 'adapters-xtl[quantised]'",
                "the optimizer adamw8bit needs bitsandbytes",
                "scoring tatoeba needs faiss-cpu: pip install 'adapters-xtl[retrieval]'",
            ),
        ),
        (
            ("study", "smoke", *runs),
            (
                "a study, whose figures are drawn, needs matplotlib: pip install 'adapters-xtl[plots]'",
            ),
        ),
    ):
        done = _without(RECIPE, *arguments)
        assert done.returncode == 2, done.stderr[-1000:]
        assert all(message in done.stderr for message in messages), done.stderr
    assert not [path for path in (tmp_path / "runs").rglob("*") if path.is_file()]
