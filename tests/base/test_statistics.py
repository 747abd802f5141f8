"""Student's t against printed tables, intervals and paired differences worked out by hand."""

from __future__ import annotations

import math

import pytest

from adapters_xtl.base.statistics import (
    holm,
    interval,
    paired,
    t_quantile,
    two_sided_p,
    verdict,
    verdict_of_p,
)

# Student 1908, hours of sleep gained with two drugs by the same ten patients; R's own example of a
# paired t-test: t = -4.0621, df = 9, p-value = 0.002833, 95 % interval -2.4598858 to -0.7001142
SLEEP = (
    dict(enumerate([0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0])),
    dict(enumerate([1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4])),
)

TABLE = [  # probability, degrees of freedom, quantile as printed tables have it
    (0.975, 1, 12.706205),
    (0.975, 2, 4.302653),
    (0.975, 3, 3.182446),
    (0.975, 4, 2.776445),
    (0.975, 9, 2.262157),
    (0.95, 1, 6.313752),
    (0.95, 2, 2.919986),
    (0.95, 7, 1.894579),
    (0.995, 2, 9.924843),
    (0.995, 5, 4.032143),
    (0.975, 30, 2.042272),
    (0.975, 120, 1.979930),
    (0.75, 1, 1.0),
    (0.9995, 2, 31.599055),
]


@pytest.mark.parametrize(("probability", "df", "value"), TABLE)
def test_quantiles_are_the_tables(probability: float, df: int, value: float) -> None:
    assert t_quantile(probability, df) == pytest.approx(value, abs=6e-7)
    assert t_quantile(1 - probability, df) == pytest.approx(-value, abs=2e-6)


def test_quantiles_approach_the_normal_and_have_a_middle() -> None:
    assert t_quantile(0.5, 3) == 0
    assert t_quantile(0.975, 100_000) == pytest.approx(1.959988, abs=1e-6)
    for probability, df in ((0.0, 2), (1.0, 2), (0.9, 0)):
        with pytest.raises(ValueError, match="no t quantile"):
            t_quantile(probability, df)


def test_an_interval_by_hand() -> None:
    # mean 80, deviations -1, 0, 1: s = 1, half width 4.302653 / sqrt(3)
    found = interval([79.0, 80.0, 81.0])
    assert found is not None and found.mean == 80 and found.n == 3
    assert found.high - found.mean == pytest.approx(4.302653 / math.sqrt(3), abs=1e-6)
    assert found.mean - found.low == pytest.approx(2.484138, abs=1e-6)
    narrow = interval([79.0, 80.0, 81.0], level=0.9)
    assert narrow is not None and narrow.high == pytest.approx(
        80 + 2.919986 / math.sqrt(3), abs=1e-6
    )
    assert interval([80.0]) is None and interval([]) is None
    with pytest.raises(ValueError, match="level"):
        interval([1.0, 2.0], level=95)


def test_paired_differences_take_common_seeds_only() -> None:
    a = {1: 71.0, 2: 75.0, 3: 73.0, 9: 0.0}
    b = {1: 70.0, 2: 73.0, 3: 70.0, 4: 100.0}
    found = paired(a, b)  # differences 1, 2, 3: mean 2, s = 1
    assert found is not None and found.seeds == (1, 2, 3) and found.mean == 2
    assert found.interval is not None and found.interval.low == pytest.approx(
        2 - 2.484138, abs=1e-6
    )
    assert found.verdict == "inconclusive", "2 ± 2.48 includes 0"
    # seeds that move together: unpaired their spread would hide the gap, paired it does not
    together = paired({1: 61.0, 2: 71.1, 3: 80.9}, {1: 60.0, 2: 70.0, 3: 80.0})
    assert together is not None and together.verdict == "higher"
    below = paired({1: 60.0, 2: 70.0, 3: 80.0}, {1: 61.0, 2: 71.1, 3: 80.9})
    assert below is not None and below.verdict == "lower" and below.mean == pytest.approx(-1)


def test_without_an_interval_nothing_is_concluded() -> None:
    found = paired({1: 90.0}, {1: 10.0})
    assert (
        found is not None
        and found.interval is None
        and found.verdict == "inconclusive"
        and found.mean == 80
    )
    assert paired({1: 90.0}, {2: 10.0}) is None
    same = paired({1: 5.0, 2: 6.0}, {1: 5.0, 2: 6.0})
    assert same is not None and same.verdict == "inconclusive"


def test_an_interval_stays_within_what_a_score_can_be() -> None:
    high = interval([91.0, 99.0])  # 95 ± 12.7 · 5.66 / √2 = 95 ± 50.8
    assert high is not None and (high.mean, high.high) == (95, 100)
    assert high.low == pytest.approx(95 - 12.706205 * 4, abs=1e-4)
    low = interval([1.0, 3.0])
    assert low is not None and low.low == 0 and low.high < 100
    wide = paired({1: 100.0, 2: 0.0}, {1: 0.0, 2: 100.0})
    assert wide is not None and wide.interval is not None
    assert (wide.interval.low, wide.interval.high) == (-100, 100)
    assert wide.verdict == "inconclusive"


