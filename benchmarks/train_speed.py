"""How fast a module is trained: this package beside `Trainer` + peft and `AdapterTrainer`.

    .venv/bin/python benchmarks/train_speed.py DIR                     every work on `mini`
    .venv/bin/python benchmarks/train_speed.py DIR --works tags-lora,spans-lora --rounds 3
    .venv/bin/python benchmarks/train_speed.py DIR --device cuda --backbone xlmr-large-random

DIR is a mirror directory, or "embedded". Contenders train on the same cut of rows, with the same
batch size, epochs, seed, learning rate and encoder, each in a process of its own with caches of its
own, one after the other, round after round; the order of contenders is rotated with every round,
and the seed is the round's number.

    stock          what the libraries' documentation shows: float32, random batches padded to their
                   longest
    tuned          the same with bf16 autocast and group_by_length
    tuned-whole    tuned with modules in all layers, where the others have them in the upper half
    no-techniques  this package with every setting of TECHNIQUES off; the scoring at the end has no
                   such setting and is equally fast in all of the package's
    +NAME          one of them on, parallel-passes with dropout-masks, which it needs
    all            all of them on; compiled is `auto`, which compiles in long trainings on a GPU

`seconds`: the training with one scoring of the dev rows at its end, tokenizing and loading left
out; `process_seconds`: all of it. `tokens`: of the rows, padding left out; `padding`: the share of
padding in what was computed. `mfu` (model FLOPs utilisation): FLOPs of the encoder's linear layers
on the training's non-padding tokens (forward, and backward where modules are; kept states of the
fixed lower layers and a last layer at the first token count as computed) ÷ seconds ÷ the measured
peak rate of large bfloat16 matrix products on the same device in the same round. Ratios are taken
within a round. The package computes in bfloat16 and stock in float32, so that × stock includes the
change of precision.

Not every technique can show in every figure: tokenize-once and keep-tokenized can show in
`process_seconds` alone, the one only where a process reads the same rows twice, the other only with
--warm. cast-once, token-budget, dropout-masks, attention and parallel-passes are measured on a CPU
alone.

A JSON a work goes to benchmarks/results/speed/, written after each round; the same command goes on
from there. README.md there is written from all of them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from adapters_xtl import formats, tasks
from adapters_xtl.base import machine
from adapters_xtl.base.typed_json import to_json
from benchmarks import speed_page
from benchmarks import speed_tools as tools


@dataclass(frozen=True)
class Technique:
    """A setting that is to make a training faster: the value that switches it off and on, as in
    `--set`. `upper`: it changes something only where the lower layers have no module; `sequences`:
    only where the head reads the first token alone. `cpu`: it is refused, always off, or set
    otherwise, on other devices. `method`: it is refused for others. `needs`: another technique that
    it is refused without, so that both are on where it is on alone. `together`: its value beside
    all others, where it is not `on`.
    """

    setting: str
    off: str
    on: str
    upper: bool = False
    sequences: bool = False
    cpu: bool = False
    method: str = ""
    needs: str = ""
    together: str = ""

    def flags(self, switched_on: bool, together: bool = False) -> tuple[str, str]:
        on = self.together if together and self.together else self.on
        return "--set", f"{self.setting}={on if switched_on else self.off}"


TECHNIQUES: Mapping[str, Technique] = {
    "cast-once": Technique("speed.cast_once", "false", "true", cpu=True),
    "tokenize-once": Technique("speed.tokenize_once", "false", "true"),
    "keep-tokenized": Technique("speed.keep_tokenized", "false", "true"),
    "prepare-ahead": Technique("speed.prepare_ahead", "false", "true"),
    "token-budget": Technique("train.token_budget", "0", "2048", cpu=True),
    "dropout-masks": Technique("train.dropout_masks", "torch", "bytes", cpu=True),
    "attention": Technique("train.attention", "sdpa", "eager", cpu=True),
    "parallel-passes": Technique(
        "train.parallel_passes", "1", "2", cpu=True, needs="dropout-masks"
    ),
    "last-layer": Technique("train.last_layer", "all", "first", sequences=True),
    "lora": Technique("train.lora", "peft", "fused", method="lora"),
    "prefix": Technique("train.prefix", "dropout", "fixed", upper=True),
    # compiling is in the seconds of a training: where it is short, it is slower for it
    "compiled": Technique("train.compiled", "off", "on", together="auto"),
}


WHOLE = "tuned-whole"
SCRIPTED = ("stock", "tuned", WHOLE)  # contenders that are the plain scripts
BESIDE = (*SCRIPTED, "no-techniques")  # whom others are held against


@dataclass(frozen=True)
class Work:
    """What is trained. `upper`: modules in the upper half of the layers only."""

    task: str
    method: str
    max_length: int = 128
    epochs: float = 1.0
    on: str = ""
    upper: bool = False


WORKS = {
    "pairs-lora": Work("mnli", "lora"),
    "tags-lora": Work("panx", "lora"),
    "spans-lora": Work("squad1", "lora", max_length=384),
    "pairs-bottleneck": Work("mnli", "bottleneck"),
    "tags-bottleneck": Work("panx", "bottleneck"),
    "spans-bottleneck": Work("squad1", "bottleneck", max_length=384),
    "stack-lora": Work("panx", "lora", on="mnli"),
    "stack-bottleneck": Work("panx", "bottleneck", on="mnli"),
    "upper-lora": Work("mnli", "lora", epochs=3, upper=True),
}


def reads_every_token(task: str) -> bool:
    return bool(task) and formats.load(tasks.load(task).format).reads_every_token


def contenders(work: Work, device: str = "cpu") -> dict[str, tuple[str, ...]]:
    """Name → flags of `xtl recipe`; those of the scripts have none."""
    names = [
        name
        for name, technique in TECHNIQUES.items()
        if (work.upper or not technique.upper)
        and (not technique.sequences or not reads_every_token(work.task))
        and (device == "cpu" or not technique.cpu)
        and technique.method in ("", work.method)
    ]

    def with_on(*chosen: str, together: bool = False) -> tuple[str, ...]:
        return tuple(
            flag for name in names for flag in TECHNIQUES[name].flags(name in chosen, together)
        )

    flags: dict[str, tuple[str, ...]] = {"stock": (), "tuned": ()}
    if work.upper:
        flags[WHOLE] = ()
    flags["no-techniques"] = with_on()
    flags |= {f"+{name}": with_on(name, TECHNIQUES[name].needs) for name in names}
    return flags | ({"all": with_on(*names, together=True)} if names else {})


class Bench:
    """One work: its rows, its encoder, and its contenders' processes."""

    def __init__(self, name: str, options: argparse.Namespace, aside: Path) -> None:
        self.name, self.work, self.options, self.aside = name, WORKS[name], options, aside
        self.mirror = aside / name / "rows"
        self.train, self.dev = tools.cut(
            options.data, self.work.task, options.rows, options.dev_rows, self.mirror
        )
        self.encoder = tools.encoder_folder(options.backbone, aside)
        shown = options.backbone != tools.LARGE
        self.backbone = options.backbone if shown else str(self.encoder)
        self.from_layer = self._layers() // 2 if self.work.upper else 0
        self.parent = self._parent() if self.work.on else ""
        self.spec = self._spec()

    def _layers(self) -> int:
        config = json.loads((self.encoder / "config.json").read_text(encoding="utf-8"))
        return int(config["num_hidden_layers"])

    def _recipe(self, task: str, mirror: Path, *flags: str) -> list[str]:
        return [
            *("-m", "adapters_xtl", "recipe", task, "--method", self.work.method),
            *("--backbone", self.backbone, "--data", str(mirror)),
            *("--device", self.options.device, "--languages", "en", "--json", *flags),
            *self._settings(task),
        ]

    def _settings(self, task: str) -> list[str]:
        work, options = self.work, self.options
        pairs = {
            "train.epochs": options.epochs or work.epochs,
            "train.batch_size": options.batch_size,
            "train.max_length": work.max_length if task == work.task else 128,
            "train.eval_every": 10**8,
            "train.patience": 0,
            "train.select_examples": 0,
        }
        if options.max_steps:
            pairs["train.max_steps"] = options.max_steps
        settings = [part for key, value in pairs.items() for part in ("--set", f"{key}={value}")]
        # on its own dev rows a task selects only under XTREME's protocol; SQuAD does so anyway
        protocol = [] if tasks.load(task).select else ["--protocol", "xtreme"]
        return [*settings, *protocol]

    def _parent(self) -> str:
        """The parent's run directory, trained once for all contenders."""
        mirror = self.aside / self.name / "parent-rows"
        tools.cut(self.options.data, self.work.on, self.options.rows, self.options.dev_rows, mirror)
        runs = self.aside / self.name / "parent"
        command = self._recipe(self.work.on, mirror, "--runs", str(runs), "--no-zero-shot")
        figures = tools.measured(command, tools.environment(self.aside / "parent-cache"))
        return str(figures["answer"]["path"])

    def ours(self, seed: int, runs: Path, *flags: str) -> list[str]:
        above = ["--from-layer", str(self.from_layer)] if self.from_layer else []
        on = ["--on", self.parent] if self.parent else []
        zero_shot = ["--no-zero-shot"] if tasks.load(self.work.task).zero_shot else []
        arguments = ["--seed", str(seed), "--runs", str(runs), *above, *on, *zero_shot, *flags]
        return self._recipe(self.work.task, self.mirror, *arguments)

    def _spec(self) -> dict[str, Any]:
        """Settings and options as the package resolves them, for the scripts."""
        command = self.ours(1, self.aside / self.name / "none", "--dry-run")
        figures = tools.measured(command, tools.environment(self.aside / "parent-cache"))
        spec: dict[str, Any] = figures["answer"]["runs"][-1]["spec"]
        return spec

    def script(self, seed: int, contender: str) -> list[str]:
        task, spec, tuned = tasks.load(self.work.task), self.spec, contender != "stock"
        job = {
            **{"tuned": tuned, "format": task.format, "scorer": task.scorer},
            **{"metric": task.metric, "labels": list(task.labels)},
            **{"train": str(self.train), "dev": str(self.dev), "encoder": str(self.encoder)},
            **{"method": self.work.method, "options": spec["options"]},
            "parents": [str(Path(self.parent) / "module")] if self.parent else [],
            "from_layer": 0 if contender == WHOLE else self.from_layer,
            "hyper": spec["hyper"],
            **{"seed": seed, "device": self.options.device},
        }
        path = self.aside / self.name / "job.json"
        path.write_text(json.dumps(job), encoding="utf-8")
        return ["-m", "benchmarks.trainer_script", str(path)]

    def take(self, contender: str, seed: int) -> dict[str, Any]:
        """The figures of one process of one contender; RuntimeError when it failed."""
        with tempfile.TemporaryDirectory(dir=self.aside) as folder:
            caches = self.aside / "warm" / contender if self.options.warm else Path(folder)
            scripted = contender in SCRIPTED
            runs = Path(folder, "runs")
            command = (
                self.script(seed, contender)
                if scripted
                else self.ours(seed, runs, *contenders(self.work, self.options.device)[contender])
            )
            figures = tools.measured(command, tools.environment(caches))
        answer = figures.pop("answer")
        return {**figures, **(answer if scripted else self._figures(answer))}

    def _figures(self, answer: Mapping[str, Any]) -> dict[str, Any]:
        cost = answer["metrics"]["train"]
        cuda = self.options.device == "cuda"
        return {
            **{key: cost[key] for key in ("seconds", "steps", "examples", "tokens")},
            "padded_tokens": cost["padded_tokens"],
            "score": answer["metrics"]["score"],
            "device_peak_bytes": cost["measured_peak_bytes"] if cuda else None,
            "trainable_parameters": cost["trainable_parameters"],
        }


