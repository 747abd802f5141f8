"""How fast a tagging task is scored in many languages: `xtl evaluate` beside `Trainer.predict`.

    .venv/bin/python benchmarks/score_speed.py DIR                     PAN-X in 30 languages, `mini`
    .venv/bin/python benchmarks/score_speed.py embedded --backbone tiny --rows 5     (a smoke test)

One LoRA is trained for a few steps, and also folded into a plain checkpoint by `xtl merge`.
Contenders then score the same rows, each in a process of its own, one after the other, round after
round:

    stock         `Trainer.predict` with peft's LoRA beside the layers, as a training leaves it:
                  float32, the rows in their order, batches of 8, its defaults
    stock-merged  the same with the merged checkpoint, which pays nothing for the LoRA
    tuned         the merged checkpoint, bf16, the rows sorted by length by hand, batches of 64
    beside        `xtl evaluate`, bf16, the module beside the backbone's layers
    merged        the same with the module merged into the weights: `--set eval.merged=true`

`seconds`: tokenizing, predicting and decoding of all languages, loading left out. `score`: the mean
over the languages; all are of one module, and differ by rounding. The JSON goes to
benchmarks/results/speed/score-<backbone>-<device>.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from adapters_xtl import tasks
from adapters_xtl.base import machine
from adapters_xtl.base.typed_json import to_json
from benchmarks import speed_page, trainer_script
from benchmarks import speed_tools as tools

TASK = "panx"
OURS = {"beside": "false", "merged": "true"}  # contender → eval.merged
SCRIPTS = ("stock", "stock-merged", "tuned")
CONTENDERS = (*SCRIPTS, *OURS)
MAX_LENGTH = 128


def cut(data: str, languages: int, count: int, mirror: Path) -> dict[str, Path]:
    """Language → file with its first `count` dev rows, of the first so many languages of the task
    that the source has.
    """
    declared, files = tasks.load(TASK), {}
    (rows,) = declared.report["validation"]
    for code in sorted(declared.languages["xtreme-r"]):
        try:
            table = tools.table_of(data, rows, (TASK, "report"), code)
        except FileNotFoundError:
            continue
        if not len(table) or len(files) == languages:
            continue
        place = rows.named(code)
        path = mirror / place.repo / place.config / f"{place.split}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table.slice(0, count), path)
        files[code] = path
    if not files:
        raise FileNotFoundError(f"{data}: no dev rows of {TASK} in any language")
    return files


def script(job: Mapping[str, Any]) -> dict[str, Any]:
    """The plain script: every language tokenized, predicted and decoded, one after the other. The
    predictions are scored after the timed part.
    """
    import torch
    import transformers
    from datasets import load_dataset

    from adapters_xtl import metrics

    tuned, device = job["tuned"], job["device"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(job["model"])
    model = transformers.AutoModelForTokenClassification.from_pretrained(job["model"])
    if job["module"]:  # on the encoder as it was; the head is the merged checkpoint's
        import peft

        encoder = transformers.AutoModel.from_pretrained(job["encoder"], add_pooling_layer=False)
        beside = peft.PeftModel.from_pretrained(encoder, job["module"])
        setattr(model, model.base_model_prefix, beside)
    rows = {code: load_dataset("parquet", data_files=path)["train"] for code, path in job["files"]}
    task = trainer_script.Job(**job["job"])
    predictions = {}
    with tempfile.TemporaryDirectory() as aside:
        arguments = transformers.TrainingArguments(
            aside,
            per_device_eval_batch_size=64 if tuned else 8,
            bf16_full_eval=tuned and device == "cuda",
            bf16=tuned,
            use_cpu=device == "cpu",
            report_to=[],
            disable_tqdm=True,
        )
        trainer = transformers.Trainer(
            model=model,
            args=arguments,
            data_collator=transformers.DataCollatorForTokenClassification(tokenizer),
        )
        started = time.monotonic()
        for code, own in rows.items():
            features = trainer_script.tagged(own, tokenizer, task)
            order = np.arange(len(features))
            if tuned:
                order = np.argsort([-len(ids) for ids in features["input_ids"]], kind="stable")
            outputs = trainer.predict(features.select(order)).predictions[np.argsort(order)]
            predictions[code] = trainer_script.predictions(task, own, features, outputs)
        seconds = time.monotonic() - started
    metric = metrics.get(task.scorer)
    return {
        "seconds": round(seconds, 3),
        "rows": sum(map(len, rows.values())),
        "scores": {
            code: metric.score(rows_of, code)[task.metric] for code, rows_of in predictions.items()
        },
        "device_peak_bytes": torch.cuda.max_memory_allocated() if device == "cuda" else None,
    }


class Bench:
    """The module, its merged form, the rows, and the contenders' processes."""

    def __init__(self, options: argparse.Namespace, aside: Path) -> None:
        self.options, self.aside = options, aside
        self.files = cut(options.data, options.languages, options.rows, aside / "rows")
        train = aside / "train-rows"
        tools.cut(options.data, TASK, options.train_rows, 100, train)
        self.encoder = tools.encoder_folder(options.backbone, aside)
        random = options.backbone == tools.LARGE
        backbone = str(self.encoder) if random else options.backbone
        command = [
            *("-m", "adapters_xtl", "recipe", TASK, "--method", "lora", "--backbone", backbone),
            *("--data", str(train), "--device", options.device, "--languages", "en"),
            *("--protocol", "xtreme", "--runs", str(aside / "runs"), "--json"),
            *("--set", f"train.max_length={MAX_LENGTH}", "--set", "train.eval_every=100000000"),
            *("--set", f"train.max_steps={options.train_steps}"),
        ]
        env = tools.environment(aside / "cache")
        self.module = str(tools.measured(command, env)["answer"]["path"])
        merged = [
            *("-m", "adapters_xtl", "merge", self.module, str(aside / "merged"), "--json"),
            *("--bits", "32"),
        ]
        tools.measured(merged, env)

    def take(self, contender: str, number: int) -> dict[str, Any]:
        with tempfile.TemporaryDirectory(dir=self.aside) as folder:
            env = tools.environment(Path(folder))
            if contender not in OURS:
                figures = tools.measured(self._script(contender), env)
                return {**figures.pop("answer"), **figures}
            command = [
                *("-m", "adapters_xtl", "evaluate", self.module),
                *("--data", str(self.aside / "rows")),
                *("--set", f"eval.merged={OURS[contender]}"),
                *("--languages", ",".join(self.files), "--device", self.options.device),
                *("--runs", str(Path(folder, "runs")), "--json"),
            ]
            figures = tools.measured(command, env)
            return {**self._figures(figures.pop("answer")), **figures}

    def _figures(self, answer: Mapping[str, Any]) -> dict[str, Any]:
        path = Path(answer["path"]) / "provenance.json"
        costs = json.loads(path.read_text(encoding="utf-8"))["inference"][TASK].values()
        languages = answer["metrics"]["tasks"][TASK]["languages"]
        peak = max(cost["measured_peak_bytes"] for cost in costs)
        return {
            "seconds": round(sum(cost["seconds"] for cost in costs), 3),
            "rows": sum(cost["inputs"] for cost in costs),
            "scores": {code: entry[tasks.load(TASK).metric] for code, entry in languages.items()},
            "device_peak_bytes": peak if self.options.device == "cuda" else None,
        }

    def _script(self, contender: str) -> list[str]:
        task, tuned = tasks.load(TASK), contender == "tuned"
        job = trainer_script.Job(
            **{"tuned": tuned, "format": task.format, "scorer": task.scorer, "metric": task.metric},
            **{"labels": list(task.labels), "train": "", "dev": "", "encoder": "", "method": ""},
            **{"options": {}, "parents": [], "from_layer": 0, "seed": 1},
            **{"hyper": {"max_length": MAX_LENGTH}, "device": self.options.device},
        )
        path = self.aside / "job.json"
        content = {
            "tuned": tuned,
            "device": self.options.device,
            "model": str(self.aside / "merged"),
            "module": str(Path(self.module) / "module") if contender == "stock" else "",
            "encoder": str(self.encoder),
            "files": [(code, str(file)) for code, file in self.files.items()],
            "job": vars(job),
        }
        path.write_text(json.dumps(content), encoding="utf-8")
        return ["-m", "benchmarks.score_speed", "--script", str(path)]


