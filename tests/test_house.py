"""The floor plan, the one-file rule, the recipes and the exported names."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

from adapters_xtl import methods, tasks
from adapters_xtl.backbones.registry import NAMED
from adapters_xtl.base.errors import Problems
from adapters_xtl.runs import settings

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "adapters_xtl"
ROOMS = (  # from the ground up; ARCHITECTURE.md shows the same
    ("errors", "trust"),
    ("canon", "stats", "anatomy", "energy"),
    ("spec", "snapshots", "bundle", "remote", "folders"),
    (
        "tasks",
        "store",
        "provenance",
        "fingerprint",
        "sources",
        "examples",
        "columns",
        "activations",
        "shelf",
    ),
    ("data", "mini", "imports", "memory", "hub"),
    ("request",),
    ("lineage",),
    ("stacks",),
    ("plan", "metrics", "formats", "backbones"),
    ("answer", "methods", "inputs"),
    ("model", "gather"),
    ("batches", "checkpoints", "callbacks"),
    ("assembly", "train", "evaluate", "card", "scoring"),
    ("reporting", "export", "bundle_card", "foreign"),
    ("experiment", "predictor", "pack"),
    ("tables",),
    ("comparison",),
    ("commands",),
    ("cli",),
    ("__main__",),
)
FLOORS = {room: floor for floor, rooms in enumerate(ROOMS) for room in rooms}
LIGHT = {
    "request",
    "plan",
    "answer",
    "commands",
    "tables",
    "lineage",
    "stacks",
    "scoring",
    "inputs",
    "export",
    "comparison",
    "bundle_card",
    "foreign",
    "pack",
}  # higher up, and still quick
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
                f"{node.module}.{alias.name}" if node.module == "adapters_xtl" else node.module
                for alias in node.names
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
            assert FLOORS[_room(name)] < FLOORS[room], (
                f"{path.name} on floor {FLOORS[room]} imports {name}"
            )
        top = name.split(".")[0]
        assert not ((FLOORS[room] <= 4 or room in LIGHT) and top in HEAVY), (
            f"{path.name} on floor {FLOORS[room]} imports {top}"
        )


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_file_is_long_and_every_one_says_what_it_is(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 350
    assert ast.get_docstring(ast.parse(text))


def test_the_package_stays_small() -> None:
    """Lines that hold code: blank lines, comments and docstrings do not count."""
    total = 0
    for path in PACKAGE.rglob("*.py"):
        with path.open("rb") as file:
            tokens = list(tokenize.tokenize(file.readline))
        skipped = (
            tokenize.COMMENT,
            tokenize.NL,
            tokenize.NEWLINE,
            tokenize.INDENT,
            tokenize.DEDENT,
            tokenize.ENCODING,
        )
        lines = {
            line
            for token in tokens
            if token.type not in (*skipped, tokenize.ENDMARKER)
            for line in range(token.start[0], token.end[0] + 1)
        }
        documented = [
            node
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        ]
        for node in documented:
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                lines -= set(range(first.lineno, (first.end_lineno or first.lineno) + 1))
        total += len(lines)
    assert total < 13_000, total


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_exported_names_exist(path: Path) -> None:
    name = "adapters_xtl." + path.relative_to(PACKAGE).with_suffix("").as_posix().replace(
        "/", "."
    ).removesuffix(".__init__")
    if name.endswith("__main__"):
        return
    module = importlib.import_module(name)
    for exported in getattr(module, "__all__", ()):
        assert hasattr(module, exported), f"{name}.{exported}"


@pytest.mark.parametrize("name", tasks.names())
def test_every_task_has_a_recipe_that_parses(name: str) -> None:
    task = tasks.load(name)
    recipe, path = settings.read_recipe(name)
    assert bool(path) == bool(task.train or task.format == "multi"), (
        "a recipe for what trains, none for what does not"
    )
    if path:
        assert len(path.read_text().splitlines()) <= 15
    for method in methods.names():
        for source in ("embedded", "hub"):
            problems = Problems()
            settings.resolve_settings(
                recipe=recipe,
                path=path,
                method=method,
                methods=methods.names(),
                method_defaults=methods.load(method).DEFAULTS,
                method_lr=methods.load(method).LR,
                backbone=NAMED["mini"],
                source=source,
                overrides=(),
                flag="--set",
                problems=problems,
            )
            assert not problems.messages


def test_recipes_belong_to_tasks() -> None:
    assert {path.stem for path in settings.recipes_dir().glob("*.toml")} <= set(tasks.names())


def test_import_and_help_are_quick() -> None:
    code = (
        "import sys, adapters_xtl.cli, adapters_xtl.cli.commands.recipe; "
        "print(sorted(set(sys.modules) & {'torch', 'evaluate', 'peft', 'adapters'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_nothing_of_the_workplace_is_in_the_product() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "adapters_xtl", "recipes", "benchmarks", "README.md", "Makefile"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split()
    for name in listed:
        if name.endswith((".py", ".md", ".toml", "Makefile")):
            text = (ROOT / name).read_text(encoding="utf-8")
            assert "../shared" not in text and "/work/" not in text, name
