"""How well and how fast a recipe learns: runs it as a user would and writes one JSON.

    .venv/bin/python benchmarks/learning.py mnli DIR --method lora

DIR is a mirror directory, or "embedded". The JSON goes to benchmarks/results/<task>-<method>.json
and holds the command (with DIR for the directory), the run's metrics and settings, what it was run
on and the whole process's seconds.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task")
    parser.add_argument("directory")
    parser.add_argument("--method", default="bottleneck")
    parser.add_argument("--name", help="name of the result file")
    parser.add_argument("--what", default="", help="what the rows are, in words")
    parser.add_argument(
        "--runs",
        help="where the run is kept, and found again; left out, it is made anew and dropped",
    )
    options, rest = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as aside:
        runs = options.runs or aside
        flags = [
            "recipe",
            options.task,
            "--method",
            options.method,
            "--data",
            options.directory,
            *rest,
        ]
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "adapters_xtl", *flags, "--runs", runs, "--json"],
            stdout=subprocess.PIPE,
            check=True,
        )
        seconds = time.monotonic() - started
        answer = json.loads(done.stdout)
        spec = json.loads((Path(answer["path"]) / "spec.json").read_text())
        provenance = json.loads((Path(answer["path"]) / "provenance.json").read_text())
        path = Path(answer["path"]) / "train_log.jsonl"  # an evaluation has none
        log = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    named = "embedded" if options.directory == "embedded" else "DIR"
    command = " ".join(named if flag == options.directory else flag for flag in ["xtl", *flags])
    record = {
        "command": command,
        "what": options.what,
        "wall_seconds": None if answer["reused"] else round(seconds, 1),
        "id": answer["id"],
        "metrics": answer["metrics"],
        **({"zero_shot": answer["zero_shot"]["metrics"]} if "zero_shot" in answer else {}),
        "run": spec["run"],
        "backbone": spec["backbone"],
        "versions": provenance["versions"],
        "hardware": provenance["hardware"],
        "data": provenance["data"],
        "inference": provenance["inference"],
        "select_log": [
            {key: entry[key] for key in ("step", "eval_score")}
            for entry in log
            if "eval_score" in entry
        ],
    }
    path = RESULTS / f"{options.name or f'{options.task}-{options.method}'}.json"
    path.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{path}: score {answer['metrics']['score']:.2f}")


if __name__ == "__main__":
    main()
