"""How a command ends: empty values, what the system refuses, interrupts, long values."""

from __future__ import annotations

import errno

import pytest

from adapters_xtl.base.errors import RequestError
from adapters_xtl.cli import app, failures


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["recipe", ""], "TASK"),
        (["recipe", "mnli", "--runs", ""], "--runs"),
        (["recipe", "mnli", "--on="], "--on"),
        (["recipe", "mnli", "--json", "--data", " "], "--data"),
        (["recipe", "mnli", "--set", "train.lr=1", "--set", ""], "--set"),
        (["evaluate", "runs/x", "--export", "xtreme", ""], "--export"),
        (["evaluate", "runs/x", "--export", "", "OUT"], "--export"),
        (["predict", "runs/x", "-o", ""], "--out"),
        (["compare", "xnli", "--tune-seeds", ""], "--tune-seeds"),
        (["data", "check", "--data", ""], "--data"),
        (["data", "import", "xtreme", "", "OUT"], "SOURCE"),
        (["hub", "push", "runs/x", ""], "DEST"),
    ],
)
def test_an_empty_value_is_refused_by_the_name_of_its_flag(arguments: list[str], name: str) -> None:
    with pytest.raises(RequestError, match=f"^{name} ''"):
        app(arguments, standalone_mode=False)


def said(error: BaseException, command: str) -> tuple[int, list[str]]:
    lines: list[str] = []
    return failures.report(error, command, lines.append), lines


def test_a_full_disk_is_named_where_the_system_names_no_file() -> None:
    code, lines = said(OSError(errno.ENOSPC, "No space left on device"), "recipe")
    assert code == 1 and len(lines) == 1
    assert "/" in lines[0] and "No space left on device" in lines[0]


def test_a_file_that_the_system_names_stands_first() -> None:
    code, lines = said(OSError(errno.EIO, "Input/output error", "/x/y.json"), "runs")
    assert (code, lines) == (1, ["xtl: /x/y.json: Input/output error"])
    code, lines = said(PermissionError(errno.EACCES, "Permission denied", "/x/y.json"), "page")
    assert code == 2 and lines[0].startswith("xtl: /x/y.json: permission denied; ")


@pytest.mark.parametrize(("command", "trains"), [("recipe", True), ("tasks", False)])
def test_advice_on_memory_and_on_going_on_is_given_to_commands_that_train(
    command: str, trains: bool
) -> None:
    code, lines = said(MemoryError(), command)
    assert code == 1 and ("train.batch_size" in lines[0]) == trains
    code, lines = said(KeyboardInterrupt(), command)
    assert code == 130 and ("goes on" in lines[0]) == trains


def test_a_value_of_thousands_of_characters_is_not_echoed_whole() -> None:
    code, lines = said(RequestError(f"--data {'x' * 5000}: no such directory"), "recipe")
    assert code == 2 and len(lines[0]) < 300
    assert "no such directory" in lines[0] and "5,000" in lines[0]
    assert all(len(line) < 2100 for line in said(RequestError("a b " * 5000), "recipe")[1])


def test_an_error_of_ours_is_not_hidden() -> None:
    with pytest.raises(RuntimeError, match="a fault"):
        failures.report(RuntimeError("a fault"), "recipe", print)
