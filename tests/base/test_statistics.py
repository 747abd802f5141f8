"""Student's t against printed tables, intervals and paired differences worked out by hand."""

from __future__ import annotations

import math

import pytest

from adapters_xtl.base.statistics import interval, paired, t_quantile

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
