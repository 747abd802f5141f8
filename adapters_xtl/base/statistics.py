"""Student's t over seeds: intervals of a mean, paired differences with their p-values and verdicts.

These intervals and p-values cover the choice of a seed (initialisation, order of the rows), not
that of the scored rows: for those see `adapters_xtl.evaluation.scoring`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

__all__ = [
    "UNLIMITED",
    "Difference",
    "Interval",
    "Verdict",
    "holm",
    "interval",
    "paired",
    "t_quantile",
    "two_sided_p",
    "verdict",
    "verdict_of_p",
]

Verdict = Literal["higher", "lower", "equivalent", "inconclusive"]

SCORES = (0.0, 100.0)  # the range of a score
DIFFERENCES = (-100.0, 100.0)  # and of a difference of two scores
UNLIMITED = (-math.inf, math.inf)
ROUNDING = 1e-9  # of a score: what sums of floats are apart from each other


@dataclass(frozen=True)
class Interval:
    """Mean of n values and its two-sided t-interval: mean ± t((1 + level)/2, n - 1) · s/√n, s the
    sample deviation, cut off at the range that the mean can have.
    """

    mean: float
    low: float
    high: float
    n: int
    level: float

    def record(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Difference:
    """Mean of a - b over the seeds that both have.

    interval  None with one common seed
    verdict   what the interval says, see `verdict`; "inconclusive" without an interval
    p         two-sided p-value of the paired t-test that the mean is 0; None with one common seed,
              and where all differences are the same number other than 0
    """

    mean: float
    interval: Interval | None
    seeds: tuple[int, ...]
    verdict: Verdict
    p: float | None = None

    def record(self) -> dict[str, Any]:
        return {
            "mean": self.mean,
            "interval": self.interval.record() if self.interval else None,
            "seeds": list(self.seeds),
            "verdict": self.verdict,
            "p": self.p,
        }


def _two_sided(t: float, df: int) -> float:
    """P(|T| <= t) for `df` degrees of freedom, exactly: Abramowitz and Stegun 1964, 26.7.3 and
    26.7.4.
    """
    angle = math.atan2(t, math.sqrt(df))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = df % 2
    term, total = (cosine, 0.0) if odd else (1.0, 0.0)
    for step in range(df // 2):
        total += term
        term *= (
            cosine
            * cosine
            * ((2 * step + 2) / (2 * step + 3) if odd else (2 * step + 1) / (2 * step + 2))
        )
    return 2 / math.pi * (angle + sine * total) if odd else sine * total


def t_quantile(probability: float, df: int) -> float:
    """The `probability` quantile of Student's t with `df` (a whole number from 1 on) degrees of
    freedom.

    `t_quantile(0.975, 9)` = 2.262157. ValueError outside 0 < probability < 1 or for another df.
    """
    if not 0 < probability < 1 or df < 1 or df != int(df):
        raise ValueError(f"no t quantile for probability {probability} and {df} degrees of freedom")
    probability_within = abs(2 * probability - 1)
    high = 1.0
    while _two_sided(high, df) < probability_within and high < 2.0**60:
        high *= 2
    low = 0.0
    while low < (middle := (low + high) / 2) < high:  # until the two are neighbouring floats
        low, high = (middle, high) if _two_sided(middle, df) < probability_within else (low, middle)
    return math.copysign(high, probability - 0.5) if probability_within else 0.0


def interval(
    values: Sequence[float], level: float = 0.95, *, limits: tuple[float, float] = SCORES
) -> Interval | None:
    """The mean and its t-interval over seeds; None with fewer than two values.

    The interval is cut off at `limits`, the range that such a mean can have: two seeds alone give
    intervals of tens of points. ValueError unless 0 < level < 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"level {level}: takes a number between 0 and 1")
    n = len(values)
    if n < 2:
        return None
    mean = math.fsum(values) / n
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = t_quantile((1 + level) / 2, n - 1) * deviation / math.sqrt(n)
    lowest, highest = limits
    return Interval(mean, max(mean - half, lowest), min(mean + half, highest), n, level)