@pytest.mark.parametrize("t", [0.0, 0.3, 1.0, 4.302653, 31.599055, 1e4, 1e9])
def test_p_values_are_the_closed_forms_of_one_and_two_degrees_of_freedom(t: float) -> None:
    assert two_sided_p(t, 1) == pytest.approx(2 / math.pi * math.atan2(1, t), rel=1e-12)
    root = math.sqrt(t * t + 2)
    assert two_sided_p(t, 2) == pytest.approx(2 / (root * (root + t)), rel=1e-12)
    assert two_sided_p(-t, 2) == two_sided_p(t, 2)


@pytest.mark.parametrize(("probability", "df", "value"), TABLE)
def test_p_values_turn_the_tables_round(probability: float, df: int, value: float) -> None:
    assert two_sided_p(value, df) == pytest.approx(2 * (1 - probability), rel=2e-6)


def test_a_published_paired_test() -> None:
    difference = paired(*SLEEP)
    assert difference is not None and difference.interval is not None and difference.p is not None
    assert difference.mean == pytest.approx(-1.58)
    assert difference.p == pytest.approx(0.002833, abs=5e-7)
    assert (difference.interval.low, difference.interval.high) == pytest.approx(
        (-2.4598858, -0.7001142), abs=1e-7
    )
    assert difference.verdict == "lower" and difference.record()["p"] == difference.p


def test_p_and_interval_never_disagree() -> None:
    for shift in range(-60, 61):
        a = {1: 50.0 + shift / 10, 2: 51.0 + shift / 10, 3: 49.5 + shift / 10}
        difference = paired(a, {1: 50.0, 2: 50.0, 3: 50.0})
        assert difference is not None
        assert verdict_of_p(difference.mean, difference.p) == difference.verdict


def test_seeds_that_agree_exactly_and_a_single_seed() -> None:
    above = paired({1: 52.5, 2: 62.5}, {1: 50.0, 2: 60.0})
    assert above is not None and (above.p, above.verdict) == (None, "higher")
    rounded = paired({1: 0.3, 2: 50.3, 3: 70.1}, {1: 0.2, 2: 50.2, 3: 70.0})
    assert rounded is not None and rounded.p is None, "the same difference, but for rounding"
    same = paired({1: 50.0, 2: 60.0}, {1: 50.0, 2: 60.0})
    assert same is not None and (same.p, same.verdict) == (1.0, "inconclusive")
    alone = paired({1: 90.0}, {1: 10.0})
    assert alone is not None and alone.p is None and verdict_of_p(80.0, None) == "inconclusive"


def test_holm_steps_down() -> None:
    # smallest first: 4 · 0.005, 3 · 0.01, 2 · 0.03, and 0.04 may not fall below the one before it
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.01, None, 0.04, 0.03, None, 0.005]) == [
        pytest.approx(0.03), None, pytest.approx(0.06), pytest.approx(0.06), None,
        pytest.approx(0.02),
    ]  # fmt: skip
    assert holm([0.7, 0.6]) == [1.0, 1.0] and holm([0.04]) == [0.04]
    assert holm([]) == [] and holm([None]) == [None]
    assert holm([0.02, 0.02, 0.02]) == pytest.approx([0.06, 0.06, 0.06])
    with pytest.raises(ValueError, match="p-value"):
        holm([0.1, -0.1])


def test_verdicts_after_holm() -> None:
    adjusted = holm([0.02, 0.03])
    assert [verdict_of_p(1.0, p) for p in adjusted] == ["higher", "higher"]
    adjusted = holm([0.03, 0.03])
    assert [verdict_of_p(-1.0, p) for p in adjusted] == ["inconclusive", "inconclusive"]
    assert verdict_of_p(-1.0, 0.04) == "lower" and verdict_of_p(-1.0, 0.04, 0.99) == "inconclusive"


@pytest.mark.parametrize(
    ("low", "high", "margin", "conclusion"),
    [
        (0.1, 0.3, 0.0, "higher"),
        (-0.3, -0.1, 0.0, "lower"),
        (-0.1, 0.1, 0.0, "inconclusive"),
        (0.0, 0.0, 0.0, "inconclusive"),
        (-0.4, 0.5, 0.5, "equivalent"),
        (0.1, 0.3, 0.5, "equivalent"),
        (-0.4, 0.6, 0.5, "inconclusive"),
        (0.1, 0.6, 0.5, "higher"),
        (-9.0, -0.1, 0.5, "lower"),
    ],
)
def test_verdicts_with_and_without_a_margin(
    low: float, high: float, margin: float, conclusion: str
) -> None:
    assert verdict(low, high, margin) == conclusion


def test_a_margin_reaches_paired_differences_and_is_no_negative_number() -> None:
    a, b = {1: 70.1, 2: 70.0, 3: 70.2}, {1: 70.0, 2: 70.0, 3: 70.1}
    close = paired(a, b, margin=1.0)
    assert close is not None and close.verdict == "equivalent"
    with pytest.raises(ValueError, match="margin"):
        verdict(0.0, 1.0, -1.0)
