"""What a matrix of intermediate and target tasks costs as it grows, beside one full fine-tuning a
cell.

    .venv/bin/python benchmarks/matrix_cost.py RUNS/studies/NAME       a finished study `transfer`
    .venv/bin/python benchmarks/matrix_cost.py xlmr-large              predicted, nothing is run

Of a finished study: the seconds and stored bytes of the trainings that each part of its matrix
needs, read from the records of its store, each training counted once however many cells stand on
it. The parts grow by targets, by intermediates and by seeds. RUNS is the store: the folder that
holds studies/, or --runs.

Beside it the same trainings, intermediate tasks shared in the same way, each as a full fine-tuning,
which is what Phang et al. 2020 did. They are measured where the method `full` is in the study, else
predicted: 3/2 of a module's seconds (of three matrix products of a step, a frozen weight skips the
one of its own gradient: Kaplan et al. 2020, arXiv 2001.08361, section 2.1), and 4 bytes a parameter
of the whole encoder. 3/2 is an estimate from the FLOPs of matrix products alone.

Of a named backbone all of it is predicted: --examples a training, which average one third of
--max-length tokens, on a device of --rate FLOP/s; the rate is assumed, give a measured one. Writes
benchmarks/results/matrix-cost/<name>.json and README.md there.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from adapters_xtl import methods
from adapters_xtl.backbones.shape import shape
from adapters_xtl.base.errors import XtlError
from adapters_xtl.base.files import write_json
from adapters_xtl.memory import peak
from adapters_xtl.memory.activations import Job, head_parameters, module_parameters
from adapters_xtl.memory.peak import GIB, Way
from adapters_xtl.planning import memory_jobs
from adapters_xtl.runs.stored_runs import StoredRun, read_run
from benchmarks.speed_tools import RESULTS, markdown_table

NONE = "none"
FULL_OVER_MODULE = 3 / 2  # seconds of a step
FILLED = 1 / 3  # of the longest input
TEXT = """# What a matrix costs as it grows

Written by `benchmarks/matrix_cost.py`, whose docstring says how. A line is a matrix of so many
targets, trained after each of so many intermediate tasks and after none, over so many seeds. An
intermediate task is trained once for each seed and shared by all targets; every other training
belongs to one cell. The bytes of stacks are those of modules and heads, all on one frozen backbone;
full fine-tuning stores the whole encoder for each training. Predicted hours count the FLOPs of the
encoder's linear layers alone, and give full fine-tuning 3/2 of a module's, an estimate.
"""


@dataclass(frozen=True)
class Cost:
    """Of some trainings: how many, their seconds, the bytes that they left."""

    trainings: int
    seconds: float
    stored_bytes: int


@dataclass(frozen=True)
class Part:
    """A part of the matrix and its cost, with modules and with one full fine-tuning a cell."""

    targets: int
    intermediates: int
    seeds: int
    modules: Cost
    full: Cost


def sizes(count: int) -> list[int]:
    """1, half and all of `count`."""
    return sorted({1, -(-count // 2), count} - {0})


def ends(count: int) -> list[int]:
    """1 and all of `count`."""
    return sorted({1, count} - {0}) if count else []


# ---------------------------------------------------------------------- a finished study


@dataclass(frozen=True)
class Training:
    """One finished training; `full_bytes`: of a checkpoint of everything that it would train."""

    seconds: float
    stored_bytes: int
    full_bytes: int


def trainings_of(run: StoredRun, runs: Path, known: dict[str, Training]) -> set[str]:
    """Ids of the trainings that a run stands on, its own among them; `known` gets their figures."""
    needed: set[str] = set()
    waiting = [run]
    while waiting:
        current = waiting.pop()
        module = current.spec.module
        references = [*current.spec.parents, *([module] if module is not None else [])]
        waiting += [
            read_run(runs / reference.task / reference.id)
            for reference in references
            if reference.id != current.spec.id
        ]
        if current.spec.kind == "training":
            cost = current.metrics.train
            needed.add(current.spec.id)
            if cost is not None:
                whole = 4 * (cost.total_parameters - cost.trainable_parameters)
                known[current.spec.id] = Training(cost.seconds, cost.stored_bytes, whole)
    return needed


def measured(study: Mapping[str, Any], runs: Path, method: str) -> list[Part]:
    """The parts of a finished study's matrix of one method."""
    trainings: dict[str, Training] = {}
    needed: dict[tuple[str, str, int], set[str]] = {}  # (target, intermediates, seed)
    for row in study["rows"]:
        if row["method"] != method or not {"task", "on"} <= set(row["point"]):
            continue
        for entry in row["runs"]:
            ids = trainings_of(read_run(runs / entry["run"]), runs, trainings)
            needed[row["point"]["task"], row["point"]["on"], entry["seed"]] = ids
    targets = list(dict.fromkeys(target for target, _, _ in needed))
    above = [name for name in dict.fromkeys(name for _, name, _ in needed) if name != NONE]
    seeds = sorted({seed for _, _, seed in needed})
    return [
        part(
            (len(some), others, len(drawn)),
            [
                trainings[training]
                for training in set().union(
                    *(
                        ids
                        for (target, name, seed), ids in needed.items()
                        if target in some and name in (NONE, *above[:others]) and seed in drawn
                    )
                )
                if training in trainings
            ],
        )
        for some, others, drawn in product(
            [targets[:count] for count in sizes(len(targets))],
            ends(len(above)) or [0],
            [seeds[:count] for count in ends(len(seeds))],
        )
    ]


