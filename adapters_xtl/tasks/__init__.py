"""The tasks: one file each, found by listing this directory.

The file's stem is the task's name. `Task` says what a task declares, `Rows` where one split lies,
`LanguageRows` where train rows in another language do; `load` and `names` find tasks. A task on
somebody's own files has a description instead of a file (`_own_rows`); it exists once the
request, run or bundle with its description was read.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from adapters_xtl.base.errors import RequestError, nearest
from adapters_xtl.base.files import public_files

if TYPE_CHECKING:
    from adapters_xtl.tasks._own_rows import OwnRows

__all__ = [
    "BACK_TRANSLATED",
    "LanguageRows",
    "POOL",
    "REST",
    "TOGETHER",
    "WITHOUT_SHOTS",
    "Row",
    "Rows",
    "Task",
    "add",
    "exists",
    "load",
    "names",
]

BACK_TRANSLATED = "en-bt"  # the language code of English rows that were translated there and back

TOGETHER = "+"  # joins the names of several domains to one report split: "email+reviews"

# the halves of a report split that shots are drawn from too, and the name of the reported one
POOL, REST, WITHOUT_SHOTS = "pool", "rest", "-without-shots"

Row = Mapping[str, Any]
COLUMN_TYPES = (
    *("string", "int", "number", "class", "label", "strings", "classes", "answers", "choices"),
)


@dataclass(frozen=True)
class Rows:
    """Where the rows of one split lie, in the hub's own terms.

    `config` and `split` may hold `{code}`, the source's name for a language (`Task.codes`).
    `columns` maps every column that `example()` reads to its type: string, int, number, class (a
    label of the task, by name or by class index), label (of own files: a text, or a number that
    counts as its text), strings, classes (lists of them), answers
    (SQuAD's struct), choices (CommonsenseQA's struct). `language` says how one file holds several
    languages: "" not at all, "column:NAME" a column with the code, "prefix:NAME" a column whose
    text starts with the code and a hyphen. `parts` are split names that are read together, told
    apart by a column `part`. `instead` are other published forms of the same rows, taken (and
    named) where a source lacks the first. `sliced`: of train rows, those alone that are cut off to
    select (`adapters_xtl.data.splits.cut_select`). `only`: a column of texts → values; rows with
    another text there are passed over (`GUM_*`: those whose text does not begin so). `parallel`
    says how a row of one language finds its translation among the rows of another: "" not at all,
    "row" by its place in the file (of the same data set, where it has the same gold), "id" by its
    id. `genre`: the column of texts that `Task.genres` tells train and select rows apart by; "":
    there is none. `half`: of the rows of a report split, those alone that shots are drawn from
    (`POOL`), or the others (`REST`); which half a row is in, its content decides.
    """

    repo: str
    config: str
    split: str
    columns: Mapping[str, str]
    language: str = ""
    parts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    sliced: bool = False
    instead: tuple[Rows, ...] = ()
    parallel: str = ""
    only: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    genre: str = ""
    half: str = ""

    def of_half(self, half: str) -> Rows:
        """One half of these rows."""
        return replace(self, half=half, instead=tuple(form.of_half(half) for form in self.instead))

    def of_genres(self, texts: tuple[str, ...]) -> Rows:
        """Those of these rows whose genre is one of `texts`, from forms alone that tell a row's
        genre.
        """
        only = {**self.only, self.genre: texts} if self.genre else self.only
        forms = tuple(form.of_genres(texts) for form in self.instead if form.genre)
        return replace(self, only=only, instead=forms)

    def named(self, code: str) -> Rows:
        """These rows for the language that the source calls `code`."""
        return replace(
            self,
            config=self.config.replace("{code}", code),
            split=self.split.replace("{code}", code),
            instead=tuple(rows.named(code) for rows in self.instead),
        )

    def __str__(self) -> str:
        chosen = "".join(f", {name} {' or '.join(only)}" for name, only in self.only.items())
        half = {"": "", POOL: ", the half for shots", REST: ", the half without shots"}[self.half]
        return f"{self.repo} [{self.config}] {self.split}{chosen}{half}"


@dataclass(frozen=True)
class LanguageRows:
    """Where a task's train rows in one language lie.

    train   the rows, `{code}` standing for the source's name of the language
    origin  "native": written in that language; "translated": by a machine, from the English rows;
            "back-translated": English rows that a machine translated there and back
    select  rows of the same language that choose the checkpoint; None: a slice of the train rows
    licence  that of translations, where it is another than the task's
    """

    train: Rows
    origin: str
    select: Rows | None = None
    licence: str = ""


@dataclass(frozen=True)
class Task:
    """One task: data, format, metric. `name` is the stem of its file in `adapters_xtl/tasks/`.

    kind       "intermediate" or "target"
    format     a file of `adapters_xtl/formats/`; says what `example(row)` returns (see
               the file of that name in `adapters_xtl/formats/`); empty for a task with `members`
    metric     the headline number, a key of the metrics that the format's scorer returns
    version    part of every run's identity: bump it whenever `example()` changes
    labels     class names in head order; empty: taken from the train rows (CCG's supertags)
    train      rows to train on, one entry a source. `ordered`: each source is a stage, trained one
               after the other; then `example()` gives "stage", the source's number from 0 on
    train_in   language → where train rows in it lie, for `train.languages`; English among them, in
               the form that the others have. Empty: the task has English train rows alone
    genres     genre → the text in the column `Rows.genre` of its train and select rows (`a*`: its
               beginning), for `train.genres`. Empty: nothing tells the rows' genres
    select     rows that choose the checkpoint (English); empty: a slice of train (see
               `adapters_xtl.data.splits`)
    select_xtreme  what the benchmark's own scripts select on, for protocol "xtreme"
    report     split name ("validation", "test") → rows that are scored, per language; the first is
               the default
    languages  language set → ISO codes; "xtreme" and "xtreme-r" are the benchmarks' own lists
    codes      ISO code → the source's name of the language, where it differs
    train_from the task whose run is evaluated, for a task that trains nothing of its own
    in_domain_task  the task that reports rows of the domain which this training is from, with the
               same labels: each report split of this one is then another domain, under its name
               (study `shift`). The task itself where its first report split has those rows
    same_domain  those among its `domains` whose rows are of the training's own domain all the
               same: a new sample of it, which counts in no mean over domains
    zero_shot  the target that poses the same question, with the same labels, in other languages: a
               module of this task can be scored on it as it is
    samples    the task whose embedded train and select rows serve this one too
    members    the tasks that are trained together: then this one has no rows of its own
    drop       tasks that borrow this one's training: their English report rows never choose its
               checkpoint (protocol "clean"), as its own report rows do not
    scorer     a file of `adapters_xtl/metrics/`: the rule by which predictions are scored
    group      XTREME's group: classification, structured, qa, retrieval (targets only)
    published  hyper-parameters of the literature, each with its source: provenance, not defaults
    recipe     the task whose recipe file serves this one too
    own        the description that it was made of: a task on somebody's own files
    """

    kind: str
    format: str
    metric: str
    scorer: str
    title: str
    version: int = 1
    labels: tuple[str, ...] = ()
    train: tuple[Rows, ...] = ()
    ordered: bool = False
    train_in: Mapping[str, LanguageRows] = field(default_factory=dict)
    genres: Mapping[str, str] = field(default_factory=dict)
    select: tuple[Rows, ...] = ()
    select_xtreme: tuple[Rows, ...] = ()
    report: Mapping[str, tuple[Rows, ...]] = field(default_factory=dict)
    languages: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: {"all": ("en",)})
    codes: Mapping[str, str] = field(default_factory=dict)
    train_from: str = ""
    in_domain_task: str = ""
    same_domain: tuple[str, ...] = ()
    zero_shot: str = ""
    samples: str = ""
    members: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    group: str = ""
    licence: str = ""
    notes: tuple[str, ...] = ()
    published: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    recipe: str = ""
    own: OwnRows | None = None
    name: str = ""
    example: Callable[[Row], dict[str, Any]] = dict

    @property
    def trainable(self) -> bool:
        """Whether it has a training of its own: train rows, or members that have some."""
        return bool(self.train or self.members)

    @property
    def domains(self) -> tuple[str, ...]:
        """The report splits with rows of other domains than the training's; () for most tasks."""
        splits = tuple(self.report) if self.in_domain_task else ()
        return splits[1:] if self.in_domain_task == self.name else splits

    def of_genres(self, names: tuple[str, ...]) -> Task:
        """The task whose train and select rows are those of some of its genres; the task itself
        where none is named.
        """
        if not names:
            return self
        texts = tuple(self.genres[name] for name in names)
        return replace(
            self,
            train=tuple(rows.of_genres(texts) for rows in self.train),
            select=tuple(rows.of_genres(texts) for rows in self.select),
            select_xtreme=tuple(rows.of_genres(texts) for rows in self.select_xtreme),
        )

    def reports(self, split: str) -> bool:
        """Whether `split` is a report split, one half of it ("validation-without-shots"), or names
        several domains: "email+reviews".
        """
        if split.endswith(WITHOUT_SHOTS):
            return split.removesuffix(WITHOUT_SHOTS) in self.report and not self.in_domain_task
        parts = split.split(TOGETHER)
        if len(parts) > 1 and not (self.in_domain_task and len(set(parts)) == len(parts)):
            return False
        return all(part in self.report for part in parts)

    def report_rows(self, split: str) -> tuple[Rows, ...]:
        """The rows of a report split, or of what else `reports` takes."""
        if split.endswith(WITHOUT_SHOTS):
            whole = self.report[split.removesuffix(WITHOUT_SHOTS)]
            return tuple(rows.of_half(REST) for rows in whole)
        return tuple(rows for part in split.split(TOGETHER) for rows in self.report[part])

    def sample_tag(self, split: str) -> str:
        """What tells the rows of a report split in the task's sample file: `split` where each is a
        domain; elsewhere a sample file has one split that is scored.
        """
        if self.in_domain_task:
            return split
        return "report" if self.kind == "target" else "select"

    def code(self, language: str) -> str:
        """The source's name of a language."""
        return self.codes.get(language, language)

    @property
    def all_languages(self) -> tuple[str, ...]:
        """Every language of every set, in the order of first mention."""
        return tuple(dict.fromkeys(code for codes in self.languages.values() for code in codes))


def names() -> tuple[str, ...]:
    """Names of all tasks, sorted."""
    return public_files(*__path__)


_described: dict[str, Task] = {}  # tasks that were made of a description, by name


def add(task: Task) -> None:
    """Makes a task known that has no file here. Its name must belong to it alone."""
    _described[task.name] = task


def exists(name: str) -> bool:
    """Whether there is a task `name`: a file's, or one whose description was read."""
    return name in _described or name in names()


def load(name: str) -> Task:
    """The task `name`. RequestError, with the nearest name, when there is none."""
    return _described[name] if name in _described else _load(name)


@cache
def _load(name: str) -> Task:
    if name not in names():
        raise RequestError(f"unknown task '{name}'{nearest(name, names())}")
    module = importlib.import_module(f"{__name__}.{name}")
    task: Task = module.TASK
    return replace(task, name=name, example=getattr(module, "example", dict))
