"""A finished module is scored on rows that were tokenized before: the same predictions, whatever
lies in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters_xtl.backbones import embedded
from adapters_xtl.backbones.registry import NAMED
from adapters_xtl.base.cache_budget import TOKENIZED
from adapters_xtl.base.errors import RequestError
from adapters_xtl.cli.commands.evaluate import evaluate
from adapters_xtl.evaluation import retrieval
from adapters_xtl.models import encoded_files
from adapters_xtl.models.encoded_files import EncodedFiles, stored_files
from adapters_xtl.models.encoded_rows import EncodedRows
from adapters_xtl.models.network import EncoderSpec, StackSpec, build
from adapters_xtl.runs.request import Request
from tests.finished_runs import finished_run


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    mini = embedded.prepare(lambda text: None)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "mini").symlink_to(mini.parent)
    monkeypatch.setenv("XTL_CACHE", str(tmp_path / "cache"))
    yield


def scored(runs: Path, module: str, lines: list[str]) -> tuple[dict[str, Any], bytes]:
    """The metrics of `xtl evaluate`, made anew, and the predictions."""
    request = Request("mnli", data="embedded", device="cpu", runs=str(runs))
    payload, _ = evaluate(request, module, layer="", export=None, force=True, notify=lines.append)
    (path,) = Path(payload["path"]).glob("predictions/mnli/*.jsonl")
    return payload["metrics"], path.read_bytes()


def test_evaluations_share_tokenized_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = tmp_path / "runs"
    module = finished_run(runs, "mnli")["path"]
    encoded_files.clear()
    monkeypatch.setenv(TOKENIZED, "0")
    without = scored(runs, module, [])
    assert without[0]["tasks"]["mnli"]["languages"]["en"]["n"] >= encoded_files.LEAST
    assert not stored_files()
    monkeypatch.delenv(TOKENIZED)
    assert scored(runs, module, []) == without, "made and kept"
    ((used, size, path),) = stored_files()
    whole, lines = path.read_bytes(), list[str]()
    assert scored(runs, module, lines) == without, "read"
    assert stored_files()[0][0] > used and not any("tokenized" in line for line in lines)
    for damaged in (whole[: size // 2], whole[:-1] + bytes([whole[-1] ^ 1])):
        path.write_bytes(damaged)
        lines = []
        assert scored(runs, module, lines) == without, "refused and made again"
        assert sum("made again" in line for line in lines) == 1
        assert path.read_bytes() == whole
    monkeypatch.setenv(TOKENIZED, "much")
    with pytest.raises(RequestError, match="XTL_TOKENIZED_GIB=much"):
        scored(runs, module, [])


def test_sentences_are_kept_too() -> None:
    model = build(EncoderSpec(NAMED["tiny"], "lora"), StackSpec(), {}, train=False)
    rows = [{"source": f"sentence {n}", "target": f"Satz {n}"} for n in range(4)]

    def vectors() -> np.ndarray[Any, Any]:
        made = retrieval.vectors_of(
            model, "retrieve", rows, layer="", device="cpu", dtype="float32"
        )
        return made.vectors

    plain = vectors()
    for _ in range(2):  # made, then read
        model.encoded_rows = EncodedRows()
        model.encoded_rows.files = EncodedFiles(print, least=1)
        assert np.array_equal(vectors(), plain) and len(stored_files()) == 1
