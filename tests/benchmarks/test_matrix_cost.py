"""What a matrix costs: shared trainings are counted once, and the prediction is the formula's."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import matrix_cost
from benchmarks.matrix_cost import Training


def test_a_part_of_the_matrix() -> None:
    """Two modules of 2 and 3 MB on an encoder of 470 MB."""
    module = Training(100.0, 2_000_000, 470_000_000), Training(50.0, 3_000_000, 470_000_000)
    part = matrix_cost.part((1, 1, 1), module)
    assert (part.modules.trainings, part.modules.seconds) == (2, 150)
    assert (part.modules.stored_bytes, part.full.stored_bytes) == (5_000_000, 945_000_000)
    assert part.full.seconds == 225
    assert matrix_cost.sizes(9) == [1, 5, 9] and matrix_cost.sizes(1) == [1]
    assert matrix_cost.ends(0) == []


@pytest.mark.slow
def test_a_finished_study_is_measured(tmp_path: Path) -> None:
    """Of two targets after nothing and after one intermediate task: five trainings of each method,
    whose seconds and bytes are those of their records.
    """
    axes = ["task=panx,xquad", "on=none,mnli", "method=lora,full", "seeds=1"]
    command = [sys.executable, "-m", "adapters_xtl", "study", "smoke", "--runs", str(tmp_path)]
    subprocess.run([*command, *(part for axis in axes for part in ("--set", axis))], check=True)
    (study,) = (tmp_path / "studies").iterdir()
    assert matrix_cost.main([str(study), "--out", str(tmp_path / "out")]) == 0
    (path,) = (tmp_path / "out").glob("*.json")
    record = json.loads(path.read_text())
    assert "so are those of full fine-tuning" in record["what"]
    whole = record["parts"][-1]
    assert [whole[key] for key in ("targets", "intermediates", "seeds")] == [2, 1, 1]
    for method, cost in (("lora", whole["modules"]), ("full", whole["full"])):
        records = [
            json.loads((path.parent / "metrics.json").read_text())["train"]
            for path in tmp_path.glob("*/*/spec.json")
            for spec in [json.loads(path.read_text())]
            if spec["kind"] == "training" and spec["run"]["method"] == method
        ]
        assert cost["trainings"] == len(records) == 5
        assert cost["seconds"] == pytest.approx(sum(one["seconds"] for one in records))
        assert cost["stored_bytes"] == sum(one["stored_bytes"] for one in records)


def test_xlmr_large_is_predicted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Six targets, ten intermediates, three seeds: 3 · (10 + 6 · 11) trainings."""
    given = ["--out", str(tmp_path), "--examples", "3000", "--max-length", "100", "--rate", "1e12"]
    assert matrix_cost.main(["xlmr-large", *given]) == 0
    record = json.loads((tmp_path / "xlmr-large.json").read_text())
    last = record["parts"][-1]
    trainings = 3 * (10 + 6 * 11)
    assert [last[key] for key in ("targets", "intermediates", "seeds")] == [6, 10, 3]
    assert last["modules"]["trainings"] == last["full"]["trainings"] == trainings
    weights = 24 * 12 * 1024**2
    assert last["modules"]["seconds"] == pytest.approx(trainings * 4 * weights * 1e5 / 1e12)
    assert last["full"]["seconds"] == pytest.approx(1.5 * last["modules"]["seconds"])
    # XLM-R Large's 559 M parameters (its table of 250,002 tokens alone has 256 M), without pooler
    assert last["full"]["stored_bytes"] / trainings == pytest.approx(4 * 559.9e6, rel=0.005)
    assert record["peak_bytes"]["full"] > record["peak_bytes"]["lora"]
    assert "| 6 | 10 | 3 | 228 |" in capsys.readouterr().out
