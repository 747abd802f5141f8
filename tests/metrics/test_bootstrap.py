"""Intervals: reproducible, nested, of the right width, and covering as often as they say."""

from __future__ import annotations

import time

import numpy as np
import pytest

from adapters_xtl import metrics
from adapters_xtl.base.errors import DataError
from adapters_xtl.metrics import accuracy, bucc, lareqa, mewslix, mlqa, squad, squad_v2, tagging
from adapters_xtl.metrics._bootstrap import Items, interval, paired_differences, tails


def correct_or_not(right: np.ndarray, ids: list[str] | None = None) -> Items:
    return accuracy.items(right.astype(int).tolist(), [1] * len(right), ids=ids)


def test_intervals_cover_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(300):
        low, high = interval(correct_or_not(rng.random(200) < 0.7), resamples=300, seed=trial)[
            "accuracy"
        ]
        covered += low <= 70.0 <= high
    assert 0.90 <= covered / 300 <= 0.98


def test_width_is_the_binomial_one() -> None:
    right = np.arange(10_000) % 4 != 0
    started = time.perf_counter()
    low, high = interval(correct_or_not(right), resamples=1000)["accuracy"]
    assert time.perf_counter() - started < 2.0
    error = 100 * np.sqrt(0.75 * 0.25 / 10_000)
    assert (high - low) == pytest.approx(2 * 1.96 * error, rel=0.15)
    low, high = interval(correct_or_not(right), resamples=4000)["accuracy"]
    assert [(low - 75.0) / error, (high - 75.0) / error] == pytest.approx([-1.96, 1.96], abs=0.15)


def test_same_seed_same_interval_and_levels_are_nested() -> None:
    items = correct_or_not(np.arange(100) % 3 == 0)
    assert interval(items, seed=3) == interval(items, seed=3) != interval(items, seed=4)
    (low, high), (inner_low, inner_high) = (
        interval(items, level=level)["accuracy"] for level in (0.99, 0.5)
    )
    assert low <= inner_low <= inner_high <= high


