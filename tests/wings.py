"""The wings and their floors, and the two tables of the documentation that are written from them.

`make docs` writes the floor table of ARCHITECTURE.md and the tree of README.md anew from the first
sentence of every wing's docstring; `tests/test_house.py` fails when they differ.
"""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "adapters_xtl"

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


def floor_table() -> str:
    """The table of ARCHITECTURE.md, from the ground up."""
    lines = ["| floor | wing | holds |", "|---|---|---|"]
    lines += [
        f"| {floor} | `{label(wing)}` | {summary(wing)} |"
        for floor, wings in enumerate(FLOORS, start=1)
        for wing in wings
    ]
    return "\n".join(lines)


def tree() -> str:
    """The tree of README.md: what is used first stands first."""
    wings = [wing for wings in reversed(FLOORS) for wing in wings if wing != "__main__"]
    width = max(len(label(wing)) for wing in wings) + 2
    lines = ["```", "adapters_xtl/"]
    lines += [f"  {label(wing):<{width}}{summary(wing)}".replace("`", "") for wing in wings]
    lines += [f"{name:<{width + 2}}{text}".replace("`", "") for name, text in BESIDE]
    return "\n".join([*lines, "```"])


def replaced(text: str, name: str, content: str) -> str:
    """`text` with `content` between the marks `<!-- name -->` and `<!-- /name -->`."""
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, _, rest = text.partition(start)
    _, found, after = rest.partition(end)
    assert found, f"{start} … {end} are not in the text"
    return f"{before}{start}\n{content}\n{end}{after}"


def documents() -> dict[Path, str]:
    """Each document that holds such a table → its text with the table as it should be."""
    tables = {"ARCHITECTURE.md": ("wings", floor_table()), "README.md": ("tree", tree())}
    return {
        ROOT / name: replaced((ROOT / name).read_text(encoding="utf-8"), mark, content)
        for name, (mark, content) in tables.items()
    }


if __name__ == "__main__":
    for path, text in documents().items():
        path.write_text(text, encoding="utf-8")
