"""Two runs compared over items: paired by id, translations together, other rows refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters_xtl import tasks
from adapters_xtl.base.errors import DataError
from adapters_xtl.evaluation import scoring

Predictions = dict[str, list[dict[str, Any]]]


def classified(right: np.ndarray, ids: list[str] | None = None) -> list[dict[str, Any]]:
    return [
        {"id": ids[row] if ids else None, "prediction": int(correct), "gold": 1}
        for row, correct in enumerate(right)
    ]


def test_the_difference_is_that_of_the_means_over_languages() -> None:
    first = {"en": classified(np.array([1, 1, 1, 0])), "de": classified(np.array([1, 0]))}
    second = {"en": classified(np.array([1, 0, 1, 0])), "de": classified(np.array([0, 0]))}
    difference = scoring.item_difference(tasks.load("pawsx"), [first], [second])
    assert difference.mean == pytest.approx(((75 - 50) + (50 - 0)) / 2)
    assert difference.low <= difference.mean <= difference.high
    assert difference.items == 4, "rows without an id count by their place"


def test_translations_count_as_one_item() -> None:
    rng = np.random.default_rng(0)
    ids = [f"q{number}" for number in range(400)]
    first, second = rng.random(400) < 0.8, rng.random(400) < 0.74

    def runs(named: list[str], codes: str) -> tuple[list[Predictions], list[Predictions]]:
        return (
            [{code: classified(first, named) for code in codes}],
            [{code: classified(second, named) for code in codes}],
        )

    task = tasks.load("pawsx")
    one = scoring.item_difference(task, *runs(ids, "a"))
    nine = scoring.item_difference(task, *runs(ids, "abcdefghi"))
    assert (nine.low, nine.high, nine.items) == (
        pytest.approx(one.low),
        pytest.approx(one.high),
        400,
    )


def test_translations_that_one_file_numbers_through_count_as_one_item() -> None:
    """As google/xtreme has XNLI: German's rows stand behind the English ones, without ids."""
    rng = np.random.default_rng(0)
    first, second = rng.random(400) < 0.8, rng.random(400) < 0.74
    numbers = {
        code: [f"#{start + row}" for row in range(400)] for code, start in (("en", 0), ("de", 400))
    }
    differences = []
    for codes in (("en",), ("en", "de")):
        runs = [
            [{code: classified(right, numbers[code]) for code in codes}]
            for right in (first, second)
        ]
        differences.append(scoring.item_difference(tasks.load("xnli"), *runs))
    one, both = differences
    assert (one.items, both.items) == (400, 400)
    assert (both.low, both.high) == (pytest.approx(one.low), pytest.approx(one.high))


def test_answers_are_compared_by_the_tasks_own_metric() -> None:
    gold = ["the red house"]
    first = {"en": [{"id": "q1", "prediction": "red house", "gold": gold}] * 1}
    second = {"en": [{"id": "q1", "prediction": "house", "gold": gold}] * 1}
    difference = scoring.item_difference(tasks.load("xquad"), [first], [second])
    # F1 without articles: 1 against 2 · (1 · 1/2) / (1 + 1/2) = 2/3
    assert difference.mean == pytest.approx(100 / 3) and difference.low == pytest.approx(100 / 3)
    assert difference.verdict == "higher"


def test_a_margin_that_was_stated_beforehand() -> None:
    right = np.arange(200) % 3 == 0
    runs = [{"en": classified(right)}], [{"en": classified(right)}]
    task = tasks.load("pawsx")
    assert scoring.item_difference(task, *runs).verdict == "inconclusive"
    assert scoring.item_difference(task, *runs, margin=1.0).verdict == "equivalent"


