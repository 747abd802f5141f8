"""The figures in the repository are those of the recipes and rows as they are."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from adapters_xtl import methods, plan
from adapters_xtl.canon import canonical, read_json
from adapters_xtl.request import Request
from adapters_xtl.store import Store

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results"


def test_zero_shot_xnli_on_the_sample_rows(tmp_path: Path) -> None:
    """25 points over chance in each language, by the default recipe on the rows that ship."""
    found = read_json(RESULTS / "xnli-embedded.json")
    declared = {name: methods.load(name) for name in methods.names()}
    asked = Request(task="xnli", backbone="mini", data="embedded", device="cpu")
    planned = plan.make(asked, declared, store=Store(tmp_path))
    assert planned.target is not None
    now, then = asdict(planned.target.run), found["run"]
    for key in ("tasks", "data", "backbone", "method", "options", "hyper", "seed"):
        assert canonical(now[key]) == canonical(then[key]), f"{key} changed: make the figure again ({found['command']})"
    scores = {code: entry["accuracy"] for code, entry in found["metrics"]["tasks"]["xnli"]["languages"].items()}
    assert {"en", "de", "es", "fr", "zh", "hi", "ar"} <= set(scores)
    assert min(scores.values()) >= 100 / 3 + 25
