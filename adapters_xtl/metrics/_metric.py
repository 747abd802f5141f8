"""`Metric`: the base class of every metric, with what is the same for most of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adapters_xtl.metrics._bootstrap import Items

__all__ = ["Metric", "Predictions"]

Predictions = Sequence[Mapping[str, Any]]


class Metric:
    """A rule by which predictions are scored.

    A metric is one file of this folder that ends in `METRIC = YourMetric()`; its stem is the name
    that tasks give as `scorer`. `score` must be written, or `items` where the score is a function
    of sums over items (then intervals cost little).

    A prediction is what a format's `decode` gives: a dict with "prediction" and "gold".
    """

    name: str = ""  # the file's stem; set by `metrics.get`
    description: str = ""
    """One line on what is measured, and what `evaluate`'s predictions and references must be."""
    shapes: tuple[tuple[str, str], ...] = (("number", "number"),)
    """For `evaluate`: what a prediction and a reference may be, of "text", "texts", "integer",
    "number", "answer" ({"id", "prediction_text"}) and "question" ({"id", "answers"})."""

    def items(self, predictions: Predictions, language: str, **options: Any) -> list[Items]:
        """What is summed up of each prediction, one `Items` for each group of scores; [] where the
        score is no function of sums.
        """
        return []

    def score(self, predictions: Predictions, language: str, **options: Any) -> dict[str, float]:
        """Name → score of one language's predictions, on a scale of 0 to 100.

        `language` is an ISO code; few rules depend on it. DataError where nothing can be scored.
        """
        groups = self.items(predictions, language, **options)
        return {name: value for group in groups for name, value in group.score().items()}

    def intervals(
        self, predictions: Predictions, language: str, *, resamples: int, seed: int, **options: Any
    ) -> dict[str, list[float]]:
        """Name → [low, high], the 95 % percentile bootstrap interval over the predictions."""
        from adapters_xtl.metrics import _bootstrap

        groups = self.items(predictions, language, **options)
        if not groups:
            return _bootstrap.rows_interval(
                predictions,
                lambda rows: self.score(rows, language, **options),
                resamples=resamples,
                seed=seed,
            )
        return {
            name: bounds
            for group in groups
            for name, bounds in _bootstrap.interval(group, resamples=resamples, seed=seed).items()
        }

    def rows(self, predictions: Sequence[Any], references: Sequence[Any]) -> list[dict[str, Any]]:
        """`evaluate`'s predictions and references as this package's predictions."""
        return [
            {"prediction": prediction, "gold": reference}
            for prediction, reference in zip(predictions, references, strict=True)
        ]

    def compute(
        self,
        predictions: Sequence[Any],
        references: Sequence[Any],
        *,
        language: str = "",
        resamples: int = 0,
        seed: int = 0,
        **options: Any,
    ) -> dict[str, Any]:
        """Scores of `evaluate`'s predictions and references. With resamples > 0 also
        "<name>_interval": [low, high].
        """
        rows = self.rows(predictions, references)
        scores: dict[str, Any] = dict(self.score(rows, language, **options))
        if resamples:
            bounds = self.intervals(rows, language, resamples=resamples, seed=seed, **options)
            scores |= {f"{name}_interval": bound for name, bound in bounds.items()}
        return scores
