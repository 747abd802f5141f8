"""Which rows choose a checkpoint, and how they are kept apart from the rows that are reported.

The protocol decides. Under `clean` the select rows are the task's `select` rows, or a slice of its
train rows where it has none; those that are also reported in English, by id or by text, are dropped
and counted. Under `xtreme` they are what the benchmark's own scripts select on
(`Task.select_xtreme`), which may be reported rows; how many are is recorded.

The English report rows of the task itself (all its report splits) and of the tasks in `Task.drop`
count as reported. Where a source lacks such rows, the ids that ship with the package (files in
`reported_ids/`) are dropped still, and the record says what could not be checked.

Report rows of other languages are not looked at unless a training is in chosen languages (see
`language_rows`): select rows are English, and what a task reports in another language is either a
translation of its English rows, found by them, or other text. A few texts are the same in two
languages because they are a name and nothing else: of PAN-X's 9,890 English validation texts, 42
stand among the validation texts of 24 other languages.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters_xtl import formats
from adapters_xtl.base.errors import DataError
from adapters_xtl.tasks import Rows, Task

if TYPE_CHECKING:
    from adapters_xtl.data.shots import DrawnShots

__all__ = [
    "CheckedSplit",
    "ReportedRows",
    "StageRows",
    "TrainingRows",
    "count_overlap",
    "cut_select",
    "declared_reports",
    "declared_select",
    "drop_reported",
    "known_ids",
]

SLICE = 500  # examples of a select slice, as in Phang et al.'s code
SHARE = 10  # a select slice has at most one in so many rows, but for the size of its last group


@dataclass
class CheckedSplit:
    """The usable examples of one split in one language, and what was left out of it.

    rows     rows read, usable or not
    faults   reason → number of rows left out; `kept` the same for rows that are unfit but can be
             scored
    places   (file:row, reason) of the first few of both
    forms    the data sets, configs and splits that were read
    """

    examples: list[dict[str, Any]] = field(default_factory=list)
    rows: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    kept: Counter[str] = field(default_factory=Counter)
    places: list[tuple[str, str]] = field(default_factory=list)
    forms: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class StageRows:
    """The rows of one training stage: what it trains on, and what chooses its checkpoint.

    `title` names the stage's source in records ("aps/super_glue [copa] train"). `shots`: rows of
    another language that are mixed with the train rows.
    """

    title: str
    train: tuple[dict[str, Any], ...]
    select: tuple[dict[str, Any], ...]
    shots: tuple[dict[str, Any], ...] = ()


@dataclass
class TrainingRows:
    """Everything that a training of one task reads.

    train      all train rows, in the order of the sources
    select     rows that choose the checkpoint of the (last) stage
    earlier    select rows of the stages before the last, one split a stage; () for a task whose
               sources are mixed
    dropped    reported task → select rows dropped because it reports them
    unchecked  reported rows that select could not be held against → why
    shots      the shots among what is trained on: mixed with `train`, or `train` itself
    dropped_from_train  reported task → train rows dropped because it reports them, of a training in
               chosen languages
    in_languages  language → examples to train on, of such a training
    matched_by  how these languages were made comparable with others: "items" or "numbers"
    """

    train: CheckedSplit
    select: CheckedSplit
    earlier: tuple[CheckedSplit, ...] = ()
    dropped: dict[str, int] = field(default_factory=dict)
    unchecked: dict[str, str] = field(default_factory=dict)
    shots: DrawnShots | None = None
    dropped_from_train: dict[str, int] = field(default_factory=dict)
    in_languages: dict[str, int] = field(default_factory=dict)
    matched_by: str = ""

    def stages(self) -> tuple[StageRows, ...]:
        """The stages of a training in their order; one where all sources are mixed.

        Examples of stage n carry `"stage": n`; a stage's select rows are rows of its own source.
        """
        selects = (*self.earlier, self.select)
        shots = self.shots.split.examples if self.shots and self.shots.joined else ()
        if len(selects) == 1:
            title = ", ".join(self.train.forms)
            rows = (tuple(self.train.examples), tuple(self.select.examples), tuple(shots))
            return (StageRows(title, *rows),)
        return tuple(
            StageRows(
                _stage_title(self.train, number),
                tuple(row for row in self.train.examples if row.get("stage", 0) == number),
                tuple(select.examples),
                tuple(shots) if number == len(selects) - 1 else (),
            )
            for number, select in enumerate(selects)
        )


@dataclass(frozen=True)
class ReportedRows:
    """Rows of one report split, in English unless said otherwise, which must not choose a
    checkpoint under `clean`.
    """

    task: str
    split: str
    rows: tuple[Rows, ...]

    def __str__(self) -> str:
        return f"{self.task} {self.split}"


def declared_select(task: Task, protocol: str) -> tuple[Rows, ...]:
    """The rows that choose a task's checkpoint; () means a slice of its train rows."""
    return task.select_xtreme if protocol == "xtreme" and task.select_xtreme else task.select


def declared_reports(
    task: Task, protocol: str, load: Callable[[str], Task], language: str = "en"
) -> tuple[ReportedRows, ...]:
    """The report splits with rows of a language that select rows are held against; () under
    `xtreme`.

    A task that reports the rows it selects on (kind "intermediate") is held against the tasks that
    borrow its training alone.
    """
    if protocol != "clean":
        return ()
    own = (task,) if task.kind == "target" and task.train else ()
    return tuple(
        ReportedRows(reporting.name, split, rows)
        for reporting in (*own, *map(load, task.drop))
        for split, rows in reporting.report.items()
        if language in reporting.all_languages
    )


