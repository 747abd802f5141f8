"""A page for each command, from the parsers that read its flags."""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any

from typer.main import get_command

from adapters_xtl.cli import app
from docs.generator.markdown import code, table

__all__ = ["command_pages", "context_of", "overview", "root"]

HIDDEN_OPTIONS = ("help",)


@cache
def root() -> Any:
    """`xtl` itself: the group of all commands."""
    return get_command(app)


def context_of(command: Any, name: str, parent: Any = None) -> Any:
    """The context in which a command's usage is written, without arguments."""
    if parent is None:
        return command.make_context(name, [], resilient_parsing=True)
    return type(parent)(command, info_name=name, parent=parent)


def _commands(group: Any, context: Any) -> dict[str, Any]:
    """Name → command, without those that are hidden."""
    every = {name: group.get_command(context, name) for name in group.list_commands(context)}
    return {name: command for name, command in every.items() if not command.hidden}


def command_pages() -> dict[str, str]:
    """Path → page, one for each command of `xtl`; the commands of a group share its page."""
    xtl = root()
    context = context_of(xtl, "xtl")
    return {
        f"commands/{name}.md": _page(name, command, context)
        for name, command in _commands(xtl, context).items()
    }


def overview() -> str:
    """A table of all commands with what they do."""
    xtl = root()
    context = context_of(xtl, "xtl")
    rows = []
    for name, command in _commands(xtl, context).items():
        rows.append((f"[{code(f'xtl {name}')}](commands/{name}.md)", _first_sentence(command.help)))
        if hasattr(command, "commands"):
            inner = context_of(command, name, context)
            rows += [
                (
                    f"[{code(f'xtl {name} {sub}')}](commands/{name}.md#xtl-{name}-{sub})",
                    _first_sentence(subcommand.help),
                )
                for sub, subcommand in _commands(command, inner).items()
            ]
    return table(("command", "what it does"), rows)


def _first_sentence(help: str) -> str:
    return _cell(inspect.cleandoc(help or "").split("\n\n")[0])


def _page(name: str, command: Any, context: Any) -> str:
    own = context_of(command, name, context)
    parts = [f"# xtl {name}"]
    if not hasattr(command, "commands"):
        return "\n\n".join([*parts, *_body(command, own)]) + "\n"
    parts += [_usage(command, own), _paragraphs(command.help)]
    for sub, subcommand in _commands(command, own).items():
        parts += [f"## xtl {name} {sub}", *_body(subcommand, context_of(subcommand, sub, own))]
    return "\n\n".join(parts) + "\n"


def _body(command: Any, context: Any) -> list[str]:
    parts = [_usage(command, context), _paragraphs(command.help)]
    arguments, options = [], []
    for parameter in command.get_params(context):
        if parameter.name in HIDDEN_OPTIONS or getattr(parameter, "hidden", False):
            continue
        shown, meaning = parameter.get_help_record(context)
        meaning = _cell(meaning.replace("[required]", ""))
        if parameter.param_type_name == "argument":
            name = shown.split(" <")[0].strip("[]")
            arguments.append((code(name), meaning))
        else:
            if isinstance(parameter.default, list):
                meaning = f"{meaning} May be given several times."
            options.append((code(_flag(shown)), meaning))
    if any(meaning for _, meaning in arguments):
        parts.append(table(("argument", "what it is"), arguments))
    if options:
        parts.append(table(("option", "what it does"), options))
    return parts


def _flag(shown: str) -> str:
    """`--on <str>` → `--on VALUE`; a metavar of our own stays."""
    name, _, kind = shown.partition(" <")
    return f"{name} VALUE" if kind else name


def _usage(command: Any, context: Any) -> str:
    usage = command.get_usage(context).removeprefix("Usage: ")
    return f"```text\n{' '.join(usage.split())}\n```"


def _paragraphs(help: str) -> str:
    return "\n\n".join(
        _escaped(" ".join(part.split())) for part in inspect.cleandoc(help or "").split("\n\n")
    )


def _escaped(text: str) -> str:
    """Text of a help as Markdown: what would be taken for marks is shown as it is."""
    if "`" in text:
        return text
    return text.replace("*", "\\*").replace("<", "&lt;").replace("_", "\\_").replace("[", "\\[")


def _cell(text: str) -> str:
    return _escaped(" ".join((text or "").split())).replace("|", "\\|")
