"""What training on XLM-R Large takes of a GPU: measured, with the planner's prediction beside it.

    .venv/bin/python benchmarks/gpu_memory.py                 everything
    .venv/bin/python benchmarks/gpu_memory.py --only lora     the cases whose name holds a text
    .venv/bin/python benchmarks/gpu_memory.py --seconds 540   stops in time; the same command goes
    on from there

True sizes, random weights made from the config, nothing is downloaded. Every input has the full
length, one in a batch some padding; a step is what `training.fit` makes of a batch (micro-batches,
weighted losses, clipping, AdamW), without checkpoints and evaluation. Per case:

    peak      the allocator's peak over the steps; `predicted` is
              `adapters_xtl.memory.peak.predict`, made before
    loading   the allocator's peak while the backbone was loaded and the modules attached
    cap       the smallest cap on what the allocator may reserve under which steps still go through,
              found by bisection: with this micro-batch, and with micro-batches of 1 (what running
              out of memory comes down to)
    seconds   the median of a few steps

Writes benchmarks/results/gpu-memory.json after every case and gpu-memory.md, a table, at the end.
Needs a CUDA device.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from adapters_xtl import formats, methods
from adapters_xtl.backbones import Backbone, loading
from adapters_xtl.backbones.shape import Shape, shape
from adapters_xtl.base import machine
from adapters_xtl.base.errors import out_of_memory
from adapters_xtl.base.files import write_json
from adapters_xtl.base.typed_json import to_json
from adapters_xtl.formats._items import Item, Lengths
from adapters_xtl.memory import peak
from adapters_xtl.memory.activations import Job
from adapters_xtl.memory.peak import GIB, Way
from adapters_xtl.methods import Link
from adapters_xtl.models.heads import head_spec
from adapters_xtl.models.network import (
    EncoderSpec,
    Host,
    Model,
    StackSpec,
    build,
    on_device,
)
from adapters_xtl.planning import memory_jobs
from adapters_xtl.training.batches import loss_weights, split, weighted
from adapters_xtl.training.fit import gradient_checkpointing

RESULTS = Path(__file__).parent / "results"
SMOKE = {
    "model_type": "xlm-roberta",
    "num_hidden_layers": 2,
    "hidden_size": 64,
    "num_attention_heads": 2,
    "intermediate_size": 128,
    "vocab_size": 500,
    "max_position_embeddings": 66,
    "type_vocab_size": 1,
    "pad_token_id": 1,
}
NOTES = (
    (
        "Random weights: speed at int8 is not representative. bitsandbytes multiplies outlier"
        " columns apart, and how many there are depends on real activations; random ones have next"
        " to none."
    ),
    (
        "Peak: torch.cuda.max_memory_allocated. Cap: torch.cuda.set_per_process_memory_fraction,"
        " steps of 1 %. CUDA's own context comes on top of both."
    ),
)
GOALS = (
    ("a module at 16 bits", 16, False, 1.5),
    ("a module at int8, embedding table on the CPU", 8, True, 1.0),
)


@dataclass(frozen=True)
class Case:
    """`goal`: GiB that the planner was given to choose the way; 0 where the way is a given."""

    job: Job
    way: Way
    goal: float = 0

    def __str__(self) -> str:
        job, way = self.job, self.way
        what = {
            "lora": f"lora r={job.options.get('r')}",
            "bottleneck": f"bottleneck /{job.options.get('reduction_factor')}",
        }
        parts = [
            what.get(job.method, job.method),
            f"{job.bits} bits",
            job.dtype,
            f"{job.format} {job.length}",
        ]
        parts += [f"{job.parents} parents"] * bool(job.parents) + ["8-bit optimizer"] * (
            job.optimizer == "adamw8bit"
        )
        parts += ["checkpointing"] * way.checkpointing + ["table on CPU"] * way.offload
        parts += [f"micro-batch {way.micro_batch} of {job.batch}"]
        return ", ".join(parts + [f"goal {self.goal:g} GiB"] * bool(self.goal))


def cases(
    form: Shape, device: str, lengths: tuple[tuple[int, str], ...], batch: int
) -> Iterator[Case]:
    for length, format in lengths:
        common: dict[str, Any] = {
            "length": length,
            "format": format,
            "batch": batch,
            "device": device,
        }
        for dtype, optimizer in (
            ("float32", "adamw"),
            ("bfloat16", "adamw"),
            ("bfloat16", "adamw8bit"),
        ):
            for checkpointing in (False, True) if dtype == "bfloat16" else (False,):
                yield Case(
                    Job("full", {}, dtype=dtype, optimizer=optimizer, **common),
                    Way(batch, checkpointing),
                )
        for method in ("bottleneck", "lora"):
            options = methods.load(method).defaults
            for bits in (16, 8, 4):
                job = Job(method, options, bits=bits, dtype="bfloat16", **common)
                for checkpointing, offload in ((False, False), (True, False), (False, True)):
                    yield Case(job, Way(batch, checkpointing, offload))
            for parents in (1, 2):
                yield Case(
                    Job(method, options, parents=parents, bits=16, dtype="bfloat16", **common),
                    Way(batch),
                )
            if length == lengths[0][0]:
                for _, bits, offload, goal in GOALS:
                    job = Job(method, options, bits=bits, dtype="bfloat16", **common)
                    fit = peak.settle(form, {"": job}, int(goal * GIB), {bits: "bfloat16"})[""]
                    yield Case(job, replace(fit.way, offload=fit.way.offload or offload), goal)


class _Padding:
    pad_token_id = 1


class _Loaded(Host):
    """A host that loads from a directory without a tokenizer."""

    def __init__(self, folder: Path, offload: bool) -> None:
        super().__init__()
        self.folder, self.offload = folder, offload

    def load(self, spec: EncoderSpec) -> Any:
        encoder = loading._read(
            self.folder, "benchmark", spec.bits, spec.dtype, spec.device, self.offload
        )
        encoder.eval().requires_grad_(False)
        return encoder, _Padding()


def weights(config: dict[str, Any], folder: Path) -> None:
    """A checkpoint with random weights (XLM-R's own initialisation)."""
    from transformers import XLMRobertaConfig, XLMRobertaModel

    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = XLMRobertaModel(
            XLMRobertaConfig(**{**config, "pad_token_id": 1}), add_pooling_layer=False
        )
    model.save_pretrained(folder)


def made(case: Case, folder: Path) -> Model:
    """The model as a recipe builds it: parents saved and loaded (random too), then the module that
    trains.
    """
    job = case.job
    how = methods.load(job.method)
    chain = []
    for number in range(job.parents):
        saved = folder.parent / f"{job.method}-{number}"
        if not saved.is_dir():
            encoder, _ = _Loaded(folder, False).encoder(EncoderSpec(NOWHERE, job.method))
            how.save(how.attach(encoder, [Link(saved.name)], job.options), saved.name, saved)
        chain.append(Link(saved.name, saved))
    hidden = int(json.loads((folder / "config.json").read_text())["hidden_size"])
    labels = tuple(str(number) for number in range(job.labels))
    head = head_spec(job.format, labels, hidden, job.head_dropout, Lengths(job.length, 16))
    return build(
        EncoderSpec(NOWHERE, job.method, job.bits, job.dtype, job.device),
        StackSpec([*chain, Link("child")], job.options),
        {"task": head},
        train=True,
        seed=1,
        host=_Loaded(folder, case.way.offload),
    )


NOWHERE = Backbone("benchmark", "directory", "")


def rows(job: Job, vocabulary: int) -> list[Item]:
    """A batch of the full length; one input is shorter, so that attention needs its mask."""
    rng = np.random.default_rng(1)
    items = []
    for number in range(job.batch):
        length = job.length - 8 * (number == 0)
        ids = np.concatenate([[0], rng.integers(5, vocabulary, length - 2), [2]]).astype(np.int32)
        gold = (
            {"span": (1, 3), "trim": (0, 0)}
            if job.format == "span"
            else {"label": number % job.labels}
        )
        items.append(Item(number, (ids,), gold=gold))
    return items


def optimizer(model: Model, job: Job) -> Any:
    trainable = list(model.trainable().values())
    if job.optimizer == "adamw":
        return torch.optim.AdamW(trainable, lr=1e-4, fused=job.device == "cuda" or None)
    import bitsandbytes

    manager = bitsandbytes.optim.GlobalOptimManager.get_instance()
    manager.initialize()
    for module in model.modules():
        if isinstance(
            module, torch.nn.Embedding
        ):  # as in `adapters_xtl.training.optimizer`: embeddings stay at 32 bits
            manager.register_module_override(module, "weight", {"optim_bits": 32})
    return bitsandbytes.optim.AdamW(trainable, lr=1e-4, optim_bits=8)


def stepper(model: Model, case: Case, items: list[Item]) -> Callable[[int, int], None]:
    """`step(micro, examples)`: one optimizer step over the first `examples` items."""
    job = case.job
    format, adam = formats.load(job.format), optimizer(model, job)
    trainable = list(model.trainable().values())

    def step(micro: int, examples: int) -> None:
        parts = split(items[:examples], micro)
        for part, of_part in zip(parts, loss_weights(format, parts), strict=True):
            batch = on_device(format.collate(part, model.tokenizer, 8), job.device)
            with torch.autocast(job.device, dtype=torch.bfloat16, enabled=job.dtype == "bfloat16"):
                computed = model("task", batch)
            weighted(computed["terms"], of_part).backward()
            del computed, batch
        torch.nn.utils.clip_grad_norm_(trainable, 1.0)
        adam.step()
        adam.zero_grad(set_to_none=True)

    return step


def cleared(model: Model | None = None) -> None:
    if model is not None:
        model.zero_grad(set_to_none=True)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def smallest_cap(
    model: Model, step: Callable[[int, int], None], micro: int, examples: int, high: int
) -> int:
    """Bytes; `high` is a cap that is known to do."""
    total = torch.cuda.get_device_properties(0).total_memory
    cleared(model)
    low = torch.cuda.memory_allocated()
    while high - low > 0.01 * high:
        middle = (low + high) // 2
        torch.cuda.set_per_process_memory_fraction(middle / total)
        try:
            step(micro, examples)
            step(micro, examples)
            high = middle
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            low = middle
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
        cleared(model)
    return high


def measure(case: Case, folder: Path, vocabulary: int, steps: int) -> dict[str, Any]:
    cuda = case.job.device == "cuda"
    cleared()
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    model = made(case, folder)
    loading = torch.cuda.max_memory_allocated() if cuda else 0
    model.train()
    step, seconds = stepper(model, case, rows(case.job, vocabulary)), []
    micro, figures = case.way.micro_batch, {"loading_bytes": loading}
    with gradient_checkpointing(model, case.way.checkpointing):
        cleared()
        if cuda:
            torch.cuda.reset_peak_memory_stats()
        for number in range(steps + 2):
            started = time.monotonic()
            step(micro, case.job.batch)
            if cuda:
                torch.cuda.synchronize()
            if number >= 2 or steps < 2:
                seconds.append(time.monotonic() - started)
        figures["seconds"] = round(statistics.median(seconds), 4)
        if cuda:
            figures["peak_bytes"] = torch.cuda.max_memory_allocated()
            high = torch.cuda.max_memory_reserved()
            figures["cap_bytes"] = max(
                smallest_cap(model, step, micro, case.job.batch, high), loading
            )
            figures["cap_micro_1_bytes"] = max(smallest_cap(model, step, 1, 2, high), loading)
    return figures


def record(form: Shape, case: Case, found: dict[str, Any]) -> dict[str, Any]:
    prediction = peak.predict(form, case.job, case.way)
    measured = found.get("peak_bytes")
    job = asdict(case.job)
    job["options"] = dict(case.job.options)
    return {
        "case": str(case),
        "job": job,
        "way": asdict(case.way),
        "goal_gib": case.goal or None,
        **found,
        "predicted_bytes": prediction.peak,
        "predicted_lines": dict(prediction.lines),
        "moment": prediction.moment,
        "predicted_over_measured": round(prediction.peak / measured, 4) if measured else None,
        "within_tenth": abs(prediction.peak / measured - 1) <= 0.1 if measured else None,
        "goal_met": measured <= case.goal * GIB if measured and case.goal else None,
    }


def table(payload: dict[str, Any]) -> str:
    """The results as a page of markdown."""
    gpu = (payload["provenance"]["hardware"]["gpu"] or {"name": "no GPU"})["name"]
    lines = [
        "# Memory of training on XLM-R Large",
        "",
        f"{gpu}, {payload['command']}. GiB unless said otherwise.",
        "",
        "| case | predicted | peak | ratio | cap | cap, micro-batch 1 | s/step |",
        "|---|---|---|---|---|---|---|",
    ]

    def size(value: int | None) -> str:
        return "" if value is None else f"{value / GIB:.2f}"

    for row in payload["cases"]:
        if "error" in row:
            lines.append(
                f"| {row['case']} | {size(row['predicted_bytes'])} | {row['error']} | | | | |"
            )
            continue
        ratio = row["predicted_over_measured"]
        shown = "" if ratio is None else f"{ratio:.2f}{'' if row['within_tenth'] else ' (off)'}"
        lines.append(
            f"| {row['case']} | {size(row['predicted_bytes'])} | {size(row.get('peak_bytes'))} |"
            f" {shown} | {size(row.get('cap_bytes'))} | {size(row.get('cap_micro_1_bytes'))} |"
            f" {row['seconds']:.3f} |"
        )
    lines.append("")
    for text, bits, _, goal in GOALS:
        rows = [
            row
            for row in payload["cases"]
            if row["goal_gib"] == goal and row.get("goal_met") is not None
        ]
        for row in rows:
            verdict = "met" if row["goal_met"] else "missed"
            lines.append(
                f"- Goal, {text}, at most {goal:g} GiB at length 128: **{verdict}** with"
                f" {size(row['peak_bytes'])} ({row['case']})"
            )
        if not rows:
            lines.append(
                f"- Goal, {text} ({bits} bits), at most {goal:g} GiB at length 128: not measured"
            )
    return "\n".join([*lines, *(f"- {note}" for note in NOTES)]) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="cases whose name holds this text")
    parser.add_argument(
        "--seconds", type=float, default=float("inf"), help="begin no case after so many seconds"
    )
    parser.add_argument("--steps", type=int, default=5, help="timed steps a case")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument(
        "--smoke",
        action="store_true",
        help="a few steps of a tiny config on the CPU: no measurement",
    )
    options = parser.parse_args()
    if not options.smoke and not torch.cuda.is_available():
        print(
            "gpu_memory.py needs a CUDA device and found none (--smoke runs its code on the CPU)",
            file=sys.stderr,
        )
        return 2
    started, device = time.monotonic(), "cpu" if options.smoke else "cuda"
    config = SMOKE if options.smoke else dict(memory_jobs.FACTS["FacebookAI/xlm-roberta-large"])
    form = shape(config)
    lengths: tuple[tuple[int, str], ...] = ((128, "classify"), (256, "classify"), (384, "span"))
    if options.smoke:
        lengths = ((32, "classify"), (48, "span"))
    every = cases(form, device, lengths, 4 if options.smoke else 32)
    wanted = [case for case in every if options.only in str(case)]
    path = options.out / "gpu-memory.json"
    recorded = (
        {row["case"]: row for row in json.loads(path.read_text())["cases"]}
        if path.is_file()
        else {}
    )
    words = [name for name in sys.argv[1:] if not name.startswith(("/", "--out"))]
    payload: dict[str, Any] = {
        "kind": "gpu-memory",
        "command": " ".join(["benchmarks/gpu_memory.py", *words]),
        "config": config,
        "notes": list(NOTES),
        "provenance": to_json(machine.describe()),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as aside:
        folder = Path(aside) / "weights"
        weights(config, folder)
        for number, case in enumerate(wanted):
            earlier = recorded.get(
                str(case)
            )  # a case that failed for want of anything but memory is tried again
            if earlier and earlier.get("error", "out of memory") == "out of memory":
                continue
            if time.monotonic() - started > options.seconds:
                continue
            try:
                figures = measure(
                    case, folder, config["vocab_size"], 1 if options.smoke else options.steps
                )
            except Exception as error:  # one case that fails does not cost the others
                figures = {
                    "error": (
                        "out of memory"
                        if out_of_memory(error)
                        else f"{type(error).__name__}: {error}"[:300]
                    )
                }
            recorded[str(case)] = record(form, case, figures)
            print(
                f"[{number + 1}/{len(wanted)}] {case}: {json.dumps(figures)}",
                file=sys.stderr,
                flush=True,
            )
            write_json(path, {**payload, "cases": list(recorded.values())})
    payload["cases"] = list(recorded.values())
    path.with_suffix(".md").write_text(table(payload), encoding="utf-8")
    left = sum(str(case) not in recorded for case in wanted)
    failed = sum(row.get("error", "out of memory") != "out of memory" for row in recorded.values())
    print(
        f"{path}: {len(recorded)} cases"
        + (f", {failed} of them failed" if failed else "")
        + (f", {left} left" if left else "")
        + (": the same command goes on" if left or failed else "")
    )
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
