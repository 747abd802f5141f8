"""The class of every typer command here: it refuses values that are empty."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand

from adapters_xtl.base.errors import Problems

__all__ = ["Commands"]

F = TypeVar("F", bound=Callable[..., Any])


class _Command(TyperCommand):
    """A command whose arguments and options may be left out, but not given as empty text.

    An empty text is nearly always a shell variable that was never set, and would otherwise mean the
    current directory for one flag and "not given" for another.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        raw, _, _ = self.make_parser(ctx).parse_args(args=list(args))
        problems = Problems()
        for parameter in self.params:
            if _holds_empty_text(raw.get(str(parameter.name))):
                is_option = parameter.param_type_name == "option"
                name = parameter.opts[-1] if is_option else str(parameter.name).upper().strip("_")
                problems.add(f"{name} '': is empty; give a value or leave it out")
        problems.raise_if_any()
        return super().parse_args(ctx, args)


class Commands(typer.Typer):
    """A group of such commands."""

    def command(self, name: str | None = None, **options: Any) -> Callable[[F], F]:
        return super().command(name, **{"cls": _Command, **options})


def _holds_empty_text(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(_holds_empty_text(part) for part in value)
    return isinstance(value, str) and not value.strip()
