"""Where rows come from: the package's samples, a mirror directory, or the hub at a recorded
revision.

All three answer the same question, "which files hold these rows, and what are their sha256?",
without reading a row. A mirror is a directory of plain hub snapshots, `<root>/<namespace>/<name>/…`
(see `adapters_xtl.data.repository`).
"""

from __future__ import annotations

import contextlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from adapters_xtl.base.errors import DataError, Problems, RequestError, nearest
from adapters_xtl.base.files import file_digest, local, say_disk_full
from adapters_xtl.data.repository import File, Missing, Snapshot, is_data, local_snapshot
from adapters_xtl.tasks import Rows, Task

__all__ = [
    "Embedded",
    "Hub",
    "Located",
    "Mirror",
    "Source",
    "Training",
    "locate",
    "locate_report",
    "locate_training",
    "open_source",
    "sample_languages",
    "samples_dir",
]

CONVERTED = "refs/convert/parquet"  # where the hub keeps the rows of a script data set


class Repositories(ABC):
    """Data sets by their names on the hub: which files hold which rows."""

    @abstractmethod
    def snapshot(self, repo: str) -> Snapshot:
        """The files of data set `repo`; Missing when the source lacks it."""

    def files(self, rows: Rows, code: str = "") -> tuple[Rows, dict[str, list[File]]]:
        """The form of `rows` that this source has, and its files by split name (or by part).

        Tries `rows` itself, then the forms in `rows.instead`; Missing names what was looked for.
        `code`: the source's name of the language that `{code}` stands for.
        """
        complaints: list[Missing] = []
        for template in (rows, *rows.instead):
            form = template.named(code)
            try:
                snapshot = self.snapshot(form.repo)
                own = "{code}" in template.config
                named = {
                    part: snapshot.select(form.config, part, own=own)
                    for part in form.parts or [form.split]
                }
            except Missing as error:
                complaints.append(error)
                continue
            classes = snapshot.classes(form.config)
            return form, {
                part: [self._file(snapshot, path, classes) for path in paths]
                for part, paths in named.items()
            }
        others = f" (nor {'; '.join(map(str, complaints[1:]))})" if complaints[1:] else ""
        raise Missing(
            f"{complaints[0]}{others}", whole=all(complaint.whole for complaint in complaints)
        )

    def _file(self, snapshot: Snapshot, path: str, classes: Mapping[str, tuple[str, ...]]) -> File:
        return File(
            f"{snapshot.where}/{path}", snapshot.digest(path), lambda: snapshot.fetch(path), classes
        )

    def revisions(self) -> dict[str, str]:
        """Data set → revision, for what was opened."""
        return {}


class Mirror(Repositories):
    """A directory of plain hub snapshots, as `hf download --repo-type dataset … --local-dir …`
    leaves them.
    """

    kind = "mirror"

    def __init__(self, root: Path) -> None:
        self.root = root
        self._known: dict[str, Snapshot] = {}

    def snapshot(self, repo: str) -> Snapshot:
        if repo not in self._known:
            self._known[repo] = self._open(repo)
        return self._known[repo]

    def _open(self, repo: str) -> Snapshot:
        folder = self.root / repo
        if not folder.is_dir():
            raise Missing(
                f"{self.root}: no data set '{repo}'{nearest(repo, self._repos())}", whole=True
            )
        return local_snapshot(repo, folder, revision="")

    def _repos(self) -> list[str]:
        return [
            f"{path.parent.name}/{path.name}" for path in self.root.glob("*/*") if path.is_dir()
        ]

    def __str__(self) -> str:
        return str(self.root)


