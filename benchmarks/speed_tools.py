"""What the speed benchmarks share: rows cut alike for everyone, processes measured alike, the rate
of matrix products, ratios pair by pair.
"""

from __future__ import annotations

import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from adapters_xtl import tasks
from adapters_xtl.backbones import embedded, registry
from adapters_xtl.backbones.shape import shape
from adapters_xtl.base.files import write_json
from adapters_xtl.data.sources import samples_dir
from adapters_xtl.planning import memory_jobs
from adapters_xtl.tasks import Rows

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
LARGE = "xlmr-large-random"  # XLM-R Large's sizes, random weights, mini's tokenizer (XLM-R's own)
RATE_OF = """
import sys, time, torch
device, size, best = sys.argv[1], int(sys.argv[2]), 0.0
left, right = (torch.randn(size, size, dtype=torch.bfloat16, device=device) for _ in range(2))
end = time.monotonic() + float(sys.argv[3])
while best == 0.0 or time.monotonic() < end:
    started = time.monotonic()
    for _ in range(3):
        left @ right
    if device == "cuda":
        torch.cuda.synchronize()
    best = max(best, 3 * 2 * size**3 / (time.monotonic() - started))
print(best)
"""


# ---------------------------------------------------------------------- rows and encoders


def table_of(data: str, rows: Rows, sampled: tuple[str, str], code: str = "en") -> pa.Table:
    """The rows of one split in one language: from a mirror directory, or ("embedded") the package's
    own of the task and the split that `sampled` names.

    FileNotFoundError, with the place that was looked at, where a mirror lacks them.
    """
    if data == "embedded":
        samples, split = sampled
        lines = (samples_dir() / f"{samples}.jsonl").read_text(encoding="utf-8").split("\n")
        entries = [json.loads(line) for line in lines if line]
        return pa.Table.from_pylist(
            [
                {key: value for key, value in row.items() if key not in ("split", "language")}
                for row in entries
                if row["split"] == split and row["language"] == code
            ]
        )
    place = rows.named(code)
    paths = sorted((Path(data) / place.repo / place.config).glob(f"{place.split}-*.parquet"))
    if not paths:
        raise FileNotFoundError(f"{data}: no {place.repo}/{place.config}/{place.split}-*.parquet")
    return pa.concat_tables([pq.read_table(path) for path in paths])


def cut(data: str, task: str, train: int, dev: int, mirror: Path) -> tuple[Path, Path]:
    """Writes `train` train rows and `dev` English dev rows of a task, drawn alike each time, as a
    mirror; their two files. 0: all rows.
    """
    declared = tasks.load(task)
    paths = []
    for rows, split, count in (
        (declared.train[0], "train", train),
        (declared.report["validation"][0], "select", dev),
    ):
        table = table_of(data, rows, (declared.samples or task, split))
        count = min(count or len(table), len(table))
        chosen = np.sort(np.random.default_rng(0).permutation(len(table))[:count])
        place = rows.named("en")
        path = mirror / place.repo / place.config / f"{place.split}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table.take(chosen), path)
        paths.append(path)
    return paths[0], paths[1]


def encoder_folder(backbone: str, aside: Path) -> Path:
    """A directory that transformers loads the encoder and its tokenizer from: `mini` and a
    directory as they are; `tiny` and `xlmr-large-random` are written below `aside`.
    """
    if backbone == "mini":
        return embedded.prepare()
    if backbone not in ("tiny", LARGE):
        return Path(backbone).resolve()
    folder = aside / backbone
    if folder.is_dir():
        return folder
    import torch
    from transformers import XLMRobertaConfig, XLMRobertaModel

    from adapters_xtl.backbones import loading

    if backbone == "tiny":
        encoder: Any = loading.load(registry.resolve("tiny"))[0]
    else:
        sizes = memory_jobs.FACTS["FacebookAI/xlm-roberta-large"]
        torch.manual_seed(0)
        with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
            encoder = XLMRobertaModel(XLMRobertaConfig(**sizes), add_pooling_layer=False)
    encoder.save_pretrained(folder)
    tokenizer = tokenizer_folder()
    for name in registry.tokenizer_files(tokenizer):
        (folder / name).write_bytes((tokenizer / name).read_bytes())
    return folder


