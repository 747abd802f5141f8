"""How fast sentences are encoded for retrieval: this package beside `sentence-transformers`.

    .venv/bin/python benchmarks/encode_speed.py DIR                    Tatoeba's sentences, `mini`
    .venv/bin/python benchmarks/encode_speed.py embedded --backbone tiny --only ours

The bare encoder, all of its layers, the mean over a text's tokens, the same sentences in the same
order and the same precision, each contender in a process of its own, one after the other, round
after round:

    sentence-transformers   `SentenceTransformer.encode`, batches of 32 (its default)
    tuned                   the same with batches of 128
    ours                    what `xtl evaluate --task tatoeba` encodes with

Theirs has its weights in bfloat16; ours multiplies in bfloat16 too, and keeps weights, sums and
normalisation in float32. `seconds`: tokenizing and encoding, after one call on a hundred
sentences, loading left out. `cosine`: of each contender's vectors with sentence-transformers', the
mean and the smallest, which should be close to 1. The JSON goes to
benchmarks/results/speed/encode-<backbone>-<device>.json. sentence-transformers is the extra
[sentence-transformers].
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from adapters_xtl import tasks
from adapters_xtl.backbones import registry
from adapters_xtl.backbones.fingerprint import fingerprinted
from adapters_xtl.base import machine
from adapters_xtl.base.typed_json import to_json
from benchmarks import speed_page
from benchmarks import speed_tools as tools

TASK = "tatoeba"
THEIRS = "sentence-transformers"
CONTENDERS = (THEIRS, "tuned", "ours")
WARM_UP = 100
LONGEST = 512


def sentences(data: str, count: int) -> list[str]:
    """The first sentences of all languages of the source, in both languages of each pair, mixed."""
    declared, texts = tasks.load(TASK), []
    (rows,) = declared.report["validation"]
    for language in sorted(declared.languages["xtreme"]):
        code = language if data == "embedded" else declared.code(language)
        try:
            table = tools.table_of(data, rows, (TASK, "report"), code)
        except FileNotFoundError:
            continue
        for row in table.to_pylist()[:1000]:  # a slice of a table without columns has 1000 rows
            example = declared.example(row)
            texts += [example["source"], example["target"]]
    if not texts:
        raise FileNotFoundError(f"{data}: no rows of {TASK}")
    order = np.random.default_rng(0).permutation(len(texts))
    return [texts[number] for number in order[: count or len(texts)]]


def ours(job: Mapping[str, Any], texts: Sequence[str]) -> tuple[np.ndarray, float]:
    """(vectors, seconds)."""
    from adapters_xtl.evaluation import retrieval
    from adapters_xtl.models.network import EncoderSpec, StackSpec, build

    backbone = fingerprinted(registry.resolve(job["backbone"]))
    spec = EncoderSpec(backbone, "lora", 32, job["dtype"], job["device"])
    model = build(spec, StackSpec(), {}, train=False)

    def encoded(some: Sequence[str]) -> np.ndarray:
        return retrieval.vectors_of(
            model,
            tasks.load(TASK).format,
            [{"text": text} for text in some],
            layer=str(model.layers),
            device=job["device"],
            dtype=job["dtype"],
        ).vectors[:, 0]

    encoded(texts[:WARM_UP])
    started = time.monotonic()
    return encoded(texts), time.monotonic() - started


def theirs(job: Mapping[str, Any], texts: Sequence[str]) -> tuple[np.ndarray, float]:
    """(vectors, seconds)."""
    import torch
    from sentence_transformers import SentenceTransformer, models

    word = models.Transformer(
        job["encoder"],
        max_seq_length=LONGEST,
        model_args={"torch_dtype": getattr(torch, job["dtype"]), "add_pooling_layer": False},
    )
    pooling = models.Pooling(word.get_word_embedding_dimension(), pooling_mode="mean")
    model = SentenceTransformer(modules=[word, pooling], device=job["device"])
    model.encode(list(texts[:WARM_UP]), batch_size=job["batch_size"])
    started = time.monotonic()
    vectors = model.encode(list(texts), batch_size=job["batch_size"], show_progress_bar=False)
    return vectors, time.monotonic() - started


def script(job: Mapping[str, Any]) -> dict[str, Any]:
    """Encodes in this process; the vectors go to a file."""
    import torch

    texts = json.loads(Path(job["texts"]).read_text(encoding="utf-8"))
    vectors, seconds = (ours if job["contender"] == "ours" else theirs)(job, texts)
    np.save(job["vectors"], np.asarray(vectors, dtype=np.float32))
    cuda = job["device"] == "cuda"
    return {
        "seconds": round(seconds, 3),
        "sentences": len(texts),
        "device_peak_bytes": torch.cuda.max_memory_allocated() if cuda else None,
    }


class Bench:
    """The sentences, the encoder, and the contenders' processes."""

    def __init__(self, options: argparse.Namespace, aside: Path) -> None:
        self.options, self.aside = options, aside
        self.encoder = tools.encoder_folder(options.backbone, aside)
        self.texts = aside / "texts.json"
        texts = sentences(options.data, options.sentences)
        self.texts.write_text(json.dumps(texts), encoding="utf-8")

    def take(self, contender: str, number: int) -> dict[str, Any]:
        large = self.options.backbone == tools.LARGE
        vectors = {name: self.aside / f"{name}.npy" for name in CONTENDERS}
        job = {
            "contender": contender,
            "backbone": str(self.encoder) if large else self.options.backbone,
            "encoder": str(self.encoder),
            "texts": str(self.texts),
            "vectors": str(vectors[contender]),
            "batch_size": 128 if contender == "tuned" else 32,
            "dtype": self.options.dtype,
            "device": self.options.device,
        }
        path = self.aside / "job.json"
        path.write_text(json.dumps(job), encoding="utf-8")
        with tempfile.TemporaryDirectory(dir=self.aside) as caches:
            figures = tools.measured(
                ["-m", "benchmarks.encode_speed", "--script", str(path)],
                tools.environment(Path(caches)),
            )
        return {**figures.pop("answer"), **figures}

    def cosines(self) -> dict[str, dict[str, float]]:
        """Contender → mean and smallest cosine of its last vectors with those of
        sentence-transformers.
        """
        vectors = {
            name: np.load(self.aside / f"{name}.npy")
            for name in CONTENDERS
            if (self.aside / f"{name}.npy").is_file()
        }
        if THEIRS not in vectors:
            return {}
        unit = {
            name: own / np.linalg.norm(own, axis=1, keepdims=True) for name, own in vectors.items()
        }
        cosines = {name: (own * unit[THEIRS]).sum(axis=1) for name, own in unit.items()}
        return {
            name: {"mean": float(own.mean()), "min": float(own.min())}
            for name, own in cosines.items()
        }


