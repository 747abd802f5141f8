"""The licence of a module's weights: it follows from the backbone, the rows and the parents.

Whether weights are an adaptation of what they were trained on is not settled law. The careful
reading is taken: the terms of every source hold for the module, and its licence is the most
restrictive of theirs, where one licence can hold them all. Restrictions lie on two axes, which are
not one order:

| licence                                          | share-alike | non-commercial |
|--------------------------------------------------|-------------|----------------|
| cc0-1.0 < mit < bsd-2-clause < bsd-3-clause <    |             |                |
| apache-2.0 < cc-by-3.0 < cc-by-4.0               | no          | no             |
| cc-by-sa-3.0 < cc-by-sa-4.0                      | yes         | no             |
| cc-by-nc-3.0 < cc-by-nc-4.0                      | no          | yes            |
| cc-by-nc-sa-3.0 < cc-by-nc-sa-4.0                | yes         | yes            |

Sources: the licences' own texts, and Creative Commons' compatibility chart
(https://wiki.creativecommons.org/wiki/Wiki/cc_license_compatibility): what is licensed BY may go
into a work of any of the others, what is BY-NC into one that is BY-NC or BY-NC-SA; BY-SA and
BY-NC-SA only into their own kind, of the same or a later version. So BY-SA with anything
non-commercial has no common licence. Within a line the order is that of the obligations: none,
a notice, a notice of changes and patents (Apache-2.0), attribution as Creative Commons has it.

Where a source's licence is not known, or two exclude each other, the licence is "other", with the
reasons: never a permissive one because nothing was known.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from adapters_xtl import tasks
from adapters_xtl.backbones.registry import NAMED
from adapters_xtl.runs.records import ParentRecord
from adapters_xtl.runs.stored_runs import StoredModule, StoredRun, is_run, read_run
from adapters_xtl.sharing import bundle
from adapters_xtl.sharing.mirror_rows import data_set_of

__all__ = ["OTHER", "Source", "combined", "sources_of"]

ParentOf = Callable[[StoredModule, ParentRecord], StoredModule | None]
OTHER = "other"
# (share-alike, non-commercial) → the hub's names, the least restrictive first
ORDER: dict[tuple[bool, bool], tuple[str, ...]] = {
    (False, False): (
        *("cc0-1.0", "mit", "bsd-2-clause", "bsd-3-clause", "apache-2.0"),
        *("cc-by-3.0", "cc-by-4.0"),
    ),
    (True, False): ("cc-by-sa-3.0", "cc-by-sa-4.0"),
    (False, True): ("cc-by-nc-3.0", "cc-by-nc-4.0"),
    (True, True): ("cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0"),
}
_AXES = {name: axes for axes, names in ORDER.items() for name in names}
# of the backbones' repositories on the hub, as their cards state
BACKBONES = {
    "FacebookAI/xlm-roberta-base": "mit",
    "FacebookAI/xlm-roberta-large": "mit",
    "FacebookAI/roberta-base": "mit",
    "FacebookAI/roberta-large": "mit",
    "google-bert/bert-base-cased": "apache-2.0",
    "google-bert/bert-base-uncased": "apache-2.0",
    "google-bert/bert-base-multilingual-cased": "apache-2.0",
    "intfloat/multilingual-e5-small": "mit",
}
OWN_SAMPLES = "apache-2.0"  # the rows that ship in this package


@dataclass(frozen=True)
class Source:
    """What a module is made from, and its licence.

    what     "backbone xlmr-large", "rows of squad1", "parent mnli"
    stated   as its owner states it
    licence  by the hub's name; "" where it is none that is known here
    """

    what: str
    stated: str
    licence: str

    def __str__(self) -> str:
        return f"{self.what}: {self.stated}"


def hub_name(stated: str) -> str:
    """The hub's name of a licence that is stated in words ("CC BY-SA 4.0"); "" for several, for
    terms in words, and for one that is not known here.
    """
    name = re.sub(r"[\s-]+", "-", stated.strip().lower())
    name = {"bsd-2": "bsd-2-clause", "bsd-3": "bsd-3-clause"}.get(name, name)
    return name if name in _AXES else ""


def combined(sources: Sequence[Source]) -> tuple[str, tuple[str, ...]]:
    """(the licence that the sources come to, why it is "other"; no reasons where it is not)."""
    reasons = [
        f"{source}, which is no single licence known here"
        for source in sources
        if not source.licence
    ]
    if not sources:
        reasons.append("nothing is known of what it was made from")
    licensed = [source for source in sources if source.licence]
    share_alike = [source for source in licensed if _AXES[source.licence][0]]
    non_commercial = [source for source in licensed if _AXES[source.licence][1]]
    for kept in share_alike:
        for limited in non_commercial:
            if not _AXES[kept.licence][1]:
                reasons.append(
                    f"{kept} asks for the same terms without others, {limited} forbids commercial"
                    " use: no licence holds both"
                )
    if reasons:
        return OTHER, tuple(dict.fromkeys(reasons))
    order = ORDER[bool(share_alike), bool(non_commercial)]
    licences = [source.licence for source in licensed if source.licence in order]
    # BY-NC beside BY-NC-SA: the latter is among them, so `licences` is never empty
    return max(licences, key=order.index), ()


def sources_of(run: StoredRun, parent_of: ParentOf) -> list[Source]:
    """What the module of a run is made from: its backbone, the rows that it read, its parents.

    `parent_of(module, record)`: the parent that a module's record names, or None.
    """
    return _distinct([_backbone(run), *_rows(run), *_parents(run.module, parent_of)])


def _distinct(sources: Iterable[Source]) -> list[Source]:
    return list(dict.fromkeys(sources))


def _backbone(run: StoredRun) -> Source:
    record = run.spec.backbone
    named = NAMED.get(record.name)
    what = f"backbone {record.name.rstrip('/').rpartition('/')[2] or record.name}"
    if named is not None and named.source == "random":
        return Source(what, "random weights of this package, Apache-2.0", "apache-2.0")
    if named is not None and named.source == "embedded":
        return Source(what, "MIT (multilingual-e5-small)", "mit")
    licence = BACKBONES.get(record.location, "")
    return Source(what, licence or "its licence is not known here", licence)


def _rows(run: StoredRun) -> list[Source]:
    data = run.provenance.data
    if data.source == "foreign":
        return [Source("its training", "not on record", "")]
    sources = []
    for name, count in data.train.items():
        what = f"rows of {name}"
        if data.source == "embedded":
            sources.append(Source("sample rows of this package", "Apache-2.0", OWN_SAMPLES))
        elif data.source == "hub" and tasks.exists(name):
            sources += _task_rows(name)
            sources += _translations(name, run.module.run.hyper.languages)
        else:
            kind = "own rows" if data.source == "files" else f"a {data.source}'s rows"
            forms = ", ".join(dict.fromkeys(map(data_set_of, count.forms)))
            under = "" if data.source == "files" else f" in the columns of {forms}"
            sources.append(Source(what, f"{kind}{under}, of no stated licence", ""))
    return sources


def _task_rows(name: str) -> list[Source]:
    """The licences of a task's rows, and of those of the task whose train rows it uses."""
    task = tasks.load(name)
    lenders = [task, *([tasks.load(task.samples)] if task.samples else [])]
    return [
        Source(f"rows of {lender.name}", lender.licence or "not stated", hub_name(lender.licence))
        for lender in lenders
    ]


def _translations(name: str, languages: Sequence[str]) -> list[Source]:
    """The licences of a task's train rows in other languages, where they are others."""
    declared = {code: tasks.load(name).train_in.get(code) for code in languages}
    return [
        Source(f"rows of {name} in {code}", rows.licence, hub_name(rows.licence))
        for code, rows in declared.items()
        if rows is not None and rows.licence
    ]


def _parents(child: StoredModule, parent_of: ParentOf) -> list[Source]:
    sources = []
    for record in child.parents:
        what = f"parent {record.task}"
        parent = parent_of(child, record)
        if parent is None:
            sources.append(Source(what, "not on this machine, so its licence is not known", ""))
        elif is_run(parent.path):
            licence, reasons = combined(sources_of(read_run(parent.path), parent_of))
            known_licence = "" if licence == OTHER else licence
            sources.append(
                Source(what, known_licence or f"other ({'; '.join(reasons)})", known_licence)
            )
        else:
            licence = bundle.read(parent.path).record.licence
            known_licence = licence if licence in _AXES else ""
            sources.append(Source(what, f"{licence}, as its bundle says", known_licence))
    return sources