@lru_cache(maxsize=64)
def known_ids(task: str) -> frozenset[str]:
    """Digests (`id_digest`) of the ids that a task reports in English, as they ship with the
    package; empty for a task without published ids.
    """
    path = Path(__file__).parent / "reported_ids" / f"{task}.txt"
    if not path.is_file():
        return frozenset()
    lines = path.read_text(encoding="ascii").splitlines()
    return frozenset(line for line in lines if line and not line.startswith("#"))


def id_digest(identity: str) -> str:
    """The first 12 hex digits of the sha256 of an id."""
    return hashlib.sha256(identity.encode()).hexdigest()[:12]


def _is_published(identity: str) -> bool:
    """Whether an id means the same row in every file: row numbers and small integers do not."""
    return not identity.startswith("#") and not identity.isdigit()


def _text_of(task: Task, example: Mapping[str, Any]) -> str:
    """What an example gives a model to read, for comparing: without what is said of it and gold, in
    NFKC, lower case, white space as one blank.
    """
    left_out = {"id", "stage", "language", "genre", *formats.load(task.format).gold_fields}

    def plain(value: Any) -> Any:
        if isinstance(value, str):
            return " ".join(unicodedata.normalize("NFKC", value).casefold().split())
        if isinstance(value, (list, tuple)):
            return [plain(item) for item in value]
        return value

    inputs = {
        key: plain(value)
        for key, value in example.items()
        if key not in left_out and value is not None
    }
    return json.dumps(inputs, ensure_ascii=False, sort_keys=True, default=str)


def drop_reported(
    task: Task, select: CheckedSplit, reported: Mapping[str, Sequence[CheckedSplit]]
) -> tuple[CheckedSplit, dict[str, int]]:
    """(select without the rows that are reported, reporting task → number of rows dropped for it).

    `reported`: reporting task → its English report rows, as far as the source has them. A row is
    reported when its published id or its text is.
    """
    kept = select.examples
    dropped: dict[str, int] = {}
    for name, splits in reported.items():
        examples = [example for split in splits for example in split.examples]
        ids = {example["id"] for example in examples if _is_published(example["id"])}
        digests, texts = known_ids(name), {_text_of(task, example) for example in examples}
        remaining = [
            example
            for example in kept
            if example["id"] not in ids
            and not (digests and id_digest(example["id"]) in digests)
            and not (texts and _text_of(task, example) in texts)
        ]
        if len(remaining) < len(kept):
            dropped[name] = len(kept) - len(remaining)
        kept = remaining
    return replace(select, examples=list(kept)), dropped


def count_overlap(task: Task, select: CheckedSplit, report: Iterable[CheckedSplit]) -> int:
    """Number of select rows that are also among these report rows, by published id or by text."""
    ids: set[str] = set()
    texts: set[str] = set()
    for split in report:
        same_file = bool(set(split.forms) & set(select.forms))
        ids |= {row["id"] for row in split.examples if same_file or _is_published(row["id"])}
        texts |= {_text_of(task, row) for row in split.examples}
    return sum(row["id"] in ids or _text_of(task, row) in texts for row in select.examples)


def _stage_title(train: CheckedSplit, stage: int) -> str:
    """The source of a stage's rows: its own form, or the form that holds all stages."""
    if stage < len(train.forms):
        return train.forms[stage]
    return f"{train.forms[0] if train.forms else 'train'}, stage {stage + 1}"


def cut_select(
    task: Task, train: CheckedSplit, stage: int | None = None
) -> tuple[CheckedSplit, CheckedSplit]:
    """(the remaining train rows, a select slice cut off them).

    Whole groups (passages; texts) go into the slice by the lowest hash until it has 500 examples or
    a tenth of the rows; which rows those are depends on their content alone. A group that would
    make the slice more than half of the rows is passed over. `stage`: cut from the examples of this
    stage alone. DataError when no group fits, so that no row could be left to train on.
    """
    numbers = [
        number
        for number, example in enumerate(train.examples)
        if stage is None or example.get("stage", 0) == stage
    ]
    groups: dict[str, list[int]] = {}
    for number in numbers:
        text = formats.load(task.format).group(train.examples[number])
        groups.setdefault(hashlib.sha256(text.encode()).hexdigest(), []).append(number)
    size = max(1, min(SLICE, len(numbers) // SHARE))
    chosen: set[int] = set()
    for key in sorted(groups):
        if len(chosen) >= size:
            break
        if len(chosen) + len(groups[key]) <= len(numbers) // 2:
            chosen.update(groups[key])
    if not chosen:
        raise DataError(
            f"{task.name}: {_stage_title(train, stage or 0)}: {len(numbers)} train rows with"
            f" {len(groups)} different texts: no select rows can be cut off so that rows are left"
            " to train on"
        )
    select = CheckedSplit(
        [train.examples[number] for number in sorted(chosen)],
        rows=len(chosen),
        forms=["slice of train"],
    )
    rest = [example for number, example in enumerate(train.examples) if number not in chosen]
    return replace(train, examples=rest), select
