"""Intervals: reproducible, nested, of the right width, and covering as often as they say."""

from __future__ import annotations

import time

import numpy as np
import pytest

from adapters_xtl.base.errors import DataError
from adapters_xtl.metrics import bitext, labels, qa, ranking, tags
from adapters_xtl.metrics.bootstrap import Items, interval, with_interval


def accuracy(right: np.ndarray, ids: list[str] | None = None) -> Items:
    return labels.items(right.astype(int).tolist(), [1] * len(right), ids=ids)


def test_intervals_cover_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(300):
        low, high = interval(accuracy(rng.random(200) < 0.7), resamples=300, seed=trial)["accuracy"]
        covered += low <= 70.0 <= high
    assert 0.90 <= covered / 300 <= 0.98


def test_width_is_the_binomial_one() -> None:
    right = np.arange(10_000) % 4 != 0
    started = time.perf_counter()
    low, high = interval(accuracy(right), resamples=1000)["accuracy"]
    assert time.perf_counter() - started < 2.0
    error = 100 * np.sqrt(0.75 * 0.25 / 10_000)
    assert (high - low) == pytest.approx(2 * 1.96 * error, rel=0.15)
    low, high = interval(accuracy(right), resamples=4000)["accuracy"]
    assert [(low - 75.0) / error, (high - 75.0) / error] == pytest.approx([-1.96, 1.96], abs=0.15)


def test_same_seed_same_interval_and_levels_are_nested() -> None:
    items = accuracy(np.arange(100) % 3 == 0)
    assert interval(items, seed=3) == interval(items, seed=3) != interval(items, seed=4)
    (low, high), (inner_low, inner_high) = (
        interval(items, level=level)["accuracy"] for level in (0.99, 0.5)
    )
    assert low <= inner_low <= inner_high <= high


def test_items_with_one_id_move_together() -> None:
    right = np.repeat(np.arange(50) % 2 == 0, 20)
    ids = [str(i // 20) for i in range(1000)]
    alone = np.diff(interval(accuracy(right))["accuracy"])
    together = np.diff(interval(accuracy(right, ids))["accuracy"])
    assert together == pytest.approx(alone * np.sqrt(20), rel=0.2)
    mapped = interval(accuracy(right), clusters={i: i // 20 for i in range(1000)})
    assert np.diff(mapped["accuracy"]) == pytest.approx(together, rel=0.2)


def test_mean_over_languages_of_parallel_items_is_wider_than_of_independent_ones() -> None:
    rng = np.random.default_rng(1)
    right = rng.random(400) < 0.6
    languages = {name: accuracy(right) for name in "abcdefghi"}
    one = np.diff(interval(accuracy(right))["accuracy"])
    assert np.diff(interval(languages)["accuracy"]) == pytest.approx(one, rel=0.15)
    independent = np.diff(interval(languages, parallel=False)["accuracy"])
    assert independent == pytest.approx(one / 3, rel=0.15)


def test_languages_may_have_different_items() -> None:
    languages = {"a": accuracy(np.ones(30)), "b": accuracy(np.zeros(3))}
    assert interval(languages)["accuracy"] == pytest.approx([50.0, 50.0], abs=51.0)
    assert interval(languages, parallel=False)["accuracy"] == [50.0, 50.0]


def test_each_metric_has_an_interval_around_its_score() -> None:
    rng = np.random.default_rng(2)
    gold = [[str(tag) for tag in rng.choice(["NOUN", "VERB", "DET"], 8)] for _ in range(60)]
    noisy = [[tag if rng.random() < 0.8 else "ADJ" for tag in row] for row in gold]
    answers = {str(i): ["a b c"] for i in range(60)}
    given = {key: str(rng.choice(["a b c", "b", "z"])) for key in answers}
    pairs = [f"s{i}\tt{i}" for i in range(60)]
    found = [pair if rng.random() < 0.7 else f"{pair}x" for pair in pairs]
    ranked = {key: [str(rng.integers(0, 4)), "0"] for key in answers}
    every = [
        tags.items(noisy, gold),
        tags.items(noisy, gold, rules="1.2.2"),
        tags.token_items(noisy, gold),
        qa.items(given, answers),
        qa.mlqa_items(given, answers, "en"),
        qa.squad_v2_items(
            {**given, "1": "", "2": "", "3": "x"}, {**answers, "1": [], "2": [], "3": []}
        ),
        bitext.items(found, pairs),
        ranking.mewslix_items(ranked, {key: ["0"] for key in answers}),
        ranking.ranked_items(list(ranked.values()), [["0"]] * 60, range(60)),
    ]
    for items in every:
        bounds, score = interval(items, resamples=200), items.score()
        assert bounds.keys() == score.keys()
        for name, (low, high) in bounds.items():
            assert 0.0 <= low <= score[name] <= high <= 100.0 + 1e-9
            assert low < high or name.startswith("NoAns")


def test_score_and_interval_side_by_side() -> None:
    items = accuracy(np.array([1, 0, 1, 1]))
    assert with_interval(items, 0) == {"accuracy": 75.0}
    assert with_interval(items, 50) == {
        "accuracy": 75.0,
        "accuracy_interval": interval(items, resamples=50)["accuracy"],
    }


@pytest.mark.parametrize("options", [{"resamples": 0}, {"level": 1.0}, {"level": 0.0}])
def test_senseless_options(options: dict[str, float]) -> None:
    with pytest.raises(DataError):
        interval(accuracy(np.ones(3)), **options)  # type: ignore[arg-type]


def test_nothing_to_resample() -> None:
    for items in (accuracy(np.ones(0)), {}, {"de": accuracy(np.ones(0))}):
        with pytest.raises(DataError):
            interval(items)
