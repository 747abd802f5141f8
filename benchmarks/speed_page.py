"""The page of the speed benchmarks: README.md of a folder, from the JSON files in it."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

from benchmarks.speed_tools import markdown_table

__all__ = ["write"]

SCRIPTS = ("train_speed", "score_speed", "encode_speed")
BEFORE = """# Speed of training, scoring and encoding

Written by `benchmarks/train_speed.py`, `score_speed.py` and `encode_speed.py` from the JSON files
beside it; their docstrings describe the measurements in full. In each round every configuration ran
once, in a process of its own, one after the other on the same machine. Seconds and rates are
medians over the rounds.
"""
CONFIGURATIONS = (
    (
        "stock",
        "`Trainer` with peft, or `AdapterTrainer`, as documented: float32, rows unsorted",
    ),
    ("stock-merged", "in scoring, the same with the LoRA merged into a plain checkpoint"),
    (
        "tuned",
        "the same in bfloat16, rows grouped or sorted by length (in scoring, with the merged"
        " checkpoint); in encoding, sentence-transformers with larger batches",
    ),
    (
        "tuned-whole",
        "tuned with modules in all layers, where the others have them in the upper half alone",
    ),
    (
        "no-techniques, all",
        "this package with its training settings for speed off, and on (`train.compiled` is `auto`,"
        " which never compiles on a CPU); the scoring at the end, in the seconds of both, has no"
        " such setting: it is equally fast in both",
    ),
    (
        "+NAME",
        "no-techniques and this one technique; +parallel-passes has dropout-masks on as well, and"
        " is to be held against +dropout-masks",
    ),
    (
        "beside, merged",
        "`xtl evaluate` with the module beside the layers, and merged into their weights",
    ),
    ("sentence-transformers", "`SentenceTransformer.encode`, batches of 32"),
    ("ours", "this package's encoder, as `xtl evaluate --task tatoeba` uses it"),
)
COLUMNS = (
    (
        "s",
        "seconds of a training with one scoring of the dev rows; tokenizing and loading left out",
    ),
    ("process s", "seconds of the whole process"),
    ("tokens/s", "tokens of the rows per second, padding left out"),
    ("padding", "share of padding in the tokens that were computed"),
    (
        "mfu",
        "model FLOPs utilisation: FLOPs of the encoder's linear layers on the training's tokens,"
        " padding left out, per second, in % of the measured peak of bfloat16 matrix products; the"
        " seconds include the scoring, and what a technique need not compute counts as computed",
    ),
    (
        "GiB",
        "largest peak memory of a round: of the whole process on a CPU, of the allocator on a GPU",
    ),
    (
        "score",
        "of a training: mean ± standard deviation over the rounds, each with another seed",
    ),
    ("cosine", "with the vectors of sentence-transformers: mean (smallest)"),
    ("× NAME", "speed relative to NAME (2: twice as fast): median (range) of each round's ratio"),
)
AFTER = """
In trainings and in scoring, stock and stock-merged compute in float32 and all others in
bfloat16, so that the ratios to them include the change of precision. Trainings of a few steps end
near chance: their scores cannot show what a technique costs in accuracy.

tuned's `group_by_length` shuffles the rows, cuts them into groups of rows / (4 × batch size)
batches, at most 50, and sorts by length within a group (`get_length_grouped_indices`). With few
rows the groups are small, so that tuned pads more than it would on a whole data set, where the
ratios to it are lower. The column padding tells how much.

The rows of the mirror: for pairs SNLI's captions in MNLI's columns, for tags PAN-X, for spans
English questions of TyDiQA in SQuAD's columns, at 384 tokens. stack is PAN-X on a module of the
pairs; upper is the pairs over three epochs, with modules in the upper half of the layers.
"""


def write(folder: Path) -> None:
    """Writes the page: a section for each JSON file, by script and name."""
    lines = [BEFORE, *markdown_table(("configuration", "what ran"), CONFIGURATIONS), ""]
    lines += [*markdown_table(("column", ""), COLUMNS), AFTER]
    for script in SCRIPTS:
        section = importlib.import_module(f"benchmarks.{script}").section
        for path in sorted(folder.glob(f"{script.removesuffix('_speed')}-*.json")):
            lines += section(json.loads(path.read_text(encoding="utf-8")))
    (folder / "README.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
