"""The HTML page: studies and runs in one file that needs no network and no other file.

Jinja2 fills the templates and escapes every text; figures are SVG elements in the file. Sorting and
the browser of predictions are the page's own script, and tables and figures are there without it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from adapters_xtl.base.errors import RequestError
from adapters_xtl.base.files import atomic_write, explain_denied, explained_os_errors
from adapters_xtl.pages import page_predictions, page_run_cards, page_runs, page_study
from adapters_xtl.pages.page_parts import Page, Part, Section, Text
from adapters_xtl.pages.page_record import StudyRecord, read_study
from adapters_xtl.pages.page_tables import cost_table
from adapters_xtl.runs.store import Store, is_study
from adapters_xtl.runs.stored_runs import StoredRun, list_runs, read_run

__all__ = [
    "PAGE",
    "Contents",
    "check_place",
    "of_store",
    "of_studies",
    "render",
    "store_of",
    "studies_in",
    "write",
]

PAGE = "page.html"
MOST_BYTES = 14_000_000
_STUDIES = ("studies", "compare")  # folders of a store in which studies lie
_RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[0-9a-f]{12}")


@dataclass(frozen=True)
class Contents:
    """What a page shows: studies, the runs that can be read, and those that cannot, with why.

    missing  names of runs, `task/id`, that a study's record has and the store has not
    """

    store: Store
    studies: tuple[StudyRecord, ...] = ()
    runs: tuple[StoredRun, ...] = ()
    damaged: Mapping[Path, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()


def of_store(store: Store) -> Contents:
    """Every run of a store. RequestError where there is none."""
    runs, damaged = list_runs(store)
    studies = studies_in(store)
    if not runs and not damaged and studies:
        raise RequestError(
            f"{store.root}: no runs here, but a study: xtl page {store.root / studies[0]}"
        )
    if not runs and not damaged:
        raise RequestError(
            f"{store.root}: no runs and no study here; `xtl recipe` makes runs, and --runs names"
            " their directory"
        )
    ordered = sorted(runs, key=lambda run: (run.spec.task, run.spec.stack, run.spec.id))
    return Contents(store, runs=tuple(ordered), damaged=damaged)


def studies_in(store: Store) -> list[str]:
    """The directories of studies that lie in a store, relative to it."""
    return sorted(
        path.relative_to(store.root).as_posix()
        for folder in _STUDIES
        for path in (store.root / folder).glob("*")
        if is_study(path)
    )


def store_of(study: Path, record: StudyRecord, runs: str | None) -> Store:
    """The store of a study's runs: the one named, else that in which the study's directory lies,
    else `runs`; the first of them that has any run of the record.
    """
    folder = (study if study.is_dir() else study.parent).absolute()
    places = [Path(runs)] if runs is not None else []
    places += [folder.parent.parent] if folder.parent.name in _STUDIES else []
    places = places or [Path("runs")]
    names = [name for name in page_study.run_names(record) if _RUN_NAME.fullmatch(name)]
    return Store(
        next(
            (place for place in places if any((place / name).is_dir() for name in names)), places[0]
        )
    )


def of_studies(studies: Sequence[Path], runs: str | None) -> Contents:
    """The studies, and those of their runs that the store has, with the parents of those.

    RequestError or MismatchError where a study's record cannot be read.
    """
    records = [read_study(path) for path in studies]
    readable: dict[str, StoredRun] = {}
    damaged: dict[Path, str] = {}
    missing: list[str] = []
    stores = [store_of(path, record, runs) for path, record in zip(studies, records, strict=True)]
    for record, store in zip(records, stores, strict=True):
        waiting = page_study.run_names(record)
        while waiting:
            name = waiting.pop(0)
            task, _, run_id = name.partition("/")
            if name in readable or name in missing or store.path(task, run_id) in damaged:
                continue
            if not _RUN_NAME.fullmatch(name) or not store.path(task, run_id).is_dir():
                missing.append(name)
                continue
            try:
                run = readable[name] = read_run(store.path(task, run_id))
            except RequestError as error:
                damaged[store.path(task, run_id)] = str(error)
                continue
            waiting += [f"{parent.task}/{parent.id}" for parent in run.spec.parents]
    return Contents(stores[0], tuple(records), tuple(readable.values()), damaged, tuple(missing))


# ---------------------------------------------------------------------------- the page


def render(contents: Contents) -> str:
    """The page as HTML. Predictions take the room that the rest leaves below MOST_BYTES."""
    page = _page(contents)
    html = _html(page)
    names = page_run_cards.names_of(contents.runs)
    named = [(names[run.spec.id], run) for run in _by_seed(contents.runs)]
    predictions = page_predictions.gather(named, max(0, MOST_BYTES - len(html.encode())))
    if not predictions.text and not predictions.left_out:
        return html
    return _html(
        replace(page, predictions=predictions.text, predictions_notes=predictions.left_out)
    )


def _by_seed(runs: Sequence[StoredRun]) -> list[StoredRun]:
    """The runs with the lowest seed first, so that every setting is there where there is room for
    some runs only; the bare backbone last.
    """
    return sorted(
        runs, key=lambda run: (run.spec.run is None, run.spec.run.seed if run.spec.run else 0)
    )


def _page(contents: Contents) -> Page:
    sections: list[Section] = []
    if len(contents.studies) == 1:
        sections += page_study.study_sections(contents.studies[0], "study")
        title = page_study.title_of(contents.studies[0])
        overline = contents.studies[0].study or contents.studies[0].kind or "study"
    elif contents.studies:
        title, overline = f"{len(contents.studies)} studies", "studies"
        for number, record in enumerate(contents.studies, start=1):
            prefix = f"study{number}"
            name = record.study or record.title or prefix
            sections.append(Section(prefix, page_study.title_of(record), (), short=name))
            sections += [
                replace(section, level=3) for section in page_study.study_sections(record, prefix)
            ]
    else:
        title, overline = "Runs", "store"
        studies = studies_in(contents.store)
        parts: list[Part] = [page_runs.overview(contents.runs, len(contents.damaged), studies)]
        sections.append(Section("overview", "Overview", tuple(parts)))
        sections += page_runs.store_sections(contents.runs)
    sections += _run_sections(contents)
    return Page(
        title=title,
        overline=overline,
        sections=tuple(sections),
        made_by=f"adapters_xtl {_version()}",
    )


def _run_sections(contents: Contents) -> list[Section]:
    """What is made from the runs themselves, whether a study names them or the store lists them."""
    sections = []
    curves, unreadable = page_runs.learning_section(contents.runs, prefix="runs")
    if curves:
        sections.append(Section("learning", "Learning curves", tuple(curves), short="Learning"))
    costs = (
        None if contents.studies else cost_table(page_runs.cost(contents.runs), name="cost-table")
    )
    if costs is not None:
        sections.append(Section("cost", "Cost", (costs,)))
    failed = None if contents.studies else page_runs.failed_runs(contents.store)
    if failed is not None:
        sections.append(Section("failed", "Failed runs", (failed,), short="Failed"))
    damaged = page_runs.damaged_section(contents.damaged, contents.store.root)
    if damaged is not None:
        sections.append(damaged)
    cards: list[Part] = list(page_run_cards.cards(contents.runs))
    remarks = list(unreadable)
    if contents.missing:
        several = len(contents.missing) > 1
        remarks.append(
            f"{len(contents.missing)} {'runs' if several else 'run'} of the record"
            f" {'are' if several else 'is'} not in the store, so curves, provenance and predictions"
            f" are not here: {', '.join(contents.missing[:20])}"
            + ("…" if len(contents.missing) > 20 else "")
        )
    if remarks:
        cards.insert(0, Text(tuple(remarks), tone="note"))
    if cards:
        sections.append(
            Section("runs", "Runs and how to make them again", tuple(cards), short="Runs")
        )
    return sections


def _version() -> str:
    try:
        return version("adapters-xtl")
    except PackageNotFoundError:
        return ""


def _html(page: Page) -> str:
    environment = Environment(
        loader=PackageLoader("adapters_xtl.pages"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html").render(page=page) + "\n"


def check_place(path: Path) -> None:
    """RequestError where no page can be written to `path`: before the page is made."""
    if path.is_dir():
        raise RequestError(f"-o {path}: a directory; name a file, e.g. {path / PAGE}")
    if not path.parent.is_dir():
        raise RequestError(f"-o {path}: there is no directory {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise RequestError(f"-o {path}: {explain_denied(path.parent)}")


def write(html: str, path: Path) -> None:
    """Writes the page, whole or not at all."""
    with explained_os_errors(path):
        atomic_write(path, html)
