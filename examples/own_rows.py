"""Trains a module on rows of one's own, without a task file, and shares it.

    python examples/own_rows.py                  a few made-up reviews, to see it work
    python examples/own_rows.py train.en.csv test.sw.csv

The files have a header with the columns `review` and `verdict`; the language of a file stands in
its name, before the suffix. Rows that choose the checkpoint are cut off the train rows.
"""

from __future__ import annotations

import csv
import os
import random
import sys
from pathlib import Path

import adapters_xtl as xtl

BACKBONE = os.environ.get("XTL_EXAMPLE_BACKBONE", "mini")
STEPS = int(os.environ.get("XTL_EXAMPLE_STEPS", "40"))

ENGLISH = {"good": ["was lovely", "came on time"], "bad": ["was cold", "never came"]}
SWAHILI = {"good": ["ilikuwa nzuri", "ilifika kwa wakati"], "bad": ["ilikuwa baridi", "haikufika"]}


def write_reviews(path: Path, things: list[str], endings: dict[str, list[str]]) -> Path:
    """A CSV file of made-up reviews: every thing with every ending, in a fixed random order."""
    rows = [
        (f"{thing} {ending}.", verdict)
        for thing in things
        for verdict, texts in endings.items()
        for ending in texts
    ]
    random.Random(1).shuffle(rows)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("review", "verdict"), *rows])
    return path


def main(files: list[str]) -> None:
    if files:
        train, test = files[0], files[1:]
    else:
        things = [f"The {name} of room {n}" for name in ("soup", "parcel", "bus") for n in range(9)]
        train = str(write_reviews(Path("train.en.csv"), things, ENGLISH))
        test = [str(write_reviews(Path("test.sw.csv"), ["Supu", "Basi", "Barua"], SWAHILI))]
    run = xtl.recipe(
        "classify",
        data_file=train,
        test_file=test,
        text_columns="review",
        label="verdict",
        backbone=BACKBONE,
        set={"train.max_steps": STEPS},
    )
    print(run.table())
    model = xtl.load(run)
    for answer in model.predict(["The train was late and cold.", "Chakula kilikuwa kizuri."]):
        print(answer["prediction"], answer["probabilities"])
    # the rows stay here; what they are, and on which terms, only their owner can say
    print(xtl.push(run, "file:hub", licence="cc-by-4.0", rows="made-up reviews").place)


if __name__ == "__main__":
    main(sys.argv[1:])