def summed_up(
    rounds: Sequence[Mapping[str, Any]], work: float, whole_work: float = 0.0
) -> dict[str, Any]:
    """Contender → medians over the rounds, score with its spread, ratios to those of BESIDE.
    `work`, `whole_work`: FLOPs a token, with the modules where they are and in all layers.
    """
    summary: dict[str, Any] = {}
    for name in dict.fromkeys(
        name for round_record in rounds for name in round_record["contenders"]
    ):
        own = tools.of_contender(rounds, name)
        pairs = [
            (round_record, entry) for round_record, entry in zip(rounds, own, strict=True) if entry
        ]
        if not pairs:
            continue
        padded = [(e["tokens"], e["padded_tokens"]) for _, e in pairs if e["padded_tokens"]]
        scores = [entry["score"] for _, entry in pairs]
        line: dict[str, Any] = {
            "rounds": len(pairs),
            "seconds": statistics.median(entry["seconds"] for _, entry in pairs),
            "process_seconds": statistics.median(entry["process_seconds"] for _, entry in pairs),
            "tokens_per_second": statistics.median(e["tokens"] / e["seconds"] for _, e in pairs),
            "padding": 1 - sum(t for t, _ in padded) / sum(p for _, p in padded)
            if padded
            else None,
            "mfu": statistics.median(
                entry["tokens"]
                * (whole_work if name == WHOLE else work)
                / (entry["seconds"] * round_record["matrix_rate"])
                for round_record, entry in pairs
            ),
            "peak_bytes": max(
                entry["device_peak_bytes"] or entry["peak_resident_bytes"] for _, entry in pairs
            ),
            "score": statistics.fmean(scores),
            "score_sd": statistics.stdev(scores) if len(scores) > 1 else None,
        }
        for other in BESIDE:
            line[f"faster_than_{other}"] = tools.faster(rounds, name, other)
            whole = tools.faster(rounds, name, other, "process_seconds")
            line[f"process_faster_than_{other}"] = whole
        summary[name] = line
    return summary


