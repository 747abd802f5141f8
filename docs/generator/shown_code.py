"""The commands and the Python that pages show, held against the real parsers and signatures."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
from collections.abc import Iterator
from typing import Any

import adapters_xtl
from adapters_xtl import methods, tasks
from adapters_xtl.methods import COMPOSES
from adapters_xtl.runs.hyper import HYPER_FIELDS
from adapters_xtl.tasks._own_rows import own_formats
from docs.generator.command_pages import root
from docs.generator.markdown import blocks, without_blocks
from docs.generator.repository_pages import ROOT

__all__ = ["commands_of", "problems_in", "wrong_command"]

SHELL = ("sh", "bash", "console")
# programs that pages show beside `xtl` and `make`; nothing is known of their flags
OTHERS = {"pip", "python", "git", "cd", "twine", "tensorboard", "export", "apt-get", "jupyter"}
_INLINE = re.compile(r"(?<!`)`(?P<code>xtl [a-z][^`]*|make [a-z][^`]*)`(?!`)")
# makes that are commands of their own in a line of a shell
_ENDS = {"|", "&&", "||", ";", ">", "<", "&"}


def problems_in(page: str, text: str) -> list[str]:
    """One line for each command and each block of Python that is wrong."""
    problems = []
    for block in blocks(text):
        if block.language in SHELL:
            for line, tokens in commands_of(block.text):
                reason = wrong_command(tokens)
                if reason:
                    problems.append(f"{page}:{block.line + line}: {shlex.join(tokens)}: {reason}")
        elif block.language == "python":
            problems += [f"{page}:{block.line}: {reason}" for reason in _wrong_python(block.text)]
    for match in _INLINE.finditer(without_blocks(text)):
        reason = _wrong_mention(match["code"])
        if reason:
            problems.append(f"{page}: {match['code']}: {reason}")
    return problems


def commands_of(block: str) -> Iterator[tuple[int, list[str]]]:
    """(line of the block, words) of every command in a block of shell; comments are left out."""
    started, words = 0, ""
    for number, line in enumerate(block.split("\n")):
        started = number if not words else started
        words += line.removeprefix("$ ")
        if words.endswith("\\"):
            words = words[:-1]
            continue
        tokens: list[str] = []
        for token in shlex.split(words, comments=True):
            if token in _ENDS:
                if tokens:
                    yield started, tokens
                tokens = []
            else:
                tokens.append(token)
        if tokens:
            yield started, tokens
        words = ""


def wrong_command(tokens: list[str]) -> str:
    """Why a command would be refused before it does anything; "" where it would not."""
    while tokens and re.match(r"^[A-Z_]+=", tokens[0]):
        tokens = tokens[1:]
    program = tokens[0].rpartition("/")[2] if tokens else ""
    if program == "xtl":
        return _wrong_xtl(tokens[1:])
    if program == "make":
        return _wrong_make(tokens[1:])
    return "" if not program or program in OTHERS else f"{program} is no program that is known here"


def _wrong_xtl(arguments: list[str]) -> str:
    command, context, name, rest = root(), None, "xtl", arguments
    try:
        while True:
            wants_help = rest == ["--help"]
            context = command.make_context(
                name, [] if wants_help else list(rest), parent=context, resilient_parsing=wants_help
            )
            if wants_help or not hasattr(command, "commands"):
                break
            rest = [*context._protected_args, *context.args]
            name, command, rest = command.resolve_command(context, rest)
    except Exception as error:  # the parser's own, and those of the flags' parsers
        shown = error.format_message() if hasattr(error, "format_message") else error
        return f"{type(error).__name__}: {shown}"
    return "" if wants_help else _wrong_values(name, context.params)


def _wrong_values(command: str, values: dict[str, Any]) -> str:
    """Names that parse, and that no task, method or setting has."""
    task = values.get("task") or ""
    names = {*tasks.names(), *own_formats(), "all", "TASK"}
    for name in [] if command == "import" else filter(None, task.split(",")):
        if name not in names:
            return f"no task {name}"
    for name in filter(None, [values.get("method"), *(values.get("methods") or "").split(",")]):
        if name.partition("@")[0] not in {*methods.names(), "bitfit"}:
            return f"no method {name}"
    if values.get("compose") not in (None, "", *COMPOSES):
        return f"no composition {values['compose']}"
    for text in [*(values.get("set_") or ()), *(values.get("set_parents") or ())]:
        key = text.partition("=")[0].rpartition(":")[2]
        section, _, name = key.partition(".")
        if section == "train" and name not in HYPER_FIELDS:
            return f"no setting {key}"
        if "=" not in text:
            return f"{text}: expected key=value"
    return ""


def _wrong_make(arguments: list[str]) -> str:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    variables = set(re.findall(r"\$\(?\(?(?:if \$\()?([A-Z_]+)", makefile))
    variables |= set(re.findall(r"\$\((?:foreach \w+,\$\()?([A-Z_]+)\b", makefile))
    variables |= set(re.findall(r"^([A-Z_]+) *[?:]?=", makefile, re.MULTILINE))
    for word in arguments:
        name, equals, _ = word.partition("=")
        if equals and name not in variables:
            return f"no variable {name}"
        if not equals and name not in targets:
            return f"no target {name}"
    return ""


def _wrong_mention(code: str) -> str:
    """Why a command in the running text, which may be only its beginning, is wrong."""
    if code.startswith("make "):
        return _wrong_make([word for word in shlex.split(code)[1:] if "…" not in word])
    words = code.split()[1:]
    command = root()
    context = command.make_context("xtl", [], resilient_parsing=True)
    while words and hasattr(command, "commands") and words[0] in command.commands:
        command = command.get_command(context, words.pop(0))
    if hasattr(command, "commands") and words and words[0].isalpha() and words[0].islower():
        return f"no command {words[0]}"
    flags = {flag for parameter in command.get_params(context) for flag in parameter.opts}
    if command.get_params(context) and hasattr(command, "commands"):
        return ""
    unknown = [word for word in words if word.startswith("--") and word.rstrip(",.;") not in flags]
    return f"no option {unknown[0]}" if unknown else ""


def _wrong_python(code: str) -> list[str]:
    try:
        tree = ast.parse(code)
    except SyntaxError as error:
        return [f"line {error.lineno} is no Python: {error.msg}"]
    problems = []
    for node in ast.walk(tree):
        if _is_ours(node) and node.attr not in adapters_xtl.__all__:  # type: ignore[attr-defined]
            problems.append(f"adapters_xtl has no {node.attr}")  # type: ignore[attr-defined]
        elif isinstance(node, ast.Call) and _is_ours(node.func):
            function = getattr(adapters_xtl, node.func.attr, None)  # type: ignore[attr-defined]
            known = inspect.signature(function).parameters if function else {}
            problems += [
                f"{node.func.attr}() has no argument {keyword.arg}"  # type: ignore[attr-defined]
                for keyword in node.keywords
                if function and keyword.arg and keyword.arg not in known
            ]
    return problems


def _is_ours(node: ast.AST) -> bool:
    """Whether a node is `xtl.NAME` or `adapters_xtl.NAME`."""
    return (
        isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in ("xtl", "adapters_xtl")
    )
