"""Student's t over seeds: intervals of a mean, and paired differences with their verdict.

These intervals cover the choice of a seed (initialisation, order of the rows), not that of the
scored rows: for those see `adapters_xtl.metrics.bootstrap`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Difference", "Interval", "interval", "paired", "t_quantile"]

SCORES = (0.0, 100.0)  # the range of a score
DIFFERENCES = (-100.0, 100.0)  # and of a difference of two scores


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

    `interval` is None with one common seed. `verdict`: "higher" or "lower" (a against b),
    "inconclusive" when the interval includes 0 or there is none.
    """

    mean: float
    interval: Interval | None
    seeds: tuple[int, ...]
    verdict: str

    def record(self) -> dict[str, Any]:
        return {
            "mean": self.mean,
            "interval": self.interval.record() if self.interval else None,
            "seeds": list(self.seeds),
            "verdict": self.verdict,
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
    a: Mapping[int, float], b: Mapping[int, float], level: float = 0.95
) -> Difference | None:
    """a - b over the seeds that both have (seed → score); None without a common one."""
    seeds = tuple(sorted(set(a) & set(b)))
    if not seeds:
        return None
    differences = [a[seed] - b[seed] for seed in seeds]
    bounds = interval(differences, level, limits=DIFFERENCES)
    if bounds is None:
        return Difference(differences[0], None, seeds, "inconclusive")
    verdict = "higher" if bounds.low > 0 else "lower" if bounds.high < 0 else "inconclusive"
    return Difference(bounds.mean, bounds, seeds, verdict)
