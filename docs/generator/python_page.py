"""The page of the Python interface: the names of `adapters_xtl.__all__`, from their signatures and
docstrings.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import adapters_xtl
from docs.generator.markdown import code

__all__ = ["python_page"]

# names that signatures use for a longer type
ALIASES = ("Files", "Named", "Notify", "Settings")
# a line of a docstring that names a parameter or a field: "out       the study's directory"
_ENTRY = re.compile(r"^(?P<name>[a-z_]+) {1,}(?P<text>\S.*)$")


def python_page() -> str:
    """One page: functions, then classes, then errors, each under its own heading."""
    names = [name for name in adapters_xtl.__all__ if not name.startswith("__")]
    values = {name: getattr(adapters_xtl, name) for name in names}
    errors = [
        n for n, value in values.items() if inspect.isclass(value) and issubclass(value, Exception)
    ]
    classes = [n for n, value in values.items() if inspect.isclass(value) and n not in errors]
    functions = [n for n in names if n not in errors and n not in classes]
    parts = [
        "# Python",
        "What is written here as `xtl.` is `adapters_xtl`, which imports in a moment: what a"
        " function needs is imported when it is first called. These names are the public interface;"
        " everything else may change.",
        "```python\nimport adapters_xtl as xtl\n```",
        "Arguments mean what the [commands'](commands.md) flags of the same name mean, and are"
        " checked as they are.",
        "## Functions",
    ]
    for name in sorted(functions):
        parts += [f"### {name}", *_function(values[name])]
    parts.append("## Objects")
    for name in sorted(classes):
        parts += [f"### {name}", _text(values[name].__doc__), *_members(values[name])]
    parts += ["## Errors", "`str(error)` is the message that the command line prints."]
    for name in sorted(errors, key=lambda each: (len(values[each].__mro__), each)):
        base = values[name].__mro__[1]
        kind = f"A kind of {code(base.__name__)}. " if base.__name__ in values else ""
        parts.append(f"### {name}\n\n{kind}{_text(values[name].__doc__)}")
    return "\n\n".join(part for part in parts if part) + "\n"


def _function(function: Callable[..., Any]) -> list[str]:
    return [_signature(function), _text(function.__doc__)]


def _members(of: type) -> list[str]:
    parts = []
    for name, member in sorted(vars(of).items()):
        if name.startswith("_"):
            continue
        if isinstance(member, property):
            parts.append(f"#### {of.__name__}.{name}\n\n{_text(member.__doc__)}")
        elif inspect.isfunction(member):
            parts += [f"#### {of.__name__}.{name}()", *_function(member)]
    return parts


def _signature(function: Callable[..., Any]) -> str:
    """A signature as Python, over several lines where one is too long. Names of types that stand
    for longer ones are written out.
    """
    signature = inspect.signature(function)
    shown: list[str] = []
    by_name = False
    for parameter in signature.parameters.values():
        if parameter.name == "self":
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not by_name:
            shown.append("*")
            by_name = True
        text = parameter.name
        if parameter.annotation is not parameter.empty:
            text += f": {_type(parameter.annotation, function)}"
        if parameter.default is not parameter.empty:
            text += f" = {getattr(parameter.default, '__name__', repr(parameter.default))}"
        shown.append(text)
    end = ")"
    if signature.return_annotation is not inspect.Signature.empty:
        end += f" -> {_type(signature.return_annotation, function)}"
    line = f"def {function.__name__}({', '.join(shown)}{end}: ..."
    if len(line) > 88:
        inner = "".join(f"    {text},\n" for text in shown)
        line = f"def {function.__name__}(\n{inner}{end}: ..."
    return f"```python\n{line}\n```"


def _type(annotation: Any, function: Callable[..., Any]) -> str:
    """An annotation as text, with the aliases of the function's module written out."""
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    for name in ALIASES:
        alias = vars(inspect.getmodule(function)).get(name)
        if alias is not None:
            text = re.sub(rf"\b{name}\b", str(alias), text)
    return re.sub(r"\b(?:collections\.abc|typing|pathlib|os)\.", "", text)


def _text(docstring: str | None) -> str:
    """A docstring as Markdown: aligned lists of names become lists, examples blocks of Python."""
    paragraphs = []
    for paragraph in inspect.cleandoc(docstring or "").split("\n\n"):
        lines = paragraph.split("\n")
        if lines[0].startswith(">>>"):
            paragraphs.append("```pycon\n" + paragraph + "\n```")
        elif _is_list(lines):
            paragraphs.append(_list(lines))
        else:
            paragraphs.append(_prose(paragraph))
    return "\n\n".join(paragraphs)


def _is_list(lines: list[str]) -> bool:
    """Whether lines are aligned entries of names, with what follows a name indented below it."""
    entries = [line for line in lines if not line.startswith(" ")]
    aligned = [line for line in entries if re.match(r"^[a-z_]+ {2,}\S", line)]
    return bool(aligned) and all(_ENTRY.match(line) for line in entries)


def _list(lines: list[str]) -> str:
    items: list[str] = []
    for line in lines:
        match = None if line.startswith(" ") else _ENTRY.match(line)
        if match:
            items.append(f"- {code(match['name'])}: {match['text']}")
        else:
            items[-1] += f" {line.strip()}"
    return _prose("\n".join(items), keep_lines=True)


def _prose(text: str, *, keep_lines: bool = False) -> str:
    """Prose of a docstring as Markdown: brackets outside code are no links."""
    text = text if keep_lines else " ".join(text.split())
    parts = text.split("`")
    parts[::2] = [part.replace("[", "\\[") for part in parts[::2]]
    return "`".join(parts)