def test_items_with_one_id_move_together() -> None:
    right = np.repeat(np.arange(50) % 2 == 0, 20)
    ids = [str(i // 20) for i in range(1000)]
    alone = np.diff(interval(correct_or_not(right))["accuracy"])
    together = np.diff(interval(correct_or_not(right, ids))["accuracy"])
    assert together == pytest.approx(alone * np.sqrt(20), rel=0.2)
    mapped = interval(correct_or_not(right), clusters={i: i // 20 for i in range(1000)})
    assert np.diff(mapped["accuracy"]) == pytest.approx(together, rel=0.2)


def test_mean_over_languages_of_parallel_items_is_wider_than_of_independent_ones() -> None:
    rng = np.random.default_rng(1)
    right = rng.random(400) < 0.6
    languages = {name: correct_or_not(right) for name in "abcdefghi"}
    one = np.diff(interval(correct_or_not(right))["accuracy"])
    assert np.diff(interval(languages)["accuracy"]) == pytest.approx(one, rel=0.15)
    independent = np.diff(interval(languages, parallel=False)["accuracy"])
    assert independent == pytest.approx(one / 3, rel=0.15)


def test_languages_may_have_different_items() -> None:
    languages = {"a": correct_or_not(np.ones(30)), "b": correct_or_not(np.zeros(3))}
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
        tagging.items(noisy, gold),
        tagging.items(noisy, gold, rules="1.2.2"),
        tagging.token_items(noisy, gold),
        squad.items(given, answers),
        mlqa.items(given, answers, "en"),
        squad_v2.items(
            {**given, "1": "", "2": "", "3": "x"}, {**answers, "1": [], "2": [], "3": []}
        ),
        bucc.items(found, pairs),
        mewslix.items(ranked, {key: ["0"] for key in answers}),
        lareqa.ranked_items(list(ranked.values()), [["0"]] * 60, range(60)),
    ]
    for items in every:
        bounds, score = interval(items, resamples=200), items.score()
        assert bounds.keys() == score.keys()
        for name, (low, high) in bounds.items():
            assert 0.0 <= low <= score[name] <= high <= 100.0
            assert low < high or name.startswith("NoAns")


def test_score_and_interval_side_by_side() -> None:
    metric = metrics.get("accuracy")
    scored = {"predictions": [1, 0, 1, 1], "references": [1, 1, 1, 1]}
    assert metric.compute(**scored) == {"accuracy": 75.0}
    rows = metric.rows([1, 0, 1, 1], [1, 1, 1, 1])
    assert metric.compute(**scored, resamples=50) == {
        "accuracy": 75.0,
        "accuracy_interval": metric.intervals(rows, "", resamples=50, seed=0)["accuracy"],
    }


class OnlyScores(metrics.Metric):
    """A score that is no function of sums: the interval scores every resample anew."""

    def score(
        self, predictions: metrics.Predictions, language: str, **options: object
    ) -> dict[str, float]:
        right = [row["prediction"] == row["gold"] for row in predictions]
        return {"share": 100.0 * sum(right) / len(right)}


def test_any_score_has_an_interval() -> None:
    scored = OnlyScores().compute([1] * 60 + [0] * 40, [1] * 100, resamples=300, seed=2)
    low, high = scored["share_interval"]
    known = interval(metrics.get("accuracy").items(_rows(60, 40), "")[0], resamples=300)["accuracy"]
    assert low < scored["share"] == 60.0 < high
    assert low == pytest.approx(known[0], abs=3) and high == pytest.approx(known[1], abs=3)


def _rows(right: int, wrong: int) -> list[dict[str, int]]:
    return [{"prediction": int(number < right), "gold": 1} for number in range(right + wrong)]


@pytest.mark.parametrize("right", [0, 1, 299, 300])
def test_intervals_stay_within_the_scale(right: int) -> None:
    """Also where nearly everything, or nothing, is right."""
    for language_mean in (False, True):
        items = metrics.get("accuracy").items(_rows(right, 300 - right), "")[0]
        group = {"de": items, "sw": items, "ta": items} if language_mean else items
        low, high = interval(group, resamples=500)["accuracy"]
        assert 0.0 <= low <= high <= 100.0


def paired_interval(
    first: dict[str, Items], second: dict[str, Items], *, resamples: int = 1000
) -> dict[str, list[float]]:
    values = paired_differences(first, second, resamples=resamples)
    return {name: tails(differences, 0.95) for name, differences in values.items()}


@pytest.mark.parametrize("options", [{"resamples": 0}, {"level": 1.0}, {"level": 0.0}])
def test_senseless_options(options: dict[str, float]) -> None:
    with pytest.raises(DataError):
        interval(correct_or_not(np.ones(3)), **options)  # type: ignore[arg-type]


def test_nothing_to_resample() -> None:
    for items in (correct_or_not(np.ones(0)), {}, {"de": correct_or_not(np.ones(0))}):
        with pytest.raises(DataError):
            interval(items)


def test_a_paired_difference_is_narrower_than_its_two_scores() -> None:
    rng = np.random.default_rng(3)
    first = rng.random(500) < 0.7
    second = np.where(rng.random(500) < 0.05, ~first, first)  # they differ in 5 % of the items
    bounds = paired_interval(
        {"en": correct_or_not(first)}, {"en": correct_or_not(second)}, resamples=2000
    )["accuracy"]
    difference = first.astype(float) - second.astype(float)
    error = 100 * difference.std() / np.sqrt(500)
    assert bounds == pytest.approx(
        [100 * difference.mean() - 1.96 * error, 100 * difference.mean() + 1.96 * error], abs=0.25
    )
    assert bounds[1] - bounds[0] < 0.5 * np.diff(interval(correct_or_not(first))["accuracy"])[0]


def test_a_paired_difference_draws_translations_together() -> None:
    rng = np.random.default_rng(4)
    first, second = rng.random(300) < 0.8, rng.random(300) < 0.7
    ids = [f"q{number}" for number in range(300)]
    one = paired_interval({"en": correct_or_not(first, ids)}, {"en": correct_or_not(second, ids)})
    nine = paired_interval(
        {code: correct_or_not(first, ids) for code in "abcdefghi"},
        {code: correct_or_not(second, ids) for code in "abcdefghi"},
    )
    assert nine["accuracy"] == pytest.approx(one["accuracy"])  # nine copies say no more than one
    apart = paired_interval(
        {code: correct_or_not(first, [f"{code}{i}" for i in ids]) for code in "abcdefghi"},
        {code: correct_or_not(second, [f"{code}{i}" for i in ids]) for code in "abcdefghi"},
    )
    assert np.diff(apart["accuracy"]) == pytest.approx(np.diff(one["accuracy"]) / 3, rel=0.15)


def test_equal_systems_differ_by_nothing_and_senseless_options_are_refused() -> None:
    items = {"en": correct_or_not(np.arange(50) % 3 == 0)}
    assert paired_interval(items, items)["accuracy"] == [0.0, 0.0]
    with pytest.raises(DataError, match="resamples"):
        paired_interval(items, items, resamples=0)
    with pytest.raises(DataError, match="no items"):
        paired_interval({}, {})
