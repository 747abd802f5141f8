"""The house: wings and their floors, light and heavy, exported names, recipes."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from adapters_xtl import formats, methods, tasks
from adapters_xtl.base.errors import Problems
from adapters_xtl.runs import recipes, settings
from tests import wings
from tests.wings import FLOOR_OF, PACKAGE, ROOT

TOP_FILES = {"__init__.py", "__main__.py", "experiment.py", "predictor.py", "py.typed"}
# wings whose files may import torch and the libraries at import; in `backbones` it is `loading` alone
HEAVY_WINGS = {"models", "training", "evaluation", "experiment", "predictor"}
HEAVY_FILES = {
    "backbones/loading.py",
    "backbones/quantised.py",
    "export/differences.py",
    "export/loaded_module.py",
    "export/merged_model.py",
    "export/onnx_model.py",
    "formats/_heads.py",
    "metrics/_evaluate.py",
    "representation/metric_learning.py",
}
HEAVY = {
    "torch",
    "transformers",
    "adapters",
    "peft",
    "evaluate",
    "accelerate",
    "bitsandbytes",
    "datasets",
}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def _wing(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imports(path: Path) -> list[str]:
    """Dotted names that a file imports when it is imported (not those inside functions)."""
    names: list[str] = []
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        names += [
            name for name in found if id(node) not in inside or name.startswith("adapters_xtl.")
        ]
    return names


def test_the_top_level_holds_the_wings_and_nothing_else() -> None:
    listed = {path.name for path in PACKAGE.iterdir() if path.name != "__pycache__"}
    folders = {name for name in FLOOR_OF if (PACKAGE / name).is_dir()}
    recipes = {"recipes"} if (PACKAGE / "recipes").is_dir() else set()
    assert listed == folders | TOP_FILES | recipes


def test_the_tree_shows_the_wings_as_their_docstrings_describe_them() -> None:
    shown = wings.ARCHITECTURE.read_text(encoding="utf-8")
    assert shown == wings.architecture(), "run `make docs`"


@pytest.mark.parametrize("wing", sorted(set(FLOOR_OF) - {"__main__"}))
def test_every_wing_says_in_one_sentence_what_it_holds(wing: str) -> None:
    assert 20 <= len(wings.summary(wing)) <= 110


@pytest.mark.parametrize("name", ["ARCHITECTURE.md", "README.md", "CONTRIBUTING.md"])
def test_the_paths_that_the_documents_name_exist(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    for path in re.findall(r"`([a-z_./]+\.(?:py|toml|json|jsonl|md|cff))`", prose):
        if "/" in path:
            homes = (ROOT, PACKAGE)
            assert any((home / path).exists() for home in homes), f"{name} names {path}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_file_imports_only_from_floors_below(path: Path) -> None:
    wing = _wing(path)
    for name in _imports(path):
        other = name.split(".")[1] if name.startswith("adapters_xtl.") else ""
        if other in FLOOR_OF and other != wing:
            assert FLOOR_OF[other] < FLOOR_OF[wing], f"{wing} imports {name}, which is not below it"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_light_files_import_no_heavy_library(path: Path) -> None:
    if _wing(path) in HEAVY_WINGS or str(path.relative_to(PACKAGE)) in HEAVY_FILES:
        return
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Import):
            tops = {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            tops = {node.module.split(".")[0]}
        else:
            continue
        assert not tops & HEAVY, f"{path.name} imports {tops & HEAVY} when it is imported"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_file_is_long_and_every_one_says_what_it_is(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 500
    assert ast.get_docstring(ast.parse(text))
    assert _layouts_by_hand(path) <= _tables(path), "fmt: skip stands only behind a table of data"


def _layouts_by_hand(path: Path) -> set[int]:
    """The lines at which the formatter is told to leave the layout alone."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return {number for number, line in enumerate(lines, start=1) if "# fmt:" in line}


def _tables(path: Path) -> set[int]:
    """The last lines of the constants of a file that hold nothing but literals."""
    table = (ast.Dict, ast.List, ast.Tuple, ast.Set)
    computed = (ast.Call, ast.Lambda, ast.comprehension)
    return {
        node.end_lineno or 0
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        and isinstance(node.value, table)
        and not any(isinstance(inner, computed) for inner in ast.walk(node.value))
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_exported_names_exist(path: Path) -> None:
    name = "adapters_xtl." + path.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", ".")
    name = name.removesuffix(".__init__")
    if name.endswith("__main__"):
        return
    module = importlib.import_module(name)
    for exported in getattr(module, "__all__", ()):
        assert hasattr(module, exported), f"{name}.{exported}"


@pytest.mark.parametrize("name", tasks.names())
def test_every_task_has_a_recipe_that_parses(name: str) -> None:
    task = tasks.load(name)
    recipe = recipes.read_recipe(task.recipe or name)
    assert bool(recipe.path) == bool(task.train or task.members), "a recipe for what trains"
    for method in methods.names():
        for embedded in (True, False):
            problems = Problems()
            defaults = settings.Defaults(method, 1e-4, {})
            settings.resolve_settings(
                recipe, defaults, settings.Overrides("--set"), embedded=embedded, problems=problems
            )
            assert not problems.messages


def test_recipes_belong_to_tasks() -> None:
    assert {path.stem for path in recipes.recipes_dir().glob("*.toml")} <= set(tasks.names())


def test_import_and_help_are_light() -> None:
    code = (
        "import sys, adapters_xtl.cli, adapters_xtl.cli.commands.recipe; "
        "print(sorted(set(sys.modules) & {'torch', 'evaluate', 'peft', 'adapters'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_nothing_of_the_workplace_is_in_the_product() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--", ".", ":!tests"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split()
    for name in listed:
        if name.endswith((".py", ".md", ".toml", ".yml", ".yaml", ".cff", "Makefile", "run")):
            text = (ROOT / name).read_text(encoding="utf-8")
            assert "../shared" not in text and "/work/" not in text, name


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if _wing(path) not in ("formats", "tasks")],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_nobody_outside_the_formats_asks_for_a_format_by_name(path: Path) -> None:
    """What differs by format is a method or a constant of the format: no comparison with a name,
    no table of names.
    """
    names = set(formats.names())
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Compare):
            parts: list[ast.expr | None] = [node.left, *node.comparators]
            parts += [part for side in node.comparators for part in getattr(side, "elts", [])]
        elif isinstance(node, ast.Dict):
            parts = list(node.keys)
        elif isinstance(node, ast.MatchValue):
            parts = [node.value]
        else:
            continue
        found = {part.value for part in parts if isinstance(part, ast.Constant)}
        assert not found & names, f"line {node.lineno} compares with {found & names}"
