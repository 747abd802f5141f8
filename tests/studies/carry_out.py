"""A study carried out in this process, as `xtl study` does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from adapters_xtl.backbones import embedded
from adapters_xtl.cli.commands import study as command


def carry_out(name: str | Path, runs: Path, *set_: str, **options: Any) -> dict[str, Any]:
    """The record of a study, by name or file; `options` are those of the command."""
    embedded.prepare(lambda text: None)
    flags: dict[str, Any] = {
        "engine": "local",
        "jobs": 1,
        "engine_options": {},
        "retry_failed": False,
        "preview_only": False,
        "out": None,
        "report_to": "",
        "command": "xtl study",
        "notify": lambda text: None,
        **options,
    }
    payload, _ = command.study(str(name), set_=set_, runs=str(runs), **flags)
    return payload


def carry_out_whole(name: str | Path, runs: Path, *set_: str) -> dict[str, Any]:
    """The same, on the CPU, where no cell may fail."""
    payload = carry_out(name, runs, "device=cpu", *set_)
    assert not payload["failed"], payload["failed"]
    return payload
