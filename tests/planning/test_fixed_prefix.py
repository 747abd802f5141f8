"""What a plan says of fixed lower layers: bytes, work, and what retrieval sees of the modules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from adapters_xtl.cli.commands import cache as cache_command
from adapters_xtl.cli.commands import plan as command
from adapters_xtl.cli.commands.recipe import request


def planned(runs: Path, **options: Any) -> tuple[dict[str, Any], str]:
    given: dict[str, Any] = {
        **{"task": "mnli", "backbone": "mini", "data": "embedded", "device": "cpu"},
        **{"method": "lora", "bits": "32", "on": "", "set_": (), "set_parents": ()},
        **{"runs": str(runs), **options},
    }
    asked = request(**given)
    payload, shown = command.plan(asked, None)
    return payload, "\n".join(map(str, [*payload["notes"], *shown]))


def test_bytes_and_work_follow_from_the_layer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """12 layers, the lower 6 fixed: 12 parts of work a step instead of 18; 128 × 384 floats."""
    monkeypatch.setenv("XTL_PREFIX_GIB", "0.1875")
    settings = ["train.max_examples=1600", "train.max_length=128", "train.dtype=float32"]
    payload, shown = planned(tmp_path, from_layer=6, set_=settings)
    prefix = payload["prefix"]
    assert prefix["text_bytes"] == 128 * 384 * 4 and prefix["bytes"] == 1600 * 128 * 384 * 4
    assert prefix["relative_step"] == round(12 / 18, 3)
    assert prefix["relative_computing"] == round(6 / 18, 3)
    assert "300.0 MiB for at most 1,600 texts of 128 tokens" in shown
    assert "XTL_PREFIX_GIB=0.1875 holds those of 1,024 such texts" in shown
    assert prefix["texts_in_budget"] == 1024
    payload, _ = planned(tmp_path, from_layer=6, set_=[*settings[:2], "train.dtype=bfloat16"])
    assert payload["prefix"]["text_bytes"] == 128 * 384 * 2, "kept in the compute type"
    payload, _ = planned(tmp_path, from_layer=6, set_=["train.prefix=dropout"])
    assert payload["prefix"] is None
    payload, shown = planned(tmp_path, from_layer=6)
    assert payload["prefix"]["texts"] is None and "for 1,000 texts" in shown


@pytest.mark.parametrize(
    ("layer", "warning"),
    [(0, ""), (3, ""), (6, "there is 1 layer with a module"), (9, "no layer with a module")],
)
def test_a_line_warns_where_retrieval_sees_little_of_the_modules(
    layer: int, warning: str, tmp_path: Path
) -> None:
    """Of 12 layers it reads hidden state 7."""
    _, shown = planned(tmp_path, from_layer=layer)
    assert ("retrieval and embed() read hidden state 7 of 12" in shown) == bool(warning)
    assert warning in shown


def test_the_cache_is_shown_and_cleared_when_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XTL_CACHE", str(tmp_path / "none"))
    payload, lines = cache_command.show()
    assert payload["spaces"] == [] and payload["bytes"] == 0 and str(tmp_path) in str(lines[-1])
    assert cache_command.clear()[0] == {"bytes": 0, "tokenized_bytes": 0}
