"""A study's record written by hand: with every key of one, a failed cell and texts of a stranger."""

from __future__ import annotations

from typing import Any

from adapters_xtl.base.typed_json import to_json
from adapters_xtl.grid.results import Entry, Figure, Line, Point, Series, Table

HOSTILE = '</script><img src=x onerror="document.title=1">'

DIFFERENCES = Table(
    name="transfer",
    title="Gain by an intermediate task",
    corner="intermediate",
    columns=("pawsx", "xquad", "panx"),
    lines=(
        Line(
            "none",
            (
                Entry(57.1, 55.0, 59.2),
                Entry(41.25, 40.0, 42.5, best=True),
                Entry(48.0, note="one seed"),
            ),
        ),
        Line(
            "mnli",
            (
                Entry(4.25, 1.5, 7.0, verdict="higher", holm="higher", best=True),
                Entry(-3.5, -5.0, -2.0, verdict="lower", holm="inconclusive"),
                Entry(None, note="failed"),
            ),
            difference=True,
        ),
        Line(
            "squad1",
            (
                Entry(-0.5, -2.5, 1.5, verdict="inconclusive"),
                Entry(0.1, -0.2, 0.4, verdict="equivalent"),
                Entry(None, note="not run"),
            ),
            difference=True,
        ),
    ),
    notes=(f"a note with {HOSTILE}",),
)


def _row(task: str, parents: list[str], score: float, runs: list[str]) -> dict[str, Any]:
    return {
        "task": task,
        "method": "bottleneck",
        "bits": 32,
        "parents": parents,
        "composition": "sequential" if parents else "",
        "metric": "accuracy",
        "split": "validation",
        "score": {
            "mean": score,
            "interval": [score - 2, score + 2],
            "n": len(runs),
            "seeds": {str(seed): score for seed, _ in enumerate(runs, start=1)},
        },
        "languages": {"en": score + 3, "de": score + 1, "zh": score - 4},
        "gap_to_full": None,
        "gain_over_no_parents": None,
        "trainable_parameters": 1209,
        "stored_bytes": 10_700 if parents else 9_500,
        "stack_bytes": 21_000 if parents else 9_500,
        "peak_memory_bytes": 1_000_000_000 + 10_000_000 * len(parents),
        "seconds": 36.5 if parents else 32.25,
        "examples_per_second": 120.0,
        "energy_joules": 1500.0,
        "point": {"on": parents, "task": task},
        "runs": [
            {"seed": seed, "run": name, "module": name} for seed, name in enumerate(runs, start=1)
        ],
        "a key of a newer version": 1,
    }


def study_record(runs: list[str], runs_on_mnli: list[str]) -> dict[str, Any]:
    """`runs`, `runs_on_mnli`: names, `task/id`, of runs of pawsx without and with a parent."""
    return {
        "kind": "study",
        "study": "transfer",
        "id": "0123456789ab",
        "question": "Which intermediate task helps which target?",
        "title": "transfer · tiny · embedded data · 2 seeds",
        "command": "xtl study transfer --set train.max_steps=12",
        "tasks": ["pawsx", "xquad", "panx"],
        "seeds": [1, 2],
        "level": 0.95,
        "device": "cuda",
        "backbone": {"name": "tiny", "fingerprint": "44e25cbd15d3" * 5 + "1815"},
        "data": "embedded",
        "protocol": "clean",
        "tuning": {"trials": {"lora": [{"train.lr": 0.001}, {"train.lr": 0.002}]}, "seeds": [0]},
        "axes": [
            {"name": "on", "values": [[], ["mnli"], ["squad1"]]},
            {"name": "task", "values": ["pawsx", "xquad", "panx"]},
        ],
        "cells": [
            {"point": {"on": [], "task": "pawsx"}, "state": "done", "failures": []},
            {"point": {"on": ["mnli"], "task": "pawsx"}, "state": "done", "failures": []},
            {
                "point": {"on": ["mnli"], "task": "panx"},
                "state": "failed",
                "failures": [{"seed": 1, "error": f"the loss is nan at step 7 {HOSTILE}"}],
            },
            {"point": {"on": ["squad1"], "task": "panx"}, "state": "missing", "failures": []},
        ],
        "rows": [
            _row("pawsx", [], 57.1, runs),
            _row("pawsx", ["mnli"], 61.35, runs_on_mnli),
        ],
        "contrasts": [
            {
                "name": "mnli on pawsx",
                "of": {"on": ["mnli"]},
                "against": {"on": []},
                "mean": 4.25,
                "interval": {"mean": 4.25, "low": 1.5, "high": 7.0, "n": 2, "level": 0.95},
                "seeds": [1, 2],
                "verdict": "higher",
                "p": 0.0125,
                "p_holm": 0.025,
                "holm": "higher",
            },
            {
                "name": "squad1 on pawsx",
                "of": {"on": ["squad1"]},
                "against": {"on": []},
                "mean": -0.5,
                "interval": [-2.5, 1.5],
                "seeds": [1],
                "verdict": "inconclusive",
                "p": None,
                "p_holm": None,
                "holm": "",
            },
        ],
        "tables": [to_json(DIFFERENCES)],
        "figures": [
            to_json(
                Figure(
                    "transfer-map",
                    "heatmap",
                    "Gain by an intermediate task",
                    table=DIFFERENCES,
                    caption="Points above or below no intermediate task.",
                )
            ),
            to_json(
                Figure(
                    "gains",
                    "forest",
                    "Contrasts with their intervals",
                    x_label="difference (points)",
                    series=(
                        Series(
                            "pawsx",
                            (
                                Point("mnli", 4.25, 1.5, 7.0, verdict="higher"),
                                Point("squad1", -0.5, -2.5, 1.5, verdict="inconclusive"),
                            ),
                        ),
                    ),
                )
            ),
        ],
        "answer": {
            "headline": "MNLI helps paraphrase identification by 4.3 points.",
            "verdict": "higher, also after Holm's correction",
            "exception": "Question answering loses 3.5 points.",
            "limits": [
                "Two seeds of random weights.",
                "tiny is random weights: nothing about XLM-R.",
            ],
        },
        "evidence": {
            "for": ["The machinery of the grid runs."],
            "not_for": ["tiny is random weights: nothing about XLM-R."],
        },
        "failed": [],
        "left_out": {"bucc": "the source has no rows of it"},
        "notes": [f"a note with {HOSTILE}"],
        "seconds": 421.5,
    }
