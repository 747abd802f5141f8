"""A study's record as the page reads it: study.json, or the comparison.json of `xtl compare`.

Keys that the page shows nothing of are passed over; those that it shows must have the right form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from adapters_xtl.base.errors import MismatchError, RequestError
from adapters_xtl.base.files import explain_denied, read_regular
from adapters_xtl.base.typed_json import from_json
from adapters_xtl.base.untrusted import Refusal, parse_json
from adapters_xtl.grid.results import Figure, Table
from adapters_xtl.runs.store import STUDY_RECORDS

__all__ = [
    "Answer",
    "Average",
    "Axis",
    "Contrast",
    "Difference",
    "Score",
    "StudyCell",
    "StudyRecord",
    "StudyRow",
    "read_study",
]

T = TypeVar("T")
_MOST_BYTES = 256 << 20


@dataclass(frozen=True)
class Score:
    """A mean over seeds with its interval; `seeds`: seed → score."""

    mean: float
    interval: tuple[float, ...] | None = None
    n: int = 0
    seeds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Difference:
    """A difference of two rows, paired over the seeds."""

    mean: float
    interval: tuple[float, ...] | None = None
    seeds: tuple[int, ...] = ()
    verdict: str = ""


@dataclass(frozen=True)
class RowRun:
    """One seed of a row: the run that scored it, `task/id`, and the module's training."""

    seed: int
    run: str
    module: str | None = None


@dataclass(frozen=True)
class StudyRow:
    """One setting on one task: scores, costs and runs. Costs are None where nothing was trained."""

    task: str
    method: str = ""
    bits: int | None = None
    parents: tuple[str, ...] = ()
    composition: str = ""
    metric: str = ""
    split: str = ""
    selected_on: int = 0
    score: Score | None = None
    languages: Mapping[str, float] = field(default_factory=dict)
    gap_to_full: Difference | None = None
    gain_over_no_parents: Difference | None = None
    trainable_parameters: float | None = None
    stored_bytes: float | None = None
    stack_bytes: float | None = None
    peak_memory_bytes: float | None = None
    seconds: float | None = None
    examples_per_second: float | None = None
    energy_joules: float | None = None
    runs: tuple[RowRun, ...] = ()
    settings: str = ""
    tuned: Any = None
    hyper: Any = None
    options: Any = None
    point: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Average:
    """Means of one setting over all the tasks, with and without retrieval."""

    method: str = ""
    bits: int | None = None
    parents: tuple[str, ...] = ()
    mean: Score | None = None
    mean_without_retrieval: Score | None = None
    mean_retrieval: Score | None = None


@dataclass(frozen=True)
class Axis:
    """What the study varies, and over which values."""

    name: str
    values: tuple[Any, ...] = ()


@dataclass(frozen=True)
class StudyCell:
    """One point of the grid, and whether its runs are done."""

    point: Mapping[str, Any] = field(default_factory=dict)
    state: str = ""
    failures: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Contrast:
    """A difference that the study reads, and its test before and after Holm's correction.

    interval: [low, high], or an object with "low" and "high"
    """

    name: str
    of: Any = ""
    against: Any = ""
    mean: float | None = None
    interval: Any = None
    seeds: Any = ()
    verdict: Any = ""
    p: float | None = None
    p_holm: float | None = None
    holm: Any = ""

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Low and high of the interval, where it has both."""
        ends = self.interval
        if isinstance(ends, Mapping):
            ends = [ends.get("low"), ends.get("high")]
        if not isinstance(ends, list | tuple) or len(ends) != 2:
            return None
        low, high = ends
        if not isinstance(low, int | float) or not isinstance(high, int | float):
            return None
        return float(low), float(high)


@dataclass(frozen=True)
class Answer:
    """What the study answers to its question."""

    headline: Any = ""
    verdict: Any = ""
    exception: Any = ""
    limits: Any = ""


@dataclass(frozen=True)
class Backbone:
    """The encoder of all the study's runs."""

    name: str = ""
    fingerprint: str = ""


@dataclass(frozen=True)
class StudyRecord:
    """The record of a study or a comparison; what a comparison lacks has its default."""

    study: str = ""
    kind: str = ""
    id: str = ""
    question: str = ""
    title: str = ""
    command: str = ""
    tasks: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    level: float = 0.95
    device: str = ""
    backbone: Backbone = field(default_factory=Backbone)
    data: str = ""
    protocol: str = ""
    tuning: Any = None
    axes: tuple[Axis, ...] = ()
    cells: tuple[StudyCell, ...] = ()
    rows: tuple[StudyRow, ...] = ()
    averages: tuple[Average, ...] = ()
    contrasts: tuple[Contrast, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()
    answer: Answer | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)
    no_evidence: tuple[str, ...] = ()
    failed: tuple[Any, ...] = ()
    left_out: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    published: Mapping[str, Any] = field(default_factory=dict)


def read_study(path: Path) -> StudyRecord:
    """The record in a study's directory, or in the JSON file itself.

    RequestError where there is none; MismatchError where it cannot be read, by the key's path.
    """
    file = path
    if path.is_dir():
        files = [path / name for name in STUDY_RECORDS if (path / name).is_file()]
        if not files:
            raise RequestError(
                f"{path}: no study here: it holds neither {' nor '.join(STUDY_RECORDS)}"
            )
        file = files[0]
    elif not path.exists():
        raise RequestError(f"{path}: no such directory or file")
    try:
        value = parse_json(read_regular(file, _MOST_BYTES), _MOST_BYTES)
        if not isinstance(value, dict) or "rows" not in value:
            raise Refusal("no study's record: it has no 'rows'")
        return from_json(StudyRecord, _shown_part(StudyRecord, value))
    except Refusal as refusal:
        raise MismatchError(f"{file}: {refusal}") from refusal
    except RequestError as error:  # a table or a figure that cannot be drawn
        raise MismatchError(f"{file}: {error}") from error
    except PermissionError as error:
        raise RequestError(explain_denied(file)) from error
    except OSError as error:
        raise MismatchError(f"{file}: cannot be read ({error.strerror})") from error


def _shown_part(kind: Any, value: Any) -> Any:
    """`value` without the keys that `kind`, and the dataclasses inside it, do not have."""
    if is_dataclass(kind) and isinstance(kind, type) and isinstance(value, dict):
        hints = get_type_hints(kind)
        names = {item.name for item in fields(kind)}
        return {
            name: _shown_part(hints[name], inner) for name, inner in value.items() if name in names
        }
    if get_origin(kind) in (Union, UnionType):
        inner = [part for part in get_args(kind) if is_dataclass(part) or get_origin(part) is tuple]
        return _shown_part(inner[0], value) if inner else value
    if get_origin(kind) is tuple and isinstance(value, list) and get_args(kind):
        return [_shown_part(get_args(kind)[0], item) for item in value]
    return value
