"""Inputs on which an exported model is held against the stack it was made of: the package's own
sample rows of the tasks of one format, in several scripts.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from adapters_xtl import formats, tasks
from adapters_xtl.base.errors import DataError
from adapters_xtl.data.locate import locate_report
from adapters_xtl.data.reading import Reader, read_report
from adapters_xtl.data.sources import Source, open_source
from adapters_xtl.formats import Format
from adapters_xtl.tasks import Task

__all__ = ["SampleInputs", "sample_inputs", "script_of"]

ROWS = 50
SCRIPTS = 3


@dataclass(frozen=True)
class SampleInputs:
    """Examples of one format.

    examples  as the format reads them
    scripts   the scripts of their texts (LATIN, CJK …), the most frequent first
    tasks     the tasks whose rows they are
    """

    examples: tuple[Mapping[str, Any], ...]
    scripts: tuple[str, ...]
    tasks: tuple[str, ...]

    @property
    def described(self) -> str:
        """In a few words: `50 sample rows of xnli (Latin, Cyrillic, Arabic)`."""
        scripts = ", ".join(name if name == "CJK" else name.capitalize() for name in self.scripts)
        return f"{len(self.examples)} sample rows of {', '.join(self.tasks)} ({scripts})"


def sample_inputs(task: Task, rows: int = ROWS, scripts: int = SCRIPTS) -> SampleInputs:
    """Up to `rows` examples for the format of `task`, spread evenly over `scripts` scripts or as
    many as the sample rows have: of the task itself and, where that has too few, of others of its
    format. DataError where the package has no sample rows of the format.
    """
    source = open_source("embedded")
    form = formats.load(task.format)
    by_script: dict[str, list[tuple[str, Mapping[str, Any]]]] = {}
    for name in _tasks_of(task):
        for examples in _examples_by_language(tasks.load(name), form, source):
            for example in examples:
                by_script.setdefault(script_of(form, example), []).append((name, example))
        enough = sorted((len(of_script) for of_script in by_script.values()), reverse=True)[
            :scripts
        ]
        if len(enough) == scripts and sum(enough) >= rows:
            break
    if not by_script:
        raise DataError(f"no sample rows of format '{task.format}' to compare the models on")
    ranked = sorted(by_script, key=lambda script: -len(by_script[script]))[:scripts]
    chosen: list[tuple[str, str, Mapping[str, Any]]] = []
    for number in range(max(len(by_script[script]) for script in ranked)):
        for script in ranked:
            if number < len(by_script[script]) and len(chosen) < rows:
                chosen.append((script, *by_script[script][number]))
    counts = Counter(script for script, _, _ in chosen)
    return SampleInputs(
        tuple(example for _, _, example in chosen),
        tuple(script for script, _ in counts.most_common()),
        tuple(dict.fromkeys(name for _, name, _ in chosen)),
    )


def script_of(form: Format, example: Mapping[str, Any]) -> str:
    """The script of most letters of an example's first text, as Unicode names it: LATIN, CYRILLIC,
    CJK; "OTHER" where there is no letter.
    """
    values = [*(example.get(name) for name in form.fields), *example.values()]
    first = next((value for value in values if value), "")
    text = " ".join(first) if isinstance(first, list | tuple) else str(first)
    names = (unicodedata.name(letter, "") for letter in text if letter.isalpha())
    counts = Counter(name.split(" ")[0].split("-")[0] for name in names if name)
    return counts.most_common(1)[0][0] if counts else "OTHER"


def _tasks_of(task: Task) -> list[str]:
    """The tasks of the format of `task` whose rows are read one by one: itself, then those with the
    most languages.
    """
    form = formats.load(task.format)
    same = [
        other
        for other in map(tasks.load, tasks.names())
        if other.format == task.format and not form.needs_every_row(other)
    ]
    same.sort(key=lambda other: (other.name != task.name, -len(other.all_languages), other.name))
    return [other.name for other in same]


def _examples_by_language(
    task: Task, form: Format, source: Source
) -> Iterator[list[Mapping[str, Any]]]:
    """The sample rows of a task, language by language; none where it has no samples."""
    split = next(iter(task.report), "")
    if not split:
        return
    try:
        files, _ = locate_report(source, task, split, task.all_languages)
        by_language, _ = read_report(Reader(), task, files)
    except DataError:
        return
    for part in by_language.values():
        fit: list[Mapping[str, Any]] = [
            example for example in part.examples if form.fault(example, ()) is None
        ]
        if fit:
            yield fit