def part(counts: tuple[int, int, int], trainings: Iterable[Training]) -> Part:
    """What trainings cost together, and what they would cost as full fine-tunings."""
    every = list(trainings)
    seconds = sum(training.seconds for training in every)
    return Part(
        *counts,
        Cost(len(every), seconds, sum(training.stored_bytes for training in every)),
        Cost(
            len(every),
            seconds * FULL_OVER_MODULE,
            sum(training.full_bytes + training.stored_bytes for training in every),
        ),
    )


# ---------------------------------------------------------------------- a prediction


def predicted(options: argparse.Namespace) -> tuple[list[Part], dict[str, Any]]:
    """The parts of the matrix of Phang et al. 2020 on a backbone, and the peaks of a training."""
    form = shape(memory_jobs.config(options.study))
    sized: dict[str, tuple[float, int]] = {}
    peaks = {}
    for method in ("full", options.method):
        how = methods.load(method)
        job = Job(
            method,
            how.defaults,
            bits=32 if method == "full" else 16,
            dtype="bfloat16",
            device="cuda",
            length=options.max_length,
            batch=options.batch_size,
        )
        tokens = options.examples * options.max_length * FILLED
        passes = 3 if how.whole_encoder else 2
        seconds = 2 * passes * form.linear * form.layers * tokens / options.rate
        sized[method] = (seconds, 4 * (module_parameters(form, job) + head_parameters(form, job)))
        peaks[method] = peak.predict(form, job, Way(options.batch_size)).peak

    def cost(method: str, trainings: int) -> Cost:
        seconds, stored = sized[method]
        return Cost(trainings, trainings * seconds, trainings * stored)

    parts = []
    for targets, above, seeds in product(
        sizes(options.targets), (0, *ends(options.intermediates)), ends(options.seeds)
    ):
        trainings = seeds * (above + targets * (above + 1))
        full, modules = cost("full", trainings), cost(options.method, trainings)
        parts.append(Part(targets, above, seeds, modules, full))
    return parts, {"peak_bytes": peaks}


# ---------------------------------------------------------------------- the page