def _finished(round_record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The figures of a round's processes that did not fail."""
    return [entry for entry in round_record["contenders"].values() if "error" not in entry]


def section(record: Mapping[str, Any]) -> list[str]:
    """A work's part of the page."""
    settings = record["settings"]
    epochs = f", {settings['epochs']:g} epochs" if settings["epochs"] else ""
    steps = sorted(
        {entry["steps"] for round_record in record["rounds"] for entry in _finished(round_record)}
    )
    beside = [other for other in BESIDE if other in record["summary"]]
    rows = []
    for name, line in record["summary"].items():
        padding, spread = line["padding"], line["score_sd"]
        rows.append(
            [
                name,
                f"{line['seconds']:.1f}",
                f"{line['process_seconds']:.1f}",
                f"{line['tokens_per_second']:,.0f}",
                "" if padding is None else f"{100 * padding:.0f} %",
                f"{100 * line['mfu']:.0f} %",
                f"{line['peak_bytes'] / 2**30:.2f}",
                f"{line['score']:.1f}" + ("" if spread is None else f" ± {spread:.1f}"),
                *(tools.shown_ratio(line[f"faster_than_{other}"]) for other in beside),
            ]
        )
    header = ["", "s", "process s", "tokens/s", "padding", "mfu", "GiB"]
    header += ["score", *(f"× {other}" for other in beside)]
    return [
        f"## {record['work']['name']}, {record['backbone']}, {record['device']}{epochs}",
        "",
        f"{tools.device_name(record)}; {len(record['rounds'])} rounds; {settings['rows']} train and"
        f" {settings['dev_rows']} dev rows of {record['what'] or settings['data']}, batches of"
        f" {settings['batch_size']}, {' or '.join(map(str, steps))} steps. `{record['command']}`",
        "",
        *tools.markdown_table(header, rows),
        *tools.failures(record),
        "",
    ]


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", metavar="DIR", help='a mirror directory, or "embedded"')
    parser.add_argument("--works", default=",".join(WORKS), help="some of the works")
    parser.add_argument("--only", default="", help="some of the contenders")
    parser.add_argument("--backbone", default="mini", help=f"mini, tiny, {tools.LARGE} or a folder")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=1600, help="train rows; 0: all")
    parser.add_argument("--dev-rows", type=int, default=400, help="dev rows; 0: all")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--epochs", type=float, default=0, help="0: as the work has them")
    parser.add_argument("--max-steps", type=int, default=0)
    parser.add_argument("--warm", action="store_true", help="caches stay from round to round")
    parser.add_argument("--what", default="", help="what the rows are, in words")
    parser.add_argument(
        "--seconds", type=float, default=float("inf"), help="begin no round after so many seconds"
    )
    parser.add_argument("--out", type=Path, default=tools.RESULTS / "speed")
    argv = list(sys.argv[1:] if arguments is None else arguments)
    options = parser.parse_args(argv)
    options.command = tools.command_of("train_speed.py", argv, options.data)
    for flag, chosen, available in (
        ("--works", options.works, WORKS),
        ("--only", options.only, contenders(Work("", "lora", upper=True), options.device)),
    ):
        for name in filter(None, chosen.split(",")):
            if name not in available:
                parser.error(f"{flag}: no '{name}'; there are {', '.join(available)}")
    return options