def tokenizer_folder() -> Path:
    """Where XLM-R's tokenizer lies: XTL_TOKENIZER, or the embedded encoder."""
    folder = os.environ.get("XTL_TOKENIZER")
    return Path(folder) if folder else embedded.prepare()


# ---------------------------------------------------------------------- processes


def environment(caches: Path) -> dict[str, str]:
    """The environment of one contender's process, its caches below `caches`; the embedded encoder
    alone is the user's.
    """
    home = caches / "xtl"
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "mini").exists() and embedded.is_ready():
        (home / "mini").symlink_to(embedded.prepare().parent)
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "XTL_CACHE": str(home),
        "HF_HOME": str(caches / "hf"),
        "HF_HUB_OFFLINE": "1",
        "TORCHINDUCTOR_CACHE_DIR": str(caches / "inductor"),
        "TRITON_CACHE_DIR": str(caches / "triton"),
    }


def measured(command: Sequence[str], env: Mapping[str, str]) -> dict[str, Any]:
    """Runs a Python command whose last line on stdout is JSON: that `answer`, the whole process's
    `process_seconds` and its `peak_resident_bytes`, as the system counts them.

    RuntimeError, with the end of what it wrote to stderr, when it fails.
    """
    with tempfile.TemporaryFile() as errors:
        started = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, *command], stdout=subprocess.PIPE, stderr=errors, env=dict(env)
        )
        assert process.stdout is not None
        try:
            output = process.stdout.read()
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:  # an interrupt of ours ends it too
            process.kill()
            process.wait()
            raise
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - started
        if process.returncode:
            errors.seek(0)
            lines = errors.read().decode(errors="replace").strip().splitlines()
            raise RuntimeError(f"exit code {process.returncode}: {' | '.join(lines[-5:])}")
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {
        "answer": json.loads(output.decode().strip().splitlines()[-1]),
        "process_seconds": round(seconds, 3),
        "peak_resident_bytes": peak,
    }


def matrix_rate(device: str, seconds: float = 2.0) -> float:
    """FLOP/s of large bfloat16 matrix products on this device, the best of a few, in a process of
    its own.
    """
    size = 8192 if device == "cuda" else 2048
    command = [sys.executable, "-c", RATE_OF, device, str(size), str(seconds)]
    return float(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout)


def training_work(folder: Path, from_layer: int) -> float:
    """FLOP per token of the encoder's linear layers in one step: forward through all of them, the
    gradient of the inputs from `from_layer` up. Attention's products, the modules and the head come
    on top.
    """
    form = shape(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    layer = 2 * (4 * form.hidden**2 + 2 * form.hidden * form.inner)
    return layer * (form.layers + form.layers - from_layer)


def turned(contenders: Sequence[str], number: int) -> list[str]:
    """The order of round `number`: each contender is first once, so that a drift of the machine
    meets all alike.
    """
    shift = number % len(contenders)
    return [*contenders[shift:], *contenders[:shift]]


def errors_of(one: Mapping[str, Any]) -> dict[str, str]:
    """Contender → what went wrong in a round."""
    taken = one["contenders"]
    return {name: entry["error"] for name, entry in taken.items() if "error" in entry}


def take_rounds(
    path: Path,
    rounds: int,
    contenders: Sequence[str],
    take: Callable[[str, int], dict[str, Any]],
    record: Callable[[list[dict[str, Any]]], dict[str, Any]],
    *,
    device: str,
    deadline: float = float("inf"),
) -> bool:
    """Rounds until `path` holds so many, written as `record(rounds)` after each; whether a process
    failed in one of them. `take(contender, number)`: the figures of one process, RuntimeError where
    it failed. A round with a failure is taken again by the next call.

    SystemExit where the file is of other settings.
    """
    recorded = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"rounds": []}
    taken = [round_record for round_record in recorded["rounds"] if not errors_of(round_record)]
    if taken and recorded["settings"] != record([])["settings"]:
        raise SystemExit(f"{path}: of other settings; move it away, or give another --out")
    while len(taken) < rounds and time.monotonic() <= deadline:
        order, figures = turned(contenders, len(taken)), {}
        rate = matrix_rate(device)
        for contender in order:
            try:
                figures[contender] = take(contender, len(taken) + 1)
            except RuntimeError as error:
                figures[contender] = {"error": str(error)[:600]}
            print(
                f"{path.stem} {len(taken) + 1} {contender}: {figures[contender]}", file=sys.stderr
            )
        in_order = {contender: figures[contender] for contender in contenders}
        taken.append({"order": order, "matrix_rate": rate, "contenders": in_order})
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, record(taken))
    return any(map(errors_of, taken))