def paired(
    a: Mapping[int, float],
    b: Mapping[int, float],
    level: float = 0.95,
    *,
    margin: float = 0.0,
    limits: tuple[float, float] = DIFFERENCES,
) -> Difference | None:
    """a - b over the seeds that both have (seed → score); None without a common one.

    `margin`: the largest difference, in points, that is of no interest; see `verdict`. `limits`:
    the range that the difference can have; see `interval`.
    """
    seeds = tuple(sorted(set(a) & set(b)))
    if not seeds:
        return None
    differences = [a[seed] - b[seed] for seed in seeds]
    bounds = interval(differences, level, limits=limits)
    if bounds is None:
        return Difference(differences[0], None, seeds, "inconclusive")
    conclusion = verdict(bounds.low, bounds.high, margin)
    return Difference(bounds.mean, bounds, seeds, conclusion, _paired_p(differences))


def verdict(low: float, high: float, margin: float = 0.0) -> Verdict:
    """What the interval [low, high] of a difference says, given a margin fixed before the data.

    "equivalent"    it lies within ±margin: there is no difference beyond the margin. This comes
                    first: an interval of [0.1, 0.3] is "equivalent" for a margin of 0.5. With the
                    margin 0, nothing is equivalent
    "higher"        it lies above 0
    "lower"         it lies below 0
    "inconclusive"  it includes 0 and does not lie within ±margin

    With a 95 % interval, "equivalent" is the two one-sided tests (Schuirmann 1987) at 2.5 % each.
    ValueError for a margin below 0.
    """
    if not margin >= 0:
        raise ValueError(f"margin {margin}: takes a number from 0 on")
    if margin and -margin <= low and high <= margin:
        return "equivalent"
    return "higher" if low > 0 else "lower" if high < 0 else "inconclusive"


def two_sided_p(t: float, df: int) -> float:
    """P(|T| >= |t|) under Student's t with `df` degrees of freedom (a whole number from 1 on).

    `two_sided_p(2.0, 10)` = 0.073388. Small values have a small relative error too.
    """
    if df < 1 or df != int(df) or math.isnan(t):
        raise ValueError(f"no p-value for t = {t} and {df} degrees of freedom")
    if math.isinf(t):
        return 0.0
    if t * t < df:
        return max(0.0, 1.0 - _two_sided(abs(t), df))
    # the incomplete beta function I_x(a, 1/2), Abramowitz and Stegun 1964, 26.5.4 and 26.7.1: its
    # terms shrink by x <= 1/2 at least
    a, x = df / 2, df / (df + t * t)
    term = total = 1.0
    step = 0
    while term > total * 1e-17:
        term *= x * (a + 0.5 + step) / (a + 1 + step)
        total += term
        step += 1
    log_beta = math.lgamma(a) + math.lgamma(0.5) - math.lgamma(a + 0.5)
    factor = math.exp(a * math.log(x) - log_beta) if x > 0 else 0.0
    return min(1.0, factor * math.sqrt(1 - x) / a * total)


def _paired_p(differences: Sequence[float]) -> float | None:
    """The p-value of the paired t-test; 1 where all differences are 0, None where all are another
    number: models that answer every row alike give such differences, which a t-test of spread 0
    would call certain.
    """
    n = len(differences)
    mean = math.fsum(differences) / n
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in differences) / (n - 1))
    if deviation < ROUNDING:
        return None if abs(mean) > ROUNDING else 1.0
    return two_sided_p(mean / deviation * math.sqrt(n), n - 1)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """The p-values adjusted for being a family of tests, in the order given (Holm 1979).

    The k-th smallest of m is multiplied by m - k + 1; an adjusted value is at least that of every
    smaller p-value and at most 1. Below α each of them is significant with a family-wise error of
    α. None (see `Difference.p`) is no test: it stays None and does not count in m.
    ValueError for a p-value outside 0 to 1.
    """
    for p in p_values:
        if p is not None and not 0 <= p <= 1:
            raise ValueError(f"p-value {p}: takes a number from 0 to 1")
    tests = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, place) in enumerate(tests):
        largest = max(largest, min(1.0, (len(tests) - rank) * p))
        adjusted[place] = largest
    return adjusted


def verdict_of_p(mean: float, p: float | None, level: float = 0.95) -> Verdict:
    """ "higher" or "lower", by the sign of the mean, where p < 1 - level; else "inconclusive", also
    for a p of None. With p from `holm` it is the verdict after the correction.
    """
    if p is None or p >= 1 - level or mean == 0:
        return "inconclusive"
    return "higher" if mean > 0 else "lower"
