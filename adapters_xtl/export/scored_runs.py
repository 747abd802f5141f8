"""The scores of runs, flat: one entry a task and language, with what the scored rows are."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from adapters_xtl.base.errors import MismatchError, RequestError, clipped, nearest
from adapters_xtl.base.untrusted import printable
from adapters_xtl.runs.records import TaskScores
from adapters_xtl.runs.store import Store
from adapters_xtl.runs.stored_runs import StoredRun, is_run, read_run
from adapters_xtl.sharing import module_lookup, pack
from adapters_xtl.sharing.mirror_rows import data_set_of, stated_rows

__all__ = ["LanguageScore", "ScoredRows", "ScoredRun", "config_of", "scored_runs"]


# a split of a data set, as records name it; a slice of the train rows has another name
_FORM = re.compile(r"[^ ]+ \[(.+)\] .+")


def config_of(form: str) -> str:
    """The configuration that the record of a data set's split names, as "XNLI" in "google/xtreme
    [XNLI] validation"; "" where it names none.
    """
    match = _FORM.fullmatch(form)
    return match[1] if match else ""


@dataclass(frozen=True)
class ScoredRows:
    """What the rows of one task and language are.

    official   whether they are the data set's own: read from the hub, all of them
    forms      data sets, configurations and splits whose columns they have
    revisions  data set → its revision on the hub
    content    in words, for rows that are not known to be a data set's; "" for those that are
    """

    official: bool
    forms: tuple[str, ...]
    revisions: Mapping[str, str]
    content: str = ""

    @property
    def data_sets(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(map(data_set_of, self.forms)))


@dataclass(frozen=True)
class LanguageScore:
    """The headline score of one task in one language, 0 to 100.

    n            number of scored examples
    others       the other numbers of the same rule, by name
    selected_on  scored rows that also chose the checkpoint
    seconds      that predicting took; None where that is not on record
    """

    task: str
    language: str
    split: str
    metric: str
    score: float
    n: int
    others: Mapping[str, float]
    selected_on: int
    seconds: float | None
    rows: ScoredRows


@dataclass(frozen=True)
class ScoredRun:
    """A finished run with what it scored.

    model     a name for what was scored: stack, method and backbone
    revision  id of the run that trained it; of the bare backbone, its own revision or fingerprint
    """

    run: StoredRun
    model: str
    revision: str
    scores: tuple[LanguageScore, ...]


def scored_runs(
    names: Sequence[str], store: Store, notify: Callable[[str], None]
) -> list[ScoredRun]:
    """The runs that directories or run ids name, each once.

    RequestError for what is no finished run, or scored nothing; MismatchError for a damaged one.
    """
    paths = dict.fromkeys(_path(name, store) for name in names)
    runs = [_scored(read_run(path)) for path in paths]
    empty = [str(scored.run.path) for scored in runs if not scored.scores]
    if empty:
        raise RequestError(f"{', '.join(empty)}: scored nothing")
    return runs


def _path(name: str, store: Store) -> Path:
    path = Path(name)
    if is_run(path):
        return path.resolve()
    stored = store.by_id(name)
    if stored:
        return stored[0]
    if module_lookup.find(name, store) is not None:
        raise RequestError(f"{clipped(name)}: a bundle; results are exported of the run itself")
    ids = [run.name for run in store.all()]
    raise RequestError(f"{clipped(name)}: no run directory and no run id{nearest(name, ids)}")


def _scored(run: StoredRun) -> ScoredRun:
    spec, backbone = run.spec, run.spec.backbone
    model, revision = Path(backbone.name).name, backbone.revision or backbone.fingerprint[:12]
    if spec.module is not None:
        revision = spec.module.id
        try:
            model = pack.default_name(pack.training_run(run.path).module)
        except (RequestError, MismatchError):  # its training run is not in this store
            model = "-on-".join(reversed(spec.stack.split(">"))) + f"-{model}"
    scores = tuple(
        _language_score(run, task, entry, language)
        for task, entry in run.metrics.tasks.items()
        for language in entry.languages
    )
    return ScoredRun(run, model.replace("+", "-"), revision, scores)


def _language_score(run: StoredRun, task: str, entry: TaskScores, language: str) -> LanguageScore:
    values = entry.languages[language]
    cost = run.provenance.inference.get(task, {}).get(language)
    return LanguageScore(
        task=task,
        language=language,
        split=entry.split,
        metric=entry.metric,
        score=float(values[entry.metric]),
        n=int(values["n"]),
        others={
            name: float(value)
            for name, value in values.items()
            if name not in ("n", entry.metric) and isinstance(value, int | float)
        },
        selected_on=entry.selected_on,
        seconds=None if cost is None else cost.seconds,
        rows=_rows(run, task, language),
    )


def _rows(run: StoredRun, task: str, language: str) -> ScoredRows:
    data, evaluation = run.provenance.data, run.spec.evaluation
    count = data.report.get(task, {}).get(language)
    forms = count.forms if count is not None else ()
    revisions = {
        name: data.revisions[name] for name in map(data_set_of, forms) if name in data.revisions
    }
    limit = evaluation.max_examples if evaluation is not None else 0
    if data.source == "embedded" or not forms:
        named = "sample rows that adapters_xtl ships" if forms else "rows that are not on record"
        return ScoredRows(False, (), {}, f"{named}, in the columns of task {task}")
    columns = ", ".join(forms)
    if data.source == "files":
        return ScoredRows(False, (), {}, "rows of the evaluator's own files, not published here")
    if not all(_FORM.fullmatch(form) for form in forms):
        trained = data.train.get(task)
        held = f" of {', '.join(trained.forms)}" if trained is not None else ""
        return ScoredRows(False, (), {}, f"{columns}{held} ({data.source})")
    if data.source != "hub":
        root = Path(run.spec.request.get("data") or "").expanduser()
        stated = dict.fromkeys(stated_rows(root, forms, ()).values())
        told = f" (its README states: {'; '.join(stated)})" if stated else ""
        content = f"rows of the mirror '{printable(root.name)}'{told}, in the columns of {columns}"
        return ScoredRows(False, forms, {}, content)
    if limit and count is not None and count.examples > limit:
        return ScoredRows(False, forms, revisions, f"{limit} of the rows of {columns}")
    return ScoredRows(True, forms, revisions)
