"""The package beside the script one would write by hand: the same rows, settings and metric, plain
`Trainer` and `peft`.

    .venv/bin/python benchmarks/plain.py panx DIR --method full --seeds 1,2,3 --set train.lr=1e-4
    --set train.max_steps=150

For every seed, one after the other: `xtl recipe` as a user calls it (all other flags go to it; with
`--runs` a finished run is found again), then a plain script with the settings that the run wrote
down, on the same rows of DIR, in a process of its own. The script's predictions of the rows which
the run was evaluated on are scored by the package's metrics. What stays different: the script
trains on all rows and keeps its last weights, the run holds some out to select its best ones,
scores them on the way and writes checkpoints; each draws its own order.

Writes benchmarks/results/plain-<task>-<method>.json. Tasks: panx, udpos, pawsx; methods: full,
lora.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
TASKS = {
    "panx": ("google/xtreme/PAN-X.en", "ner_tags"),
    "udpos": ("google/xtreme/udpos.English", "pos_tags"),
    "pawsx": ("google/xtreme/PAWS-X.en", "label"),
}


def script(run: Path, directory: Path, seed: int) -> dict[str, Any]:
    """Trains as a script would, with the settings of a finished run, and scores the rows that run
    was evaluated on.
    """
    import torch
    import transformers
    from datasets import load_dataset

    from adapters_xtl.backbones import embedded

    spec = json.loads((run / "spec.json").read_text())
    task, settings, options = spec["task"], spec["run"]["hyper"], spec["run"]["options"]
    folder, column = TASKS[task]
    torch.manual_seed(seed)
    backbone = embedded.prepare()
    tokenizer = transformers.AutoTokenizer.from_pretrained(backbone)
    rows = load_dataset(str(directory / folder), split="train")
    tags = column != "label"
    labels = rows.features[column].feature.names if tags else sorted(set(rows[column]))

    def encode(row: dict[str, Any]) -> dict[str, Any]:
        if not tags:
            encoded = tokenizer(
                row["sentence1"],
                row["sentence2"],
                truncation=True,
                max_length=settings["max_length"],
            )
            return {**encoded, "labels": labels.index(row["label"])}
        encoded = tokenizer(
            row["tokens"],
            is_split_into_words=True,
            truncation=True,
            max_length=settings["max_length"],
        )
        words = encoded.word_ids()
        first = [
            word is not None and word != before
            for before, word in zip([None, *words], words, strict=False)
        ]
        return {
            **encoded,
            "labels": [
                row[column][word] if is_first else -100
                for word, is_first in zip(words, first, strict=True)
            ],
        }

    if tags:
        auto, collator = (
            transformers.AutoModelForTokenClassification,
            transformers.DataCollatorForTokenClassification,
        )
    else:
        auto, collator = (
            transformers.AutoModelForSequenceClassification,
            transformers.DataCollatorWithPadding,
        )
    model = auto.from_pretrained(
        backbone, num_labels=len(labels), classifier_dropout=settings["dropout"]
    )
    if spec["run"]["method"] == "lora":
        from peft import LoraConfig, TaskType, get_peft_model

        kind = TaskType.TOKEN_CLS if tags else TaskType.SEQ_CLS
        layers = [
            "query",
            "key",
            "value",
            "attention.output.dense",
            "intermediate.dense",
            "output.dense",
        ]
        model = get_peft_model(
            model, LoraConfig(**{**options, "target_modules": layers}, task_type=kind)
        )
    with tempfile.TemporaryDirectory() as aside:
        args = transformers.TrainingArguments(
            aside,
            per_device_train_batch_size=settings["batch_size"],
            learning_rate=settings["lr"],
            seed=seed,
            max_steps=settings["max_steps"] or -1,
            num_train_epochs=settings["epochs"],
            warmup_ratio=settings["warmup"],
            weight_decay=settings["weight_decay"],
            max_grad_norm=settings["clip"],
            bf16=spec["dtype"] == "bfloat16",
            use_cpu=True,
            save_strategy="no",
            report_to=[],
            logging_steps=50,
            disable_tqdm=True,
        )
        trainer = transformers.Trainer(
            model, args, collator(tokenizer), rows.map(encode, remove_columns=rows.column_names)
        )
        started = time.monotonic()
        trainer.train()
        seconds = time.monotonic() - started
        scores = {}
        for path in sorted((run / "predictions" / task).glob("*.jsonl")):
            lines = [json.loads(line) for line in path.read_text().split("\n") if line]
            where = directory / folder.replace(".en", f".{path.stem}")
            scores[path.stem] = _scored(
                trainer, tokenizer, lines, labels, settings["max_length"], where
            )
    examples = trainer.state.global_step * settings["batch_size"]
    return {
        "score": statistics.fmean(scores.values()),
        "languages": scores,
        "seconds": seconds,
        "examples": examples,
    }


def _scored(
    trainer: Any,
    tokenizer: Any,
    lines: list[dict[str, Any]],
    labels: list[str],
    limit: int,
    where: Path,
) -> float:
    """One language's F1 (tags) or accuracy (pairs), 0-100. A word that was cut off is predicted as
    the first label.
    """
    from datasets import Dataset, load_dataset

    from adapters_xtl.metrics import tags

    if "words" in lines[0]:
        inputs = [
            tokenizer(line["words"], is_split_into_words=True, truncation=True, max_length=limit)
            for line in lines
        ]
    else:  # a prediction file holds no texts of pairs: its ids are row numbers
        rows = load_dataset(str(where), split="validation")
        numbers = [int(line["id"].removeprefix("#")) for line in lines]
        inputs = [
            tokenizer(row["sentence1"], row["sentence2"], truncation=True, max_length=limit)
            for row in (rows[number] for number in numbers)
        ]
    best = trainer.predict(
        Dataset.from_list([dict(encoded) for encoded in inputs])
    ).predictions.argmax(-1)
    if "words" not in lines[0]:
        return 100 * statistics.fmean(
            labels[index] == line["gold"] for index, line in zip(best, lines, strict=True)
        )
    predicted = []
    for indices, encoded, line in zip(best, inputs, lines, strict=True):
        at = {
            word: place
            for place, word in reversed(list(enumerate(encoded.word_ids())))
            if word is not None
        }
        predicted.append(
            [
                labels[indices[at[word]]] if word in at else labels[0]
                for word in range(len(line["words"]))
            ]
        )
    return tags.score(predicted, [line["gold"] for line in lines])["f1"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--method", choices=("full", "lora"), default="full")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument(
        "--runs",
        help="where the runs are kept, and found again; left out, they are made anew and dropped",
    )
    parser.add_argument("--script", nargs=2, help=argparse.SUPPRESS, metavar=("RUN", "SEED"))
    options, rest = parser.parse_known_args()
    if options.script:
        print(
            json.dumps(
                script(Path(options.script[0]), options.directory.resolve(), int(options.script[1]))
            )
        )
        return
    chosen = [options.task, "--method", options.method]
    flags = ["--backbone", "mini", "--data", str(options.directory), *rest]
    seeds: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as aside:
        for seed in options.seeds.split(","):
            recipe = [*chosen, *flags, "--seed", seed, "--runs", options.runs or aside, "--json"]
            told = json.loads(_output([sys.executable, "-m", "adapters_xtl", "recipe", *recipe]))
            run = Path(told["path"])
            metrics, spec, made = (
                json.loads((run / f"{name}.json").read_text())
                for name in ("metrics", "spec", "provenance")
            )
            package = {
                "id": told["id"],
                "score": metrics["tasks"][options.task]["score"],
                **metrics["train"],
            }
            lines = _output(
                [
                    sys.executable,
                    __file__,
                    *chosen[:1],
                    str(options.directory),
                    "--script",
                    str(run),
                    seed,
                ]
            )
            seeds[seed] = {
                "package": package | {"found_again": told["reused"]},
                "script": json.loads(lines.splitlines()[-1]),
            }
            print(
                f"seed {seed}: package {package['score']:.1f}, script"
                f" {seeds[seed]['script']['score']:.1f}",
                flush=True,
            )
    again = any(
        of_seed["package"]["found_again"] for of_seed in seeds.values()
    )  # then it was not timed beside the script
    ratios = [
        of_seed["package"]["seconds"] / of_seed["script"]["seconds"] for of_seed in seeds.values()
    ]
    record = {
        "command": " ".join(
            [
                "benchmarks/plain.py",
                options.task,
                "DIR",
                *chosen[1:],
                "--seeds",
                options.seeds,
                *rest,
            ]
        ),
        "run": (
            {name: spec["run"][name] for name in ("hyper", "options")} | {"dtype": spec["dtype"]}
        ),
        "backbone": spec["backbone"],
        "versions": made["versions"],
        "hardware": made["hardware"],
        "seeds": seeds,
        "mean": {
            who: statistics.fmean(of_seed[who]["score"] for of_seed in seeds.values())
            for who in ("package", "script")
        },
        "seconds_package_over_script": None if again else statistics.median(ratios),
    }
    path = RESULTS / f"plain-{options.task}-{options.method}.json"
    path.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(
        path,
        record["mean"],
        "" if again else f"seconds, package over script: {statistics.median(ratios):.2f}",
    )


def _output(command: list[str]) -> str:
    return subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout


if __name__ == "__main__":
    main()