def summed_up(rounds: Sequence[Mapping[str, Any]], contenders: Sequence[str]) -> dict[str, Any]:
    lines: dict[str, Any] = {}
    for name in contenders:
        own = [entry for entry in tools.of_contender(rounds, name) if entry]
        if own:
            lines[name] = {
                "sentences_per_second": statistics.median(
                    entry["sentences"] / entry["seconds"] for entry in own
                ),
                "process_seconds": statistics.median(entry["process_seconds"] for entry in own),
                "peak_bytes": max(
                    entry["device_peak_bytes"] or entry["peak_resident_bytes"] for entry in own
                ),
                "faster_than_theirs": tools.faster(rounds, name, THEIRS),
                "faster_than_tuned": tools.faster(rounds, name, "tuned"),
            }
    return lines


def shown_cosine(cosine: Mapping[str, float] | None) -> str:
    """The mean, and the smallest in parentheses."""
    return "" if cosine is None else f"{cosine['mean']:.4f} ({cosine['min']:.4f})"


def section(record: Mapping[str, Any]) -> list[str]:
    rows = [
        [
            name,
            f"{line['sentences_per_second']:,.0f}",
            f"{line['process_seconds']:.1f}",
            f"{line['peak_bytes'] / 2**30:.2f}",
            shown_cosine(record["cosines"].get(name)),
            tools.shown_ratio(line["faster_than_theirs"]),
            tools.shown_ratio(line["faster_than_tuned"]),
        ]
        for name, line in record["summary"].items()
    ]
    header = ["", "sentences/s", "process s", "GiB", "cosine", f"× {THEIRS}", "× tuned"]
    return [
        f"## Encoding sentences, {record['backbone']}, {record['settings']['dtype']},"
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
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--only", default=",".join(CONTENDERS), help="some of the contenders")
    parser.add_argument("--sentences", type=int, default=4000, help="0: all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=tools.RESULTS / "speed")
    options = parser.parse_args(argv)
    contenders = options.only.split(",")
    if wrong := [name for name in contenders if name not in CONTENDERS]:
        parser.error(f"--only: no '{wrong[0]}'; there are {', '.join(CONTENDERS)}")
    if contenders != ["ours"] and importlib.util.find_spec("sentence_transformers") is None:
        print(
            "encode_speed.py: sentence-transformers is not installed: pip install"
            " 'adapters-xtl[sentence-transformers]', or give --only ours",
            file=sys.stderr,
        )
        return 2
    with tempfile.TemporaryDirectory() as aside:
        bench = Bench(options, Path(aside))

        def record(rounds: list[dict[str, Any]]) -> dict[str, Any]:
            return {
                "kind": "encode-speed",
                "command": tools.command_of("encode_speed.py", argv, options.data),
                "backbone": Path(options.backbone).name,
                "device": options.device,
                "settings": {"sentences": options.sentences, "dtype": options.dtype},
                "cosines": bench.cosines(),
                "provenance": to_json(machine.describe()),
                "rounds": rounds,
                "summary": summed_up(rounds, contenders),
            }

        path = options.out / f"encode-{Path(options.backbone).name}-{options.device}.json"
        failed = tools.take_rounds(
            path, options.rounds, contenders, bench.take, record, device=options.device
        )
    speed_page.write(options.out)
    print("\n".join(section(json.loads(path.read_text(encoding="utf-8")))))
    return int(failed)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (FileNotFoundError, RuntimeError) as error:
        sys.exit(f"encode_speed.py: {error}")
