"""Small stacks on the tiny backbone, trained once a process, and bundles made of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adapters_xtl.backbones import embedded
from adapters_xtl.base.files import cache_dir, read_json, write_json
from adapters_xtl.runs.stored_runs import read_run
from adapters_xtl.sharing import bundle, pack
from tests.finished_runs import finished_run, run_recipe

QUICK = ("train.max_steps=2", "train.eval_every=2", "train.select_examples=20")
ENCODER = cache_dir() / "mini"
_STACKS: dict[tuple[str, ...], Path] = {}
_HOME: list[Path] = []


def train(runs: Path, task: str, *, on: str = "", **options: Any) -> Path:
    """A finished run on `tiny`, two steps long."""
    return Path(run_recipe(runs, task, on=on, **_quick(options))["path"])


def _quick(options: dict[str, Any]) -> dict[str, Any]:
    return {"set_": QUICK, "set_parents": QUICK, "languages": "en", **options}


def stack(factory: pytest.TempPathFactory, task: str, on: str = "", **options: Any) -> Path:
    """The same as `train`, in a store that all tests of a process share: not to be written to."""
    key = (task, on, *(f"{name}={value}" for name, value in sorted(options.items())))
    if not _HOME:
        _HOME.append(factory.mktemp("stacks"))
    if key not in _STACKS:
        run = finished_run(_HOME[0] / "runs", task, on=on, **_quick(options))
        _STACKS[key] = Path(run["path"])
    return _STACKS[key]


def pack_run(run: Path, into: Path, **options: Any) -> Path:
    """The bundle of a run."""
    into.mkdir(parents=True)
    pack.pack(read_run(run), into, **{"where": lambda sha256: [], **options})
    return into


def cache(home: Path) -> Path:
    """A cache of one's own that has the embedded encoder already (0.5 GB that everybody may share)."""
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "mini").exists():
        embedded.prepare(lambda text: None)
        (home / "mini").symlink_to(ENCODER)
    return home


def change(folder: Path, name: str, edit: Callable[[Any], Any]) -> None:
    """Edits one JSON file of a bundle."""
    value = read_json(folder / name)
    made = edit(value)
    write_json(folder / name, value if made is None else made)


def reseal(folder: Path) -> None:
    """The manifest of what lies there now, links and all: whoever tampers can do that, too."""
    (folder / bundle.MANIFEST).unlink(missing_ok=True)
    bundle.seal(folder)


def twin(run: Path, runs: Path) -> Path:
    """A copy of a run and its parents in a store of its own."""
    shutil.copytree(run.parent.parent, runs, dirs_exist_ok=True)
    return runs / run.parent.name / run.name
