"""`xtl evaluate`, `predict` and `score`: what is wrong is one line, and nothing half-written stays."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

import adapters_xtl as xtl
from adapters_xtl.backbones import embedded
from adapters_xtl.base.errors import RequestError, RunError
from adapters_xtl.cli.commands.evaluate import evaluate
from adapters_xtl.cli.commands.predict import PredictRequest, predict
from adapters_xtl.cli.commands.score import score
from adapters_xtl.predictor import Predictor
from adapters_xtl.runs.request import Request
from tests.command_line import xtl as xtl_command


def quiet(text: str) -> None:
    pass


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def trained(runs: Path) -> str:
    embedded.prepare(quiet)
    settings = {"train.max_steps": 2, "eval.max_examples": 30}
    return xtl.recipe("mnli", backbone="tiny", set=settings, runs=runs, notify=quiet).id


def request_of(
    trained: str, runs: Path, source: Path, out: Path | None, **options: Any
) -> PredictRequest:
    defaults: dict[str, Any] = {
        **{"task": "", "layer": None, "skip_bad": False, "backbone": None, "device": "cpu"},
        "allow_mismatch": False,
    }
    return PredictRequest(
        module=trained, source=str(source), out=out, runs=str(runs), **{**defaults, **options}
    )


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    rows = [{"text": f"Text {number}.", "pair": "Another."} for number in range(300)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_lines_are_answered_in_their_order(
    trained: str, runs: Path, pairs: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    assert predict(request_of(trained, runs, pairs, out), quiet)["answered"] == 300
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["line"] for row in rows] == list(range(1, 301))


def test_a_library_that_fails_is_one_line_and_leaves_no_file(
    trained: str, runs: Path, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the second chunk of 256 lines."""
    real, calls = Predictor.predict, iter([False, True])

    def failing(self: Predictor, inputs: Any) -> Any:
        if next(calls):
            raise ValueError("a shape that\nno one expected")
        return real(self, inputs)

    monkeypatch.setattr(Predictor, "predict", failing)
    out = tmp_path / "out.jsonl"
    with pytest.raises(
        RunError, match=r"lines 257 to 300 .*nothing was written.*ValueError"
    ) as error:
        predict(request_of(trained, runs, pairs, out), quiet)
    assert "\n" not in str(error.value) and error.value.exit_code == 1
    assert {path.name for path in tmp_path.iterdir()} == {"in.jsonl"}


@pytest.mark.parametrize("layer", ["²", "٣", "08", "1.0", "99"])
def test_a_layer_is_a_whole_number_of_the_backbone(layer: str, trained: str, runs: Path) -> None:
    done = xtl_command(
        *("predict", trained, os.devnull, "-o", runs / "v.npy", "--layer", layer),
        *("--runs", runs),
        code=2,
    )
    assert "--layer" in done.stderr and layer in done.stderr


@pytest.mark.parametrize(
    ("export", "words"),
    [
        (("", "out"), "no such form"),
        (("xtrem", "out"), "did you mean 'xtreme'"),
        (("xtreme", ""), "no directory"),
    ],
)
def test_an_export_without_form_or_place_is_refused(
    export: tuple[str, str], words: str, trained: str, runs: Path
) -> None:
    request = Request(task="xnli", runs=str(runs), device="cpu")
    with pytest.raises(RequestError, match=words):
        evaluate(request, trained, layer="", export=export, force=False, notify=quiet)


def test_several_tasks_are_not_asked_of_a_module_of_one(trained: str, runs: Path) -> None:
    request = Request(task="multi", runs=str(runs), device="cpu")
    with pytest.raises(RequestError, match=r"multi.*one head.*mnli"):
        evaluate(request, trained, layer="", export=None, force=False, notify=quiet)


def test_bootstrap_gives_intervals_around_the_scores(trained: str, runs: Path) -> None:
    payload, shown = score(trained, str(runs), "200")
    bounds = payload["intervals"]["mnli"]
    for language, scores in payload["metrics"]["tasks"]["mnli"]["languages"].items():
        low, high = bounds[language]["accuracy"]
        assert 0 <= low <= scores["accuracy"] <= high <= 100 and high - low > 1
    assert payload == score(trained, str(runs), "200")[0], "the same resamples again"
    assert len(shown) == len(score(trained, str(runs))[1]) + 1
    assert "intervals" not in score(trained, str(runs))[0]
    for wrong in ("-1", "many", "1e3", "٣", "10000000"):
        with pytest.raises(RequestError, match="--bootstrap"):
            score(trained, str(runs), wrong)
