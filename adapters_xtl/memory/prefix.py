"""What fixing the layers below the lowest module (`train.prefix=fixed`) takes and saves, by the
backbone's config.
"""

from __future__ import annotations

from dataclasses import dataclass

from adapters_xtl.backbones.shape import Shape
from adapters_xtl.memory.activations import ElementSizes, Job

__all__ = ["PrefixPlan", "plan_prefix"]


@dataclass(frozen=True)
class PrefixPlan:
    """States at the lowest layer with a module, and the work that they save.

    text_bytes  of one text of train.max_length tokens; shorter ones take less
    texts       that are trained on at most; 0 where that is not known without the rows
    step        work of a step ÷ that of one that runs the layers below with dropout: a layer's
                forward pass counts 1, its backward pass 1 (frozen weights have no gradient)
    computing   work of computing the states of a batch once ÷ the same
    """

    layer: int
    text_bytes: int
    texts: int
    step: float
    computing: float

    @property
    def bytes(self) -> int:
        """Of all texts at their longest; 0 where their number is not known."""
        return self.texts * self.text_bytes


def plan_prefix(form: Shape, job: Job) -> PrefixPlan | None:
    """None for a training whose lower layers are not fixed."""
    if not job.fixed_prefix:
        return None
    size = ElementSizes.of(job)
    element = min(size.states, size.compute)  # the type in which states are kept
    with_dropout = 2 * form.layers - job.from_layer
    return PrefixPlan(
        layer=job.from_layer,
        text_bytes=job.length * form.hidden * element,
        texts=job.texts,
        step=2 * (form.layers - job.from_layer) / with_dropout,
        computing=job.from_layer / with_dropout,
    )