def of_contender(rounds: Sequence[Mapping[str, Any]], name: str) -> list[Mapping[str, Any] | None]:
    """A contender's figures of each round, None where it has none."""
    entries = [round_record["contenders"].get(name) for round_record in rounds]
    return [None if entry is None or "error" in entry else entry for entry in entries]


def faster(
    rounds: Sequence[Mapping[str, Any]], name: str, other: str, figure: str = "seconds"
) -> dict[str, Any]:
    """How many times faster a contender is than another, round by round (see `ratios`)."""
    both = [
        (slow[figure], fast[figure])
        for slow, fast in zip(of_contender(rounds, other), of_contender(rounds, name), strict=True)
        if slow and fast and name != other
    ]
    return ratios([slow for slow, _ in both], [fast for _, fast in both])


# ---------------------------------------------------------------------- figures


def ratios(slow: Sequence[float], fast: Sequence[float]) -> dict[str, Any]:
    """slow / fast, pair by pair: each, their median, smallest and largest."""
    pairs = [round(first / second, 4) for first, second in zip(slow, fast, strict=True)]
    if not pairs:
        return {"pairs": [], "median": None, "min": None, "max": None}
    return {
        "pairs": pairs,
        "median": round(statistics.median(pairs), 4),
        "min": min(pairs),
        "max": max(pairs),
    }


def shown_ratio(ratio: Mapping[str, Any]) -> str:
    """The median with the range: "1.62 (1.55–1.70)"; "" where there is no pair."""
    if not ratio["pairs"]:
        return ""
    return f"{ratio['median']:.2f} ({ratio['min']:.2f}–{ratio['max']:.2f})"


def command_of(script: str, given: Sequence[str], data: str) -> str:
    """The command as a record has it: DIR for the directory of the rows, no place of the output."""
    shown, skipped = [], False
    for flag in given:
        if not skipped and not flag.startswith("--out"):
            shown.append("DIR" if flag == data != "embedded" else flag)
        skipped = flag == "--out"
    return shlex.join([f"benchmarks/{script}", *shown])


def failures(record: Mapping[str, Any]) -> list[str]:
    """Lines of a page about the processes that failed."""
    lines = [
        f"- round {number}, {name}: {error}"
        for number, round_record in enumerate(record["rounds"], start=1)
        for name, error in errors_of(round_record).items()
    ]
    return ["", "Failed:", *lines] if lines else []


def device_name(record: Mapping[str, Any]) -> str:
    """The GPU's name, or the CPU's with its number of cores."""
    hardware = record["provenance"]["hardware"]
    if record["device"] == "cuda":
        return str(hardware["gpu"]["name"])
    return f"{hardware['cpu']['name']}, {hardware['cpu']['cores']} cores"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(header)} |",
        "|" + "---|" * len(header),
        *(f"| {' | '.join(row)} |" for row in rows),
    ]