class Hub(Repositories):
    """The hub that `huggingface_hub` is set up for (HF_ENDPOINT, HF_HOME, HF_HUB_OFFLINE and tokens
    are its own).
    """

    kind = "hub"

    def __init__(self) -> None:
        self._known: dict[str, Snapshot] = {}
        self._absent: dict[str, Missing] = {}  # asked for once, not once a language

    def revisions(self) -> dict[str, str]:
        return {repo: snapshot.revision for repo, snapshot in self._known.items()}

    def snapshot(self, repo: str) -> Snapshot:
        if repo.startswith("original/"):
            raise Missing(
                f"the hub: '{repo.removeprefix('original/')}' has no usable form there; give a"
                f" directory with --data DIR that holds {repo}/ (see `xtl data import`)"
                + (
                    ": the hub's google/xtreme bucc18.* are gold pairs without distractors"
                    if "bucc" in repo
                    else ""
                ),
                whole=True,
            )
        if repo in self._absent:
            raise Missing(str(self._absent[repo]), whole=True)
        if repo not in self._known:
            try:
                self._known[repo] = self._open(repo)
            except Missing as error:
                self._absent[repo] = error
                raise
        return self._known[repo]

    def _open(self, repo: str) -> Snapshot:
        from huggingface_hub import HfApi, constants, hf_hub_download
        from huggingface_hub.hf_api import RepoFile

        if constants.HF_HUB_OFFLINE:
            return self._cached(repo, Path(constants.HF_HUB_CACHE))

        def listed(revision: str) -> tuple[str, dict[str, RepoFile]]:
            sha = api.dataset_info(repo, revision=revision).sha or revision
            tree = api.list_repo_tree(repo, recursive=True, revision=sha, repo_type="dataset")
            return sha, {item.path: item for item in tree if isinstance(item, RepoFile)}

        api = HfApi()
        with _asking(repo):
            revision, known = listed("main")
            script = f"{repo.rsplit('/', 1)[-1]}.py" in known and not any(
                path.endswith(".parquet") for path in known
            )
            if script or not any(map(is_data, known)):
                revision, known = listed(CONVERTED)

        def fetch(path: str) -> Path:
            with _asking(repo):
                return Path(hf_hub_download(repo, path, repo_type="dataset", revision=revision))

        def sha256(path: str) -> str:
            lfs = known[path].lfs
            return str(lfs.sha256) if lfs else file_digest(fetch(path), remember=True)

        return Snapshot(
            repo, revision, tuple(sorted(known)), f"hub:{repo}@{revision[:12]}", sha256, fetch
        )

    def _cached(self, repo: str, cache: Path) -> Snapshot:
        """The newest snapshot of the client's own cache."""
        found = list((cache / f"datasets--{repo.replace('/', '--')}" / "snapshots").glob("*"))
        if not found:
            raise Missing(
                f"the hub: HF_HUB_OFFLINE is set and '{repo}' is not in the cache; unset it or give"
                " --data DIR",
                whole=True,
            )
        snapshots = [
            local_snapshot(
                repo, folder, folder.name, f"hub cache (offline):{repo}@{folder.name[:12]}"
            )
            for folder in sorted(found, key=lambda path: -path.stat().st_mtime_ns)
        ]
        return next(
            (snapshot for snapshot in snapshots if any(map(is_data, snapshot.paths))), snapshots[0]
        )

    def __str__(self) -> str:
        from huggingface_hub import constants

        return "hub (offline: its cache)" if constants.HF_HUB_OFFLINE else self.kind


@contextlib.contextmanager
def _asking(repo: str) -> Iterator[None]:
    """The client's errors as ours, one line each: Missing where the hub lacks it, RequestError
    where it cannot be asked.
    """
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    local = "--data embedded or --data DIR need no network"
    try:
        with say_disk_full(Path("the hub's cache (HF_HOME)")):
            yield
    except GatedRepoError as error:
        raise Missing(
            f"the hub: '{repo}' is gated: accept its terms on its page and set HF_TOKEN", whole=True
        ) from error
    except RepositoryNotFoundError as error:
        raise Missing(
            f"the hub: no data set '{repo}', or no access to it (a private one needs HF_TOKEN)",
            whole=True,
        ) from error
    except RevisionNotFoundError as error:
        raise Missing(
            f"the hub: '{repo}' is a script without a parquet form ({CONVERTED}); {local}",
            whole=True,
        ) from error
    except OSError as error:  # all of the client's and of requests' errors are
        cause = error.__cause__ if isinstance(error, LocalEntryNotFoundError) else error
        if isinstance(cause, HfHubHTTPError) and cause.response is not None:
            said = f"it answered {cause.response.status_code} {cause.response.reason}".strip()
        else:
            said = (str(cause).strip() or type(cause).__name__).splitlines()[0]
            said = "connection refused" if "refused" in said else said[:200]
        raise RequestError(f"the hub could not be asked for '{repo}': {said}; {local}") from error


class Embedded:
    """The sample rows that ship in the package: one JSONL file a task, rows tagged with split and
    language.
    """

    kind = "embedded"

    def revisions(self) -> dict[str, str]:
        return {}  # the package's version stands for it

    def __str__(self) -> str:
        return self.kind

    def file(self, task: Task) -> File:
        path = samples_dir() / f"{task.name}.jsonl"
        if not path.is_file():
            raise Missing(f"task '{task.name}' has no embedded rows; give --data hub or --data DIR")
        return File(path.name, file_digest(path, remember=True), lambda: path)


