"""The speed benchmarks' figures: ratios, flags, work per token."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import speed_tools, train_speed
from benchmarks.train_speed import Technique, Work, contenders


def _entry(seconds: float, score: float, padded: int | None = None) -> dict[str, Any]:
    return {
        **{"seconds": seconds, "process_seconds": seconds + 5, "tokens": 1000, "score": score},
        **{"padded_tokens": padded, "device_peak_bytes": None, "peak_resident_bytes": 1 << 30},
    }


def test_ratios_are_taken_within_a_round() -> None:
    """A machine that is half as fast in the second round changes no ratio; a failure costs its pair
    alone.
    """
    rounds = [
        {
            "matrix_rate": 4e6,
            "contenders": {"stock": _entry(40, 50, 2000), "no-techniques": _entry(10, 52)},
        },
        {
            "matrix_rate": 2e6,
            "contenders": {"stock": _entry(80, 54, 2000), "no-techniques": _entry(20, 50)},
        },
        {
            "matrix_rate": 4e6,
            "contenders": {"stock": {"error": "killed"}, "no-techniques": _entry(1, 51)},
        },
    ]
    summary = train_speed.summed_up(rounds, 6000)
    ours, stock = summary["no-techniques"], summary["stock"]
    assert ours["faster_than_stock"] == {"pairs": [4.0, 4.0], "median": 4, "min": 4, "max": 4}
    assert ours["process_faster_than_stock"]["pairs"] == [3.0, 3.4]
    assert ours["faster_than_tuned"]["median"] is None
    assert stock["mfu"] == pytest.approx(1000 * 6000 / 40 / 4e6)
    assert stock["padding"] == 0.5 and ours["padding"] is None
    assert (stock["score"], ours["score"], ours["score_sd"]) == (52, 51, 1)
    assert [speed_tools.turned("abc", number)[0] for number in range(4)] == list("abca")


def test_flags_of_a_technique(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain has every technique off, +NAME one on, all of them in `all`."""
    masks = Technique("train.dropout_masks", "torch", "bytes")
    prefix = Technique("train.prefix", "dropout", "fixed", upper=True)
    layers = Technique("train.compiled", "off", "on", together="auto")
    monkeypatch.setattr(train_speed, "TECHNIQUES", {"layers": layers})
    flags = contenders(Work("panx", "lora"))
    assert (flags["+layers"][1], flags["all"][1]) == ("train.compiled=on", "train.compiled=auto")
    monkeypatch.setattr(train_speed, "TECHNIQUES", {"dropout-masks": masks, "prefix": prefix})
    assert contenders(Work("panx", "lora")) == {
        "stock": (),
        "tuned": (),
        "no-techniques": ("--set", "train.dropout_masks=torch"),
        "+dropout-masks": ("--set", "train.dropout_masks=bytes"),
        "all": ("--set", "train.dropout_masks=bytes"),
    }
    upper = contenders(Work("panx", "lora", upper=True))
    assert upper["+prefix"] == ("--set", "train.dropout_masks=torch", "--set", "train.prefix=fixed")
    assert upper["all"] == ("--set", "train.dropout_masks=bytes", "--set", "train.prefix=fixed")


def test_work_per_token(tmp_path: Path) -> None:
    """Of XLM-R Large's 24 layers with 12·1024² weights each: 2 FLOP a weight forward, 2 backward."""
    config = {"model_type": "xlm-roberta", "num_hidden_layers": 24, "hidden_size": 1024}
    config |= {"num_attention_heads": 16, "intermediate_size": 4096, "vocab_size": 250002}
    config |= {"max_position_embeddings": 514, "type_vocab_size": 1, "pad_token_id": 1}
    (tmp_path / "config.json").write_text(json.dumps(config))
    weights = 24 * 12 * 1024**2
    assert speed_tools.training_work(tmp_path, 0) == 4 * weights
    assert speed_tools.training_work(tmp_path, 12) == 3 * weights


def test_what_is_off_on_a_gpu_is_no_contender_there() -> None:
    work = train_speed.WORKS["pairs-lora"]
    on_cpu, on_cuda = (set(train_speed.contenders(work, device)) for device in ("cpu", "cuda"))
    assert on_cpu - on_cuda == {
        *("+cast-once", "+dropout-masks", "+attention", "+token-budget", "+parallel-passes")
    }
    assert all("cast_once" not in flag for flag in train_speed.contenders(work, "cuda")["all"])
