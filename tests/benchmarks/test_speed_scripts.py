"""Each speed benchmark on a few rows of `tiny`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from adapters_xtl import tasks
from benchmarks import encode_speed, score_speed, speed_tools, train_speed, trainer_script
from tests.benchmarks import forked

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _forked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed_tools, "measured", forked.measured)
    monkeypatch.setattr(speed_tools, "matrix_rate", lambda device: 1e9)


def test_a_stack_on_few_rows(tmp_path: Path) -> None:
    """Same rows, steps, tokens and trainable parameters for the script and for the package."""
    flags = [
        "--backbone",
        "tiny",
        "--works",
        "stack-lora",
        "--only",
        "stock,no-techniques",
        "--rounds",
        "1",
    ]
    flags += ["--rows", "40", "--dev-rows", "20", "--out", str(tmp_path / "speed")]
    assert train_speed.main(["embedded", *flags]) == 0
    record = json.loads((tmp_path / "speed" / "train-stack-lora-tiny-cpu.json").read_text())
    (one,) = record["rounds"]
    stock, plain = one["contenders"]["stock"], one["contenders"]["no-techniques"]
    for figure in ("steps", "examples", "tokens", "trainable_parameters"):
        assert stock[figure] == plain[figure], figure
    assert (stock["steps"], stock["examples"]) == (2, 40)
    assert stock["padded_tokens"] > stock["tokens"] > 40 * 3
    assert record["spec"]["parents"]
    page = (tmp_path / "speed" / "README.md").read_text()
    assert "| stock |" in page and "| no-techniques |" in page and str(tmp_path) not in page


def test_the_script_on_every_format(tmp_path: Path) -> None:
    """Bottlenecks in upper layers, long inputs in windows, bf16 with length groups."""
    encoder = speed_tools.encoder_folder("tiny", tmp_path)
    hyper = {"batch_size": 8, "lr": 1e-3, "epochs": 1.0, "max_steps": 0, "warmup": 0.0}
    hyper |= {"weight_decay": 0.0, "clip": 1.0, "dropout": 0.1, "max_length": 48, "stride": 128}
    paths = []
    for name, method, options in (
        (
            "mnli",
            "bottleneck",
            {"mh_adapter": False, "output_adapter": True, "reduction_factor": 4},
        ),
        ("squad1", "lora", {"r": 2, "lora_alpha": 4}),
    ):
        task = tasks.load(name)
        train, dev = speed_tools.cut("embedded", name, 16, 8, tmp_path / name)
        job = trainer_script.Job(
            **{"tuned": True, "format": task.format, "scorer": task.scorer, "metric": task.metric},
            **{"labels": list(task.labels), "train": str(train), "dev": str(dev)},
            **{"encoder": str(encoder), "method": method, "parents": [], "from_layer": 2},
            **{
                "options": {"non_linearity": "relu", **options}
                if method == "bottleneck"
                else options
            },
            **{"hyper": hyper, "seed": 1, "device": "cpu"},
        )
        paths.append(tmp_path / f"{name}.json")
        paths[-1].write_text(json.dumps(asdict(job)))
    spans = forked.measured(["-m", "benchmarks.trainer_script", *map(str, paths)], {})["answer"]
    assert spans["examples"] > 16, "a context that is longer than the limit makes several windows"
    assert spans["steps"] == -(-spans["examples"] // 8)
    assert 0 <= spans["score"] <= 100 and spans["padded_tokens"] >= spans["tokens"]
    # LoRA of rank 2 on six layers in two of four encoder layers, and a head of two outputs
    assert spans["trainable_parameters"] == 2 * 2 * (4 * 64 + 2 * 96) + 2 * 32 + 2


def test_scoring_few_rows(tmp_path: Path) -> None:
    flags = ["--backbone", "tiny", "--rounds", "1", "--out", str(tmp_path)]
    flags += ["--languages", "3", "--rows", "4", "--train-rows", "32", "--train-steps", "2"]
    assert score_speed.main(["embedded", *flags]) == 0
    record = json.loads((tmp_path / "score-tiny-cpu.json").read_text())
    taken = record["rounds"][0]["contenders"]
    assert record["languages"] == ["ar", "de", "en"]
    assert {entry["rows"] for entry in taken.values()} == {12}
    assert taken["stock"]["scores"] == pytest.approx(taken["beside"]["scores"], abs=20)
    assert taken["merged"]["scores"] == pytest.approx(taken["beside"]["scores"], abs=20)


def test_encoding_few_sentences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--backbone", "tiny", "--rounds", "1", "--out", str(tmp_path)]
    assert encode_speed.main(["embedded", *flags, "--only", "ours", "--sentences", "30"]) == 0
    record = json.loads((tmp_path / "encode-tiny-cpu.json").read_text())
    assert record["rounds"][0]["contenders"]["ours"]["sentences"] == 30
    if encode_speed.importlib.util.find_spec("sentence_transformers") is None:
        assert encode_speed.main(["embedded", *flags]) == 2
        assert "adapters-xtl[sentence-transformers]" in capsys.readouterr().err
