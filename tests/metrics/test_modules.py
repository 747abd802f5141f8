"""The metrics as `evaluate` modules, without a network; and what importing them costs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import adapters_xtl.metrics
from adapters_xtl.base.errors import DataError
from adapters_xtl.metrics import load, names

PACKAGE = Path(adapters_xtl.metrics.__file__).parent

ANSWER = {"id": "q", "answers": {"text": ["los perros"], "answer_start": [0]}}
CALLS: dict[str, tuple[dict[str, Any], dict[str, float]]] = {
    "accuracy": ({"predictions": [0, 1], "references": [0, 0]}, {"accuracy": 50.0}),
    "tatoeba": ({"predictions": ["5", "05"], "references": ["5", "5"]}, {"accuracy": 50.0}),
    "token_accuracy": (
        {"predictions": [["B-A", "O"]], "references": [["B-A", "B-B"]]},
        {"accuracy": 50.0},
    ),
    "tagging": (
        {"predictions": [["B-A", "O"]], "references": [["B-A", "B-B"]], "tokens": True},
        {"f1": 200 / 3, "precision": 100.0, "recall": 50.0, "token_accuracy": 50.0},
    ),
    "squad": (
        {"predictions": [{"id": "q", "prediction_text": "perros"}], "references": [ANSWER]},
        {"exact_match": 0.0, "f1": 200 / 3},
    ),
    "mlqa": (
        {
            "predictions": [{"id": "q", "prediction_text": "perros"}],
            "references": [ANSWER],
            "language": "es",
        },
        {"exact_match": 100.0, "f1": 100.0},
    ),
    "squad_v2": (
        {
            "predictions": [{"id": "q", "prediction_text": ""}],
            "references": [{"id": "q", "answers": {"text": [], "answer_start": []}}],
        },
        {
            "exact_match": 100.0,
            "f1": 100.0,
            "total": 1,
            "NoAns_exact": 100.0,
            "NoAns_f1": 100.0,
            "NoAns_total": 1,
        },
    ),
    "bucc": (
        {"predictions": [["a\tb", "c\td"]], "references": [["a\tb"]]},
        {"f1": 200 / 3, "precision": 50.0, "recall": 100.0},
    ),
    "mewslix": ({"predictions": [["Q2", "Q1"]], "references": [["Q1"]]}, {"map@20": 50.0}),
    "lareqa": (
        {"predictions": [["a", "b", "c"]], "references": [["a", "c"]], "k": 2},
        {"map@2": 50.0},
    ),
}

SCRIPT = """
import json, socket, sys
def refuse(*arguments, **options):
    raise AssertionError("network")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
calls = json.load(sys.stdin)
from adapters_xtl.metrics import load
result = {
    name: load(name, experiment_id="one").compute(**options, resamples=20, seed=1)
    for name, options in calls.items()
}
print("RESULT" + json.dumps(result))
"""


def environment(home: Path) -> dict[str, str]:
    path = os.pathsep.join([str(PACKAGE.parents[1]), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "HF_HOME": str(home)}


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    calls = {name: arguments for name, (arguments, _) in CALLS.items()}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        input=json.dumps(calls),
        env=environment(tmp_path_factory.mktemp("home")),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT"))
    return json.loads(line.removeprefix("RESULT"))  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", names())
def test_every_metric_is_an_evaluate_metric_without_a_network(
    name: str, computed: dict[str, dict[str, Any]]
) -> None:
    expected = CALLS[name][1]
    assert {key: computed[name][key] for key in expected} == pytest.approx(expected)
    intervals = {key for key in computed[name] if key.endswith("_interval")}
    assert intervals == {f"{key}_interval" for key in expected if not key.endswith("total")}


def test_unknown_metric_names_the_nearest() -> None:
    with pytest.raises(DataError, match="'squad'"):
        load("sqad")


def test_imports_stay_cheap(tmp_path: Path) -> None:
    code = (
        "import sys, adapters_xtl.metrics\nassert 'numpy' not in sys.modules\nimport"
        " adapters_xtl.metrics.xtreme.official_files, adapters_xtl.metrics.xtreme.averages,"
        " adapters_xtl.metrics._bootstrap\nheavy = {'evaluate', 'datasets', 'torch', 'faiss',"
        " 'transformers', 'pandas'} & set(sys.modules)\nassert not heavy, heavy\nimport"
        " adapters_xtl.formats._mining\nassert 'torch' not in sys.modules and 'evaluate' not in"
        " sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