def summed_up(rounds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Contender → rows a second, mean score, ratios; and how far the scores are apart."""
    lines: dict[str, Any] = {}
    for name in CONTENDERS:
        own = [entry for entry in tools.of_contender(rounds, name) if entry]
        if own:
            lines[name] = {
                "rows_per_second": statistics.median(e["rows"] / e["seconds"] for e in own),
                "process_seconds": statistics.median(entry["process_seconds"] for entry in own),
                "score": statistics.fmean(own[-1]["scores"].values()),
                "peak_bytes": max(
                    entry["device_peak_bytes"] or entry["peak_resident_bytes"] for entry in own
                ),
                **{f"faster_than_{other}": tools.faster(rounds, name, other) for other in SCRIPTS},
            }
    return lines


def section(record: Mapping[str, Any]) -> list[str]:
    rows = [
        [
            name,
            f"{line['rows_per_second']:,.0f}",
            f"{line['process_seconds']:.1f}",
            f"{line['peak_bytes'] / 2**30:.2f}",
            f"{line['score']:.2f}",
            *(tools.shown_ratio(line[f"faster_than_{other}"]) for other in SCRIPTS),
        ]
        for name, line in record["summary"].items()
    ]
    header = ["", "rows/s", "process s", "GiB", "score", *(f"× {other}" for other in SCRIPTS)]
    return [
        f"## Scoring {TASK} in {len(record['languages'])} languages, {record['backbone']},"
        f" {record['device']}",
        "",
        f"{tools.device_name(record)}; {len(record['rounds'])} rounds. `{record['command']}`",
        "",
        *tools.markdown_table(header, rows),
        *tools.failures(record),
        "",
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    argv = list(sys.argv[1:] if arguments is None else arguments)
    if argv[:1] == ["--script"]:
        print(json.dumps(script(json.loads(Path(argv[1]).read_text(encoding="utf-8")))))
        return 0
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", metavar="DIR", help='a mirror directory, or "embedded"')
    parser.add_argument("--backbone", default="mini", help=f"mini, tiny, {tools.LARGE} or a folder")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--languages", type=int, default=30)
    parser.add_argument("--rows", type=int, default=200, help="dev rows of a language")
    parser.add_argument("--train-rows", type=int, default=640)
    parser.add_argument("--train-steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=tools.RESULTS / "speed")
    options = parser.parse_args(argv)
    kept = ("languages", "rows", "train_rows", "train_steps")
    with tempfile.TemporaryDirectory() as aside:
        bench = Bench(options, Path(aside))

        def record(rounds: list[dict[str, Any]]) -> dict[str, Any]:
            return {
                "kind": "score-speed",
                "command": tools.command_of("score_speed.py", argv, options.data),
                "backbone": Path(options.backbone).name,
                "device": options.device,
                "settings": {key: getattr(options, key) for key in kept},
                "languages": list(bench.files),
                "provenance": to_json(machine.describe()),
                "rounds": rounds,
                "summary": summed_up(rounds),
            }

        path = options.out / f"score-{Path(options.backbone).name}-{options.device}.json"
        failed = tools.take_rounds(
            path, options.rounds, CONTENDERS, bench.take, record, device=options.device
        )
    speed_page.write(options.out)
    print("\n".join(section(json.loads(path.read_text(encoding="utf-8")))))
    return int(failed)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (FileNotFoundError, RuntimeError) as error:
        sys.exit(f"score_speed.py: {error}")