def test_a_metric_that_is_no_function_of_sums_is_scored_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(1)
    first, second = ({"en": classified(rng.random(60) < rate)} for rate in (0.9, 0.5))
    task = tasks.load("pawsx")
    by_sums = scoring.item_difference(task, [first], [second], resamples=300)
    metric = scoring.metrics.get(task.scorer)
    monkeypatch.setattr(type(metric), "score", lambda self, rows, language, **_: {
        "accuracy": 100 * float(np.mean([row["prediction"] == row["gold"] for row in rows]))
    })  # fmt: skip
    monkeypatch.setattr(type(metric), "items", lambda *_, **__: [])
    anew = scoring.item_difference(task, [first], [second], resamples=300)
    assert anew.mean == by_sums.mean
    assert (anew.low, anew.high) == pytest.approx((by_sums.low, by_sums.high), abs=4.0)


def test_other_rows_and_other_languages_are_refused() -> None:
    task = tasks.load("pawsx")
    one = {"en": classified(np.ones(3), ["a", "b", "c"])}
    other = {"en": classified(np.ones(3), ["a", "b", "d"])}
    with pytest.raises(DataError, match=r"en: .*same rows"):
        scoring.item_difference(task, [one], [other])
    with pytest.raises(DataError, match=r"other languages \(en and de\)"):
        scoring.item_difference(task, [one], [{"de": one["en"]}])
    regraded = [{**row, "gold": 0} for row in one["en"]]
    with pytest.raises(DataError, match="same rows"):
        scoring.item_difference(task, [one], [{"en": regraded}])
    with pytest.raises(DataError, match="2 runs against 1"):
        scoring.item_difference(task, [one, one], [one])


def test_several_seeds_are_averaged_and_their_items_drawn_together(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    ids = [f"q{number}" for number in range(300)]
    sides: list[list[Path]] = []
    for rate in (0.8, 0.7):
        folders = []
        for seed in (1, 2, 3):
            folder = tmp_path / f"{rate}-{seed}"
            (folder / "predictions" / "pawsx").mkdir(parents=True)
            rows = classified(rng.random(300) < rate, ids)
            for language in ("en", "de") if seed > 1 else ("en", "de", "fr"):
                path = folder / "predictions" / "pawsx" / f"{language}.jsonl"
                path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
            folders.append(folder)
        sides.append(folders)
    task = tasks.load("pawsx")
    difference = scoring.compare_runs(task, sides[0], sides[1])
    each = [scoring.compare_runs(task, [one], [other]) for one, other in zip(*sides, strict=True)]
    assert difference.mean == pytest.approx(sum(single.mean for single in each) / 3)
    assert difference.items == 300
    # independent errors of three seeds: narrower by about √3
    single = sum(one.high - one.low for one in each) / 3
    assert difference.high - difference.low == pytest.approx(single / 3**0.5, rel=0.15)
    empty = tmp_path / "empty"
    with pytest.raises(DataError, match="common language"):
        scoring.compare_runs(task, [empty], [sides[0][0]])


def test_a_difference_of_differences_draws_each_set_of_rows_for_itself() -> None:
    """Two systems on 600 rows, and on 300 others: the variances of their differences add up."""
    rng = np.random.default_rng(5)
    sides = []
    for count, rates in ((600, (0.9, 0.7)), (300, (0.8, 0.75))):
        ids = [f"q{number}" for number in range(count)]
        right = [rng.random(count) < rate for rate in rates]
        sides.append((right, [[{"en": classified(each, ids)}] for each in right]))
    task = tasks.load("pawsx")
    found = scoring.difference_of_differences(
        (task, *sides[0][1]), (task, *sides[1][1]), resamples=4000
    )
    single = [first.astype(float) - second.astype(float) for (first, second), _ in sides]
    mean = 100 * (single[0].mean() - single[1].mean())
    error = 100 * np.sqrt(sum(each.var() / len(each) for each in single))
    assert found.mean == pytest.approx(mean) and found.items == 900
    assert (found.low, found.high) == (
        pytest.approx(mean - 1.96 * error, abs=0.5),
        pytest.approx(mean + 1.96 * error, abs=0.5),
    )
