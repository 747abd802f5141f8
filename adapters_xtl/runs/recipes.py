"""Recipe files: `recipes/TASK.toml` holds where a task's training deviates from the defaults.

`[train]` holds hyper-parameters; `[train.METHOD]`, `[train.embedded]` and `[train.embedded.METHOD]`
those for one method, for the embedded rows, and for both; `[train.on-mini.METHOD]` those for one
method on the embedded encoder, whose rates are not those of larger ones; `[method.METHOD]` a
method's options.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from adapters_xtl import methods
from adapters_xtl.base.errors import Problems, RequestError, clipped, nearest

__all__ = ["Recipe", "RecipeTable", "read_recipe", "recipes_dir"]

MINI = "mini"  # the embedded encoder's name
ON_MINI = f"on-{MINI}"
PACKAGE = Path(__file__).parent.parent


@dataclass(frozen=True)
class RecipeTable:
    """One table of a recipe.

    origin    file and table, for messages
    method    the method that it is for; "" for every method
    embedded  whether it is for the embedded rows alone
    on_mini   whether it is for the embedded encoder alone
    train     hyper-parameter → value, as TOML has it
    options   option of the method → value, as TOML has it
    """

    origin: str
    method: str = ""
    embedded: bool = False
    on_mini: bool = False
    train: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    def applies(self, method: str, backbone: str, *, embedded: bool) -> bool:
        fits = backbone == MINI or not self.on_mini
        return fits and self.method in ("", method) and (embedded or not self.embedded)


@dataclass(frozen=True)
class Recipe:
    """The tables of a recipe file, the weakest first; none where the task has no file."""

    path: Path | None = None
    tables: tuple[RecipeTable, ...] = ()


def recipes_dir() -> Path:
    """`recipes/`: beside the package in a checkout, inside it in an installed wheel."""
    inside = PACKAGE / "recipes"
    return inside if inside.is_dir() else PACKAGE.parent / "recipes"


def read_recipe(task: str, directory: Path | None = None) -> Recipe:
    """The recipe of a task. RequestError with every table and key that a recipe cannot have."""
    path = (directory or recipes_dir()) / f"{task}.toml"
    if not path.is_file():
        return Recipe()
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise RequestError(f"{path}: nested too deeply") from error
    except (ValueError, OSError) as error:  # no TOML, no UTF-8, an integer of 5,000 digits
        raise RequestError(f"{path}: {clipped(error, 200)}") from error
    problems = Problems()
    tables = _Tables(path, problems).read(document)
    problems.raise_if_any()
    return Recipe(path, tables)


class _Tables:
    """Takes a recipe's document apart; what has the wrong form is added to `problems`."""

    def __init__(self, path: Path, problems: Problems) -> None:
        self.path, self.problems = path, problems
        self.methods = methods.names()

    def read(self, document: Mapping[str, Any]) -> tuple[RecipeTable, ...]:
        for name in document.keys() - {"train", "method"}:
            self._unknown(name, ("train", "method"))
        train, inner = self._split(self._table(document, "train"))
        tables = [RecipeTable(str(self.path), train=train)]
        for name in inner:
            if name not in self._conditions():
                self._unknown(f"train.{name}", [f"train.{item}" for item in self._conditions()])
        for method in self.methods:
            tables += self._for_method(inner, method, f"train.{method}", embedded=False)
        on_mini = self._table(inner, ON_MINI, "train.")
        for name in on_mini:
            if name not in self.methods:
                self._unknown(
                    f"train.{ON_MINI}.{name}", [f"train.{ON_MINI}.{item}" for item in self.methods]
                )
        for method in self.methods:
            tables += [
                replace(table, on_mini=True)
                for table in self._for_method(
                    on_mini, method, f"train.{ON_MINI}.{method}", embedded=False
                )
            ]
        embedded, deeper = self._split(self._table(inner, "embedded", "train."))
        tables.append(RecipeTable(f"{self.path} [train.embedded]", "", True, train=embedded))
        for name in deeper:
            if name not in self.methods:
                self._unknown(
                    f"train.embedded.{name}", [f"train.embedded.{item}" for item in self.methods]
                )
        for method in self.methods:
            tables += self._for_method(deeper, method, f"train.embedded.{method}", embedded=True)
        by_method = self._table(document, "method")
        for name in by_method:
            if name not in self.methods:
                self._unknown(f"method.{name}", [f"method.{item}" for item in self.methods])
        for method in self.methods:
            options = self._table(by_method, method, "method.")
            tables.append(
                RecipeTable(f"{self.path} [method.{method}]", method, options=dict(options))
            )
        return tuple(table for table in tables if table.train or table.options)

    def _conditions(self) -> tuple[str, ...]:
        return ("embedded", ON_MINI, *self.methods)

    def _unknown(self, name: str, valid_names: Any) -> None:
        self.problems.add(
            f"{self.path}: unknown table [{clipped(name)}]{nearest(name, valid_names)}"
        )

    def _table(self, outer: Mapping[str, Any], name: str, prefix: str = "") -> Mapping[str, Any]:
        """The table `name` of another; empty where it is not there, or is no table."""
        value = outer.get(name, {})
        if isinstance(value, dict):
            return value
        form = "a list of tables" if isinstance(value, list) else clipped(value)
        self.problems.add(f"{self.path}: {prefix}{name} is a table, [{prefix}{name}], not {form}")
        return {}

    def _split(self, table: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """(keys that hold values, keys that hold tables or stand where only tables can)."""
        conditions = self._conditions()
        inner = {k: v for k, v in table.items() if isinstance(v, dict) or k in conditions}
        return {key: value for key, value in table.items() if key not in inner}, inner

    def _for_method(
        self, tables: Mapping[str, Any], method: str, name: str, *, embedded: bool
    ) -> list[RecipeTable]:
        """`[train.METHOD]` or `[train.embedded.METHOD]`, in which no further table can stand."""
        prefix = name.removesuffix(method)
        values, inner = self._split(self._table(tables, method, prefix))
        for key in inner:
            self.problems.add(f"{self.path}: [{name}.{clipped(key)}]: [{name}] holds no tables")
        return [RecipeTable(f"{self.path} [{name}]", method, embedded, train=values)]
