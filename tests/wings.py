"""The wings and their floors, and the tree of ARCHITECTURE.md that is written from them.

`make docs` writes the tree anew from the first sentence of every wing's docstring;
`tests/test_house.py` fails when they differ.
"""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "adapters_xtl"
ARCHITECTURE = ROOT / "ARCHITECTURE.md"

# from the ground up: a file imports from its own wing and from floors below
FLOORS = (
    ("base",),
    ("tasks", "metrics"),
    ("formats", "backbones"),
    ("methods", "data"),
    ("memory",),
    ("runs",),
    ("sharing",),
    ("planning", "models"),
    ("training", "evaluation"),
    ("experiment", "predictor", "export", "representation"),
    ("engines",),
    ("grid",),
    ("studies",),
    ("pages",),
    ("cli",),
    ("__main__",),
)
FLOOR_OF = {wing: floor for floor, wings in enumerate(FLOORS) for wing in wings}

BESIDE = (
    ("docs/", "the documentation's pages, and `generator/`, which builds its site"),
    ("recipes/", "one TOML file a task: the settings that differ from the defaults"),
    ("benchmarks/", "scripts that measure, and the results they wrote as JSON"),
    ("tests/", "one folder a wing; `dropped_in/` holds the examples of CONTRIBUTING.md"),
)


def summary(wing: str) -> str:
    """The first sentence of a wing's docstring, on one line and without its full stop."""
    path = PACKAGE / wing / "__init__.py"
    path = path if path.is_file() else PACKAGE / f"{wing}.py"
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split()).removesuffix(".")


def label(wing: str) -> str:
    return f"{wing}/" if (PACKAGE / wing).is_dir() else f"{wing}.py"


def tree() -> str:
    """The tree of ARCHITECTURE.md, with the floor of each wing: what is used first stands first."""
    wings = [wing for wings in reversed(FLOORS) for wing in wings]
    width = max(len(label(wing)) for wing in wings) + 2
    lines = ["```", f"{'adapters_xtl/':<{width}}floor"]
    lines += [
        f"  {label(wing):<{width}}{FLOOR_OF[wing] + 1:>3}  {summary(wing)}".replace("`", "")
        for wing in wings
    ]
    lines += [f"{name:<{width + 2}}     {text}".replace("`", "") for name, text in BESIDE]
    return "\n".join([*lines, "```"])


def replaced(text: str, name: str, content: str) -> str:
    """`text` with `content` between the marks `<!-- name -->` and `<!-- /name -->`."""
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, _, rest = text.partition(start)
    _, found, after = rest.partition(end)
    assert found, f"{start} … {end} are not in the text"
    return f"{before}{start}\n{content}\n{end}{after}"


def architecture() -> str:
    """ARCHITECTURE.md with the tree as it should be."""
    return replaced(ARCHITECTURE.read_text(encoding="utf-8"), "tree", tree())


if __name__ == "__main__":
    ARCHITECTURE.write_text(architecture(), encoding="utf-8")
