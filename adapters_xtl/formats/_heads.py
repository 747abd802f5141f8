"""The heads of the formats, and their losses, in torch. Imported only where a head is built."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional as F

from adapters_xtl.formats._items import IGNORED

__all__ = ["SequenceHead", "SpanHead", "TokenHead", "UnchangedStates", "cross_entropy", "mean_pool"]

Batch = Mapping[str, torch.Tensor]


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy in float32 over the labels that are not IGNORED; 0 (not nan) where all of
    them are.
    """
    total = F.cross_entropy(logits.float(), labels, ignore_index=IGNORED, reduction="sum")
    return total / (labels != IGNORED).sum().clamp(min=1)


def mean_pool(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean over the tokens of each sequence, special ones included (as XTREME): (B, T, H), (B, T) →
    (B, H) float32.
    """
    weights = mask.to(torch.float32).unsqueeze(-1)
    return (states.float() * weights).sum(1) / weights.sum(1).clamp(min=1)


def _start(*layers: nn.Linear) -> None:
    for layer in layers:
        nn.init.normal_(layer.weight, std=0.02)
        nn.init.zeros_(layer.bias)


class SequenceHead(nn.Module):
    """A sequence head as XLM-R's own: `<s>` → dropout → dense → tanh → dropout → out. (B, T,
    hidden) → (B, size).
    """

    def __init__(self, hidden: int, size: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.dense = nn.Linear(hidden, hidden)
        self.out = nn.Linear(hidden, size)
        _start(self.dense, self.out)

    def forward(self, states: torch.Tensor, batch: Batch) -> torch.Tensor:
        first = self.dropout(states[:, 0])
        out: torch.Tensor = self.out(self.dropout(torch.tanh(self.dense(first))))
        return out


class TokenHead(nn.Module):
    """One linear layer over every token: (B, T, hidden) → (B, T, size)."""

    def __init__(self, hidden: int, size: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(hidden, size)
        _start(self.out)

    def forward(self, states: torch.Tensor, batch: Batch) -> torch.Tensor:
        out: torch.Tensor = self.out(self.dropout(states))
        return out


class SpanHead(nn.Module):
    """(B, T, hidden) → (B, T, 2 + 2 · trims): logits of the first and the last piece of an answer,
    then of how many characters to leave out of each.

    The second part reads the states without sending a gradient back, and leaves nothing out until
    it has learnt otherwise.
    """

    def __init__(self, hidden: int, trims: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(hidden, 2)
        self.trim = nn.Linear(hidden, 2 * trims)
        _start(self.out)
        nn.init.zeros_(self.trim.weight)
        nn.init.constant_(self.trim.bias, -4.0)
        with torch.no_grad():
            self.trim.bias[::trims] = 0.0

    def forward(self, states: torch.Tensor, batch: Batch) -> torch.Tensor:
        states = self.dropout(states)
        return torch.cat([self.out(states), self.trim(states.detach())], -1)


class UnchangedStates(nn.Module):
    """No parameters: (B, T, hidden) → the same."""

    def forward(self, states: torch.Tensor, batch: Batch) -> torch.Tensor:
        return states