def table(parts: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = []
    for entry in parts:
        modules, full = entry["modules"], entry["full"]
        rows.append(
            [
                *(str(entry[key]) for key in ("targets", "intermediates", "seeds")),
                str(modules["trainings"]),
                hours(modules["seconds"]),
                size(modules["stored_bytes"]),
                hours(full["seconds"]),
                size(full["stored_bytes"]),
            ]
        )
    header = ["targets", "intermediates", "seeds", "trainings", "stacks: hours", "stacks: GiB"]
    return markdown_table([*header, "full: hours", "full: GiB"], rows)


def hours(seconds: float) -> str:
    return f"{seconds / 3600:.2f}" if seconds >= 360 else f"{seconds / 3600:.2g}"


def size(number: float) -> str:
    return f"{number / GIB:.3f}" if number < GIB else f"{number / GIB:,.1f}"


def section(record: Mapping[str, Any]) -> list[str]:
    lines = [f"## {record['title']}", "", f"`{record['command']}`. {record['what']}", ""]
    peaks = record.get("peak_bytes") or {}
    peak_text = ", ".join(f"{method} {value / GIB:.1f} GiB" for method, value in peaks.items())
    below = ["", f"Peak memory of one training: {peak_text}."] if peak_text else []
    return [*lines, *table(record["parts"]), *below, ""]


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", help="a finished study's directory, or a named backbone")
    parser.add_argument("--runs", type=Path, help="the study's store")
    parser.add_argument("--method", default="lora")
    parser.add_argument("--name", default="", help="name of the result")
    parser.add_argument("--examples", type=int, default=100_000, help="of a training, predicted")
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--targets", type=int, default=6, help="that train")
    parser.add_argument("--intermediates", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rate", type=float, default=50e12, help="FLOP/s, assumed")
    parser.add_argument("--out", type=Path, default=RESULTS / "matrix-cost")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    folder = Path(options.study)
    record: dict[str, Any] = {"kind": "matrix-cost"}
    if (folder / "study.json").is_file():
        study = json.loads((folder / "study.json").read_text(encoding="utf-8"))
        parts = measured(study, options.runs or folder.resolve().parent.parent, options.method)
        if not parts:
            lacks = f"has no cell of a target, intermediates and {options.method}"
            print(f"matrix_cost.py: {folder} {lacks}", file=sys.stderr)
            return 2
        whole = measured(study, options.runs or folder.resolve().parent.parent, "full")
        predicts = "those of full fine-tuning are predicted from them"
        if whole and options.method != "full":
            predicts = "and so are those of full fine-tuning"
            parts = [
                replace(entry, full=own.modules) for entry, own in zip(parts, whole, strict=True)
            ]
        record |= {
            "title": f"Measured: {study['title']}, {options.method}",
            "command": f"benchmarks/matrix_cost.py RUNS/studies/{folder.name}",
            "what": " ".join(
                [f"Seconds and bytes of stacks are measured, {predicts}."]
                + [f"{reason[0].upper()}{reason[1:]}." for reason in study["no_evidence"]]
            ),
            "study": study["command"],
            "provenance": study["provenance"],
        }
        name = options.name or study["study"]
    else:
        parts, more = predicted(options)
        name = options.name or options.study
        record |= {
            "title": f"Predicted: {options.study}, {options.method}",
            "command": f"benchmarks/matrix_cost.py {options.study}",
            "what": f"Nothing was run. Assumed: {options.examples:,} examples a training, of"
            f" {options.max_length * FILLED:.0f} tokens on average, and {options.rate:.3g} FLOP/s."
            " Phang et al.'s nine targets need six trainings: XQuAD and MLQA share one, BUCC and"
            " Tatoeba have none.",
            **more,
        }
    record["parts"] = [asdict(entry) for entry in parts]
    options.out.mkdir(parents=True, exist_ok=True)
    write_json(options.out / f"{name}.json", record)
    records = [json.loads(path.read_text()) for path in sorted(options.out.glob("*.json"))]
    lines = [TEXT, *(line for recorded in records for line in section(recorded))]
    text = "\n".join(lines).rstrip() + "\n"
    (options.out / "README.md").write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except XtlError as error:
        sys.exit(f"matrix_cost.py: {error}")