Source = Embedded | Mirror | Hub


def samples_dir() -> Path:
    return Path(__file__).parent / "samples"


def open_source(name: str) -> Source:
    """`"embedded"`, `"hub"` or a directory → a source. RequestError when the directory is not
    there.
    """
    if name == "embedded":
        return Embedded()
    if name == "hub":
        return Hub()
    root = local(name)
    if not root.is_dir():
        raise RequestError(f"--data {name}: no such directory{nearest(name, ('embedded', 'hub'))}")
    return Mirror(root)


@dataclass(frozen=True)
class Located:
    """Files found for one set of rows: the form that the source has, and its files by split name or
    part.
    """

    rows: Rows
    files: Mapping[str, Sequence[File]]

    @property
    def digests(self) -> tuple[str, ...]:
        return tuple(file.sha256 for group in self.files.values() for file in group)


@dataclass(frozen=True)
class Training:
    """Files of one task's training. `select` empty: a slice of train. `drop`: rows whose ids must
    not select.
    """

    train: tuple[Located, ...]
    select: tuple[Located, ...]
    drop: tuple[tuple[str, Located], ...]

    def digests(self) -> dict[str, tuple[str, ...]]:
        found = {
            "train": self.train,
            "select": (*self.select, *(located for _, located in self.drop)),
        }
        return {
            name: tuple(sha for located in group for sha in located.digests)
            for name, group in found.items()
        }


def locate(source: Repositories, rows: Rows, code: str = "") -> Located:
    """Where `rows` lie, `{code}` standing for the language that the source calls `code`; Missing
    when nowhere.
    """
    return Located(*source.files(rows, code))


def locate_training(
    source: Source, task: Task, protocol: str, load: Callable[[str], Task]
) -> Training:
    """Where `task`'s train and select rows lie; Missing (all complaints, one a line) where the
    source lacks them.
    """
    if isinstance(source, Embedded):
        found = Located(
            Rows("embedded", task.name, "train", {}), {"train": [source.file(_sampled(task, load))]}
        )
        return Training((found,), (found,), ())
    problems: list[str] = []

    def all_of(wanted: Iterable[Rows]) -> tuple[Located, ...]:
        located = []
        for rows in wanted:
            try:
                located.append(locate(source, rows, english))
            except Missing as error:
                problems.append(str(error))
        return tuple(located)

    english = task.code("en")
    train = all_of(task.train)
    chosen = task.select_xtreme if protocol == "xtreme" and task.select_xtreme else task.select
    select = all_of(chosen)
    drop: list[tuple[str, Located]] = []
    for other in map(load, task.drop if protocol == "clean" else ()):
        for rows in next(iter(other.report.values())):
            try:
                drop.append((other.name, locate(source, rows, other.code("en"))))
            except Missing:  # what the source lacks cannot be reported from it either
                continue
    if problems:
        raise Missing("\n".join(dict.fromkeys(problems)))
    return Training(train, select, tuple(drop))


def _sampled(task: Task, load: Callable[[str], Task]) -> Task:
    return load(task.samples) if task.samples else task


def locate_report(
    source: Source,
    task: Task,
    split: str,
    languages: Iterable[str],
) -> tuple[dict[str, tuple[Located, ...]], dict[str, str]]:
    """Language → where its rows of report split `split` lie, and language → complaint where the
    source lacks it.

    A file that holds several languages counts as having them all: whether it does is known once it
    is read.
    """
    found: dict[str, tuple[Located, ...]] = {}
    lacking: dict[str, str] = {}
    problems = Problems()
    for language in languages:
        try:
            if isinstance(source, Embedded):
                file = source.file(task)
                if language not in sample_languages(
                    file.fetch(), "report" if task.kind == "target" else "select"
                ):
                    raise Missing(
                        f"the embedded rows of '{task.name}' have no language '{language}'"
                    )
                found[language] = (
                    Located(Rows("embedded", task.name, split, {}), {split: [file]}),
                )
            else:
                found[language] = tuple(
                    locate(source, rows, task.code(language)) for rows in task.report[split]
                )
        except Missing as error:
            lacking[language] = str(error)
        except DataError as error:
            problems.catch(error)
    problems.raise_if_any(DataError)
    return found, lacking


@lru_cache(maxsize=64)
def sample_languages(path: Path, split: str) -> frozenset[str]:
    """Languages of a sample file's rows of one split."""
    rows = (json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line)
    return frozenset(row["language"] for row in rows if row["split"] == split)