def carry_out(name: str, options: argparse.Namespace, aside: Path, deadline: float) -> bool:
    """The rounds of one work that its JSON lacks; whether a process of it failed."""
    settings = {
        key: value
        for key, value in vars(options).items()
        if key in ("rows", "dev_rows", "batch_size", "epochs", "max_steps", "warm")
    }
    settings["data"] = "embedded" if options.data == "embedded" else "DIR"
    epochs = f"-{options.epochs:g}-epochs" if options.epochs else ""
    stem = f"train-{name}-{Path(options.backbone).name}-{options.device}{epochs}"
    path = options.out / f"{stem}.json"
    if time.monotonic() > deadline:
        return False
    bench = Bench(name, options, aside)
    flags = contenders(bench.work, options.device)
    chosen = [
        contender for contender in flags if not options.only or contender in options.only.split(",")
    ]
    work = tools.training_work(bench.encoder, bench.from_layer)

    def record(rounds: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "kind": "train-speed",
            "command": options.command,
            "what": options.what,
            "work": {"name": name, **asdict(bench.work), "from_layer": bench.from_layer},
            "backbone": Path(options.backbone).name,
            "device": options.device,
            "settings": settings,
            "spec": bench.spec,
            "flags": {contender: list(flags[contender]) for contender in chosen},
            "flop_per_token": work,
            "provenance": to_json(machine.describe()),
            "rounds": rounds,
            "summary": summed_up(rounds, work, tools.training_work(bench.encoder, 0)),
        }

    failed = tools.take_rounds(
        path,
        options.rounds,
        chosen,
        bench.take,
        record,
        device=options.device,
        deadline=deadline,
    )
    speed_page.write(options.out)
    return failed


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    deadline = time.monotonic() + options.seconds
    with tempfile.TemporaryDirectory() as aside:
        failed = [
            carry_out(name, options, Path(aside), deadline) for name in options.works.split(",")
        ]
    if (options.out / "README.md").is_file():
        print((options.out / "README.md").read_text(encoding="utf-8"))
    return int(any(failed))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        sys.exit(f"train_speed.py: {error}")
