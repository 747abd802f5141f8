"""A task on somebody's own files, made of a description instead of a file of this folder.

A description says what the files hold: a format, the columns with its fields, the labels. It has
no path and no language, so equal rows in other places are the same task. It travels with runs and
bundles; whoever reads one of those has the task too (`known_task`). A task's name holds the digest
of its description: one name never means two tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from adapters_xtl.base.errors import RequestError, nearest
from adapters_xtl.base.files import digest
from adapters_xtl.base.typed_json import Rule, to_json
from adapters_xtl.tasks import Row, Rows, Task, add, exists, load

__all__ = [
    "OWN",
    "SELECTING",
    "OwnRows",
    "describe",
    "gold_column",
    "known_task",
    "labelled",
    "own_formats",
    "task_of",
    "usage",
]

OWN = "own"  # `Rows.repo` of rows that lie in somebody's own files
SELECTING = "validation"  # the report split of the rows that chose the checkpoint
MOST_LABELS = 2000
UNANSWERABLE = "unanswerable"  # the label of span tasks in which a question may have no answer
_DIGITS = 8  # of the description's digest, in the task's name


def _is_name(text: str) -> bool:
    return 0 < len(text) < 200 and text.isprintable()


def _are_names(names: tuple[str, ...]) -> bool:
    return len(names) <= MOST_LABELS and all(map(_is_name, names)) and len(set(names)) == len(names)


Names = Annotated[
    tuple[str, ...], Rule(_are_names, f"at most {MOST_LABELS} different names of one line each")
]


@dataclass(frozen=True)
class OwnRows:
    """What somebody's own files hold.

    format   one of `own_formats()`
    columns  field of the format → the columns that hold it (several for the choices)
    labels   class names, as the train rows have them, in the order of the head's outputs
    counting how a label names one of several choices: "0" or "1" (numbers from there on), "A"
             (letters), "column" (the name of the choice's column), "text" (the choice itself)
    """

    format: str
    columns: Mapping[str, Names]
    labels: Names = ()
    counting: str = field(default="", metadata={"omit": True})

    @property
    def name(self) -> str:
        """Name of the task: its format and the digest of the description."""
        return f"{self.format}-{digest(to_json(self))[:_DIGITS]}"

    def column(self, name: str) -> str:
        """The one column that holds a field."""
        return self.columns[name][0]


@dataclass(frozen=True)
class _Form:
    """A format as it is found in somebody's own files.

    fields   those of an example that `--text-columns` names, in order
    gold     the field that `--label` names
    texts    what `--text-columns` takes, for messages
    label    the column with the gold where none is named; "" where it must be named
    columns  description → column → its declared type
    example  (description, row) → example of the format
    scorer   description → (metric, scorer)
    labelled (description, different labels of the train rows) → description with them
    recipe   the task whose recipe serves for it
    """

    title: str
    fields: tuple[str, ...]
    gold: str
    texts: str
    label: str
    describe: Callable[[Sequence[str], str], dict[str, tuple[str, ...]]]
    columns: Callable[[OwnRows], dict[str, str]]
    example: Callable[[OwnRows, Row], dict[str, Any]]
    scorer: Callable[[OwnRows], tuple[str, str]]
    labelled: Callable[[OwnRows, Sequence[str]], OwnRows]
    recipe: str


# ------------------------------------------------------------------ classify: one text, or a pair


def _describe_texts(texts: Sequence[str], label: str) -> dict[str, tuple[str, ...]]:
    if not 1 <= len(texts) <= 2:
        raise RequestError("--text-columns: takes one column, or two for pairs of texts")
    named = dict(zip(("text", "pair"), texts, strict=False))
    return {**{name: (column,) for name, column in named.items()}, "label": (label,)}


def _text_columns(rows: OwnRows) -> dict[str, str]:
    texts = {rows.column(name): "string" for name in ("text", "pair") if name in rows.columns}
    return {**texts, rows.column("label"): "class"}


def _text_example(rows: OwnRows, row: Row) -> dict[str, Any]:
    fields = {name: row[column] for name, (column,) in rows.columns.items()}
    return {"id": row.get("id"), **fields}


# ------------------------------------------------------------------ choice: one of several texts


def _describe_choices(texts: Sequence[str], label: str) -> dict[str, tuple[str, ...]]:
    if len(texts) < 2:
        raise RequestError(
            "--text-columns: takes the context and its choices: context,choice1,choice2 (or"
            " context,choices where one column holds a list)"
        )
    return {"context": (texts[0],), "choices": tuple(texts[1:]), "label": (label,)}


def _choice_columns(rows: OwnRows) -> dict[str, str]:
    listed = len(rows.columns["choices"]) == 1
    choices = dict.fromkeys(rows.columns["choices"], "strings" if listed else "string")
    return {rows.column("context"): "string", **choices, rows.column("label"): "label"}


def _choice_example(rows: OwnRows, row: Row) -> dict[str, Any]:
    columns = rows.columns["choices"]
    choices = list(row[columns[0]] or ()) if len(columns) == 1 else [row[name] for name in columns]
    label = row[rows.column("label")]
    return {
        "id": row.get("id"),
        "context": row[rows.column("context")],
        "choices": choices,
        "label": None if label is None else _choice_number(rows, str(label), choices),
    }


def _choice_number(rows: OwnRows, label: str, choices: Sequence[str]) -> int:
    """The number, from 0 on, of the choice that a label names. ValueError where it names none."""
    if rows.counting == "column":
        return rows.columns["choices"].index(label)
    if rows.counting == "text":
        return list(choices).index(label)
    number = ord(label) - ord("A") if rows.counting == "A" else int(label) - int(rows.counting)
    if not 0 <= number < len(choices):
        raise ValueError(f"label {label!r} names none of {len(choices)} choices")
    return number


def _with_counting(rows: OwnRows, values: Sequence[str]) -> OwnRows:
    """The description with the way in which labels of these values name the choices."""
    if all(value.isdecimal() and value.isascii() for value in values):
        counting = "0" if "0" in values else "1"
    elif all(len(value) == 1 and "A" <= value <= "Z" for value in values):
        counting = "A"
    else:
        counting = "column" if set(values) <= set(rows.columns["choices"]) else "text"
    return replace(rows, counting=counting)


# ------------------------------------------------------------------ tag: a tag for each word


def _describe_words(texts: Sequence[str], label: str) -> dict[str, tuple[str, ...]]:
    if len(texts) > 1:
        raise RequestError("--text-columns: takes the one column that holds the words")
    return {"words": tuple(texts) or ("words",), "tags": (label,)}


def _word_columns(rows: OwnRows) -> dict[str, str]:
    return {rows.column("words"): "strings", rows.column("tags"): "classes"}


def _word_example(rows: OwnRows, row: Row) -> dict[str, Any]:
    fields = {name: row[rows.column(name)] for name in ("words", "tags")}
    return {"id": row.get("id"), **fields}


def _tag_scorer(rows: OwnRows) -> tuple[str, str]:
    """Entity F1 for tags that mark where entities begin and go on, else the share of right tags."""
    marked = any(label.startswith(("B-", "I-")) for label in rows.labels)
    return ("f1", "tagging") if marked else ("accuracy", "token_accuracy")


# ------------------------------------------------------------------ span: an answer in a context


def _describe_span(texts: Sequence[str], label: str) -> dict[str, tuple[str, ...]]:
    if len(texts) not in (0, 2):
        raise RequestError("--text-columns: takes the columns of context and question, in order")
    context, question = texts or ("context", "question")
    return {"context": (context,), "question": (question,), "answers": (label,)}


def _span_columns(rows: OwnRows) -> dict[str, str]:
    texts = {rows.column("context"): "string", rows.column("question"): "string"}
    return {**texts, rows.column("answers"): "answers"}


def _span_example(rows: OwnRows, row: Row) -> dict[str, Any]:
    fields = {name: row[rows.column(name)] for name in ("question", "context", "answers")}
    return {"id": row.get("id"), **fields}


def _with_labels(rows: OwnRows, values: Sequence[str]) -> OwnRows:
    return replace(rows, labels=tuple(sorted(values, key=_label_order)))


def _label_order(label: str) -> tuple[bool, int, str]:
    """Numbers by their size, before all other labels, which come by their text."""
    is_number = label.removeprefix("-").isdecimal() and label.isascii() and len(label) < 16
    return not is_number, int(label) if is_number else 0, label


_FORMS: Mapping[str, _Form] = {
    "classify": _Form(
        "classification of own rows",
        ("text", "pair"),
        "label",
        "one text column, or two for pairs",
        "",
        _describe_texts,
        _text_columns,
        _text_example,
        lambda rows: ("accuracy", "accuracy"),
        _with_labels,
        "mnli",
    ),
    "choice": _Form(
        "multiple choice on own rows",
        ("context", "choices"),
        "label",
        "the context's column and those of the choices",
        "",
        _describe_choices,
        _choice_columns,
        _choice_example,
        lambda rows: ("accuracy", "accuracy"),
        _with_counting,
        "cosmosqa",
    ),
    "span": _Form(
        "extractive question answering on own rows",
        ("context", "question"),
        "answers",
        "the columns of context and question",
        "answers",
        _describe_span,
        _span_columns,
        _span_example,
        lambda rows: ("f1", "squad_v2" if rows.labels else "squad"),
        lambda rows, values: replace(rows, labels=(UNANSWERABLE,) if "" in values else ()),
        "squad1",
    ),
    "tag": _Form(
        "tagging of own rows",
        ("words",),
        "tags",
        "the column of the words",
        "tags",
        _describe_words,
        _word_columns,
        _word_example,
        _tag_scorer,
        _with_labels,
        "panx",
    ),
}


def own_formats() -> tuple[str, ...]:
    """Formats of which own files can be read, sorted."""
    return tuple(sorted(_FORMS))


def gold_column(rows: OwnRows) -> str:
    """The column that holds the gold."""
    return rows.column(_FORMS[rows.format].gold)


def labelled(rows: OwnRows, values: Sequence[str]) -> OwnRows:
    """The description with what the gold column of the train rows tells. `values`: the different
    labels in it, in any order; of answers, "" where a row has none.
    """
    return _FORMS[rows.format].labelled(rows, values)


def usage(format: str) -> str:
    """What `--text-columns` takes for a format."""
    return _FORMS[format].texts


def describe(
    format: str,
    text_columns: Sequence[str],
    label: str,
    labels: Sequence[str] = (),
    counting: str = "",
) -> OwnRows:
    """The description of own rows. RequestError, a line for each mistake, for columns that the
    format cannot have. `label` "": the usual column.
    """
    if format not in _FORMS:
        raise RequestError(f"--data-file: no format '{format}'{nearest(format, _FORMS)}")
    form = _FORMS[format]
    column = label or form.label
    if not column:
        texts = "" if text_columns else f"--text-columns (takes {form.texts}) and "
        raise RequestError(f"{texts}--label: name the column of the labels")
    columns = form.describe(text_columns, column)
    every = [name for names in columns.values() for name in names]
    if twice := next((name for name in every if every.count(name) > 1), ""):
        raise RequestError(f"--text-columns, --label: '{twice}' is named twice")
    return OwnRows(format, columns, tuple(labels), counting)


def known_task(rows: OwnRows) -> Task:
    """The task that a description makes, from now on known to this process by its name.

    RequestError for a description whose columns its format cannot have.
    """
    if exists(rows.name):
        return load(rows.name)
    if rows.format not in _FORMS or rows.counting not in ("", "0", "1", "A", "column", "text"):
        raise RequestError(f"own rows of format '{rows.format}' are not known here")
    form = _FORMS[rows.format]
    texts = [column for name in form.fields for column in rows.columns.get(name, ())]
    gold = rows.columns.get(form.gold, ("",))
    expected = describe(rows.format, texts, gold[0] if gold else "", rows.labels, rows.counting)
    if expected.columns != dict(rows.columns):
        raise RequestError(f"own rows of format '{rows.format}' have other fields")
    task = task_of(rows)
    add(task)
    return task


def task_of(rows: OwnRows) -> Task:
    """The task that a description makes; only `known_task` makes it known by its name."""
    form = _FORMS[rows.format]
    metric, scorer = form.scorer(rows)
    columns = form.columns(rows)

    def split(name: str) -> tuple[Rows, ...]:
        return (Rows(OWN, "{code}", name, columns),)

    return Task(
        kind="intermediate",  # its select rows may be reported, where there are no test rows
        format=rows.format,
        metric=metric,
        scorer=scorer,
        title=form.title,
        labels=rows.labels,
        train=split("train"),
        select=split("select"),
        report={"test": split("test"), SELECTING: split("select")},
        languages={"all": ()},  # those of the files
        recipe=form.recipe,
        own=rows,
        name=rows.name,
        example=lambda row: form.example(rows, row),
    )
