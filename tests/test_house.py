"""The floor plan, the one-file rule, the recipes and the exported names."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from adapters_xtl import methods, spec, tasks
from adapters_xtl.errors import Problems
from adapters_xtl.fingerprint import NAMED

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "adapters_xtl"
FLOORS = {
    "errors": 0, "canon": 0,
    "spec": 1, "snapshots": 1,
    "tasks": 2, "store": 2, "provenance": 2, "fingerprint": 2, "sources": 2, "examples": 2, "columns": 2,
    "data": 3, "request": 3, "mini": 3, "imports": 3,
    "plan": 4,
    "metrics": 4, "formats": 4, "backbones": 4,
    "answer": 5, "methods": 5,
    "model": 6, "gather": 6,
    "train": 7, "evaluate": 7, "card": 7,
    "experiment": 8,
    "tables": 9,
    "commands": 10,
    "cli": 11, "__main__": 12,
}  # fmt: skip
LIGHT = {"plan", "answer", "commands", "tables"}  # higher up, and still quick
HEAVY = {"torch", "transformers", "adapters", "peft", "evaluate", "accelerate", "bitsandbytes"}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def _room(module: str) -> str:
    return module.split(".")[1]


def _imports(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found += [
                f"{node.module}.{alias.name}" if node.module == "adapters_xtl" else node.module for alias in node.names
            ]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_file_imports_only_from_floors_below(path: Path) -> None:
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert room in FLOORS, f"{room} is on no floor: add it to FLOORS and to ARCHITECTURE.md"
    if room == "cli":
        return  # its imports are lazy
    for name in _imports(path):
        if name.startswith("adapters_xtl.") and _room(name) != room:
            assert FLOORS[_room(name)] < FLOORS[room], f"{path.name} on floor {FLOORS[room]} imports {name}"
        top = name.split(".")[0]
        assert not ((FLOORS[room] <= 3 or room in LIGHT) and top in HEAVY), (
            f"{path.name} on floor {FLOORS[room]} imports {top}"
        )


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_file_is_long_and_every_one_says_what_it_is(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 350
    assert ast.get_docstring(ast.parse(text))


def test_the_package_stays_small() -> None:
    assert sum(len(path.read_text(encoding="utf-8").splitlines()) for path in PACKAGE.rglob("*.py")) < 7500


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_exported_names_exist(path: Path) -> None:
    name = "adapters_xtl." + path.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
    if name.endswith("__main__"):
        return
    module = importlib.import_module(name)
    for exported in getattr(module, "__all__", ()):
        assert hasattr(module, exported), f"{name}.{exported}"


@pytest.mark.parametrize("name", tasks.names())
def test_every_task_has_a_recipe_that_parses(name: str) -> None:
    task = tasks.load(name)
    recipe, path = spec.read_recipe(name)
    assert bool(path) == bool(task.train or task.format == "multi"), "a recipe for what trains, none for what does not"
    if path:
        assert len(path.read_text().splitlines()) <= 15
    for method in methods.names():
        for source in ("embedded", "hub"):
            problems = Problems()
            spec.resolve_settings(
                recipe=recipe, path=path, method=method, methods=methods.names(),
                method_defaults=methods.load(method).DEFAULTS, method_lr=methods.load(method).LR, backbone=NAMED["mini"],
                source=source, overrides=(), flag="--set", problems=problems,
            )  # fmt: skip
            assert not problems.messages


def test_recipes_belong_to_tasks() -> None:
    assert {path.stem for path in spec.recipes_dir().glob("*.toml")} <= set(tasks.names())


def test_import_and_help_are_quick() -> None:
    code = (
        "import sys, adapters_xtl.cli, adapters_xtl.commands; "
        "print(sorted(set(sys.modules) & {'torch', 'evaluate', 'peft', 'adapters'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_nothing_of_the_workplace_is_in_the_product() -> None:
    listed = subprocess.run(["git", "ls-files", "adapters_xtl", "recipes", "benchmarks", "README.md", "Makefile"],
                            cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()  # fmt: skip
    for name in listed:
        if name.endswith((".py", ".md", ".toml", "Makefile")):
            text = (ROOT / name).read_text(encoding="utf-8")
            assert "../shared" not in text and "/work/" not in text, name
