"""Where rows come from: the package's samples, a mirror directory, or the hub at a recorded
revision.

All three answer the same question, "which files hold these rows, and what are their sha256?",
without reading a row. A mirror is a directory of plain hub snapshots, `<root>/<namespace>/<name>/…`
(see `adapters_xtl.data.repository`).
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from adapters_xtl.base import hub
from adapters_xtl.base.errors import RequestError, RunError, nearest
from adapters_xtl.base.files import atomic_write, explained_os_errors, file_digest, local
from adapters_xtl.base.untrusted import printable
from adapters_xtl.data.own_files import OwnFiles
from adapters_xtl.data.repository import (
    DataFile,
    MissingRows,
    Repository,
    is_data,
    local_repository,
)
from adapters_xtl.tasks import Rows, Task

__all__ = [
    "Embedded",
    "Hub",
    "Mirror",
    "Source",
    "Repositories",
    "open_source",
    "samples_dir",
]

CONVERTED = "refs/convert/parquet"  # where the hub keeps the rows of a script data set
ADVICE = "--data embedded or --data DIR need no network"
# how a data set is asked for
ASKING: Any = {"kind": "dataset", "advice": ADVICE, "unreachable": RequestError}


class Repositories(ABC):
    """Data sets by their names on the hub: which files hold which rows."""

    @abstractmethod
    def repository(self, repo: str) -> Repository:
        """The files of data set `repo`; MissingRows when the source lacks it."""

    def files(self, rows: Rows, code: str = "") -> tuple[Rows, dict[str, list[DataFile]]]:
        """The form of `rows` that this source has, and its files by split name (or by part).

        Tries `rows` itself, then the forms in `rows.instead`; MissingRows names all of them.
        `code`: the source's name of the language that `{code}` stands for.
        """
        complaints: list[MissingRows] = []
        for template in (rows, *rows.instead):
            form = template.named(code)
            try:
                repository = self.repository(form.repo)
                language_config = "{code}" in template.config
                paths_by_part = {
                    part: repository.split_paths(form.config, part, language_config=language_config)
                    for part in form.parts or [form.split]
                }
            except MissingRows as error:
                complaints.append(error)
                continue
            classes = repository.class_names(form.config)
            return form, {
                part: [_data_file(repository, path, classes) for path in paths]
                for part, paths in paths_by_part.items()
            }
        others = f" (nor {'; '.join(map(str, complaints[1:]))})" if complaints[1:] else ""
        raise MissingRows(
            f"{complaints[0]}{others}",
            lacks_data_set=all(complaint.lacks_data_set for complaint in complaints),
        )

    def revisions(self) -> dict[str, str]:
        """Data set → revision, for what was opened."""
        return {}

    def notes(self) -> list[str]:
        """What is unusual about the revisions that were opened, a line each."""
        return []


def _data_file(
    repository: Repository, path: str, classes: Mapping[str, tuple[str, ...]]
) -> DataFile:
    return DataFile(
        f"{repository.where}/{printable(path, 300)}",
        repository.digest(path),
        lambda: repository.fetch(path),
        classes,
    )


class Mirror(Repositories):
    """A directory of plain hub snapshots, as `hf download --repo-type dataset … --local-dir …`
    leaves them.
    """

    kind = "mirror"

    def __init__(self, root: Path) -> None:
        self.root = root
        self._known: dict[str, Repository] = {}

    def repository(self, repo: str) -> Repository:
        if repo not in self._known:
            self._known[repo] = self._open(repo)
        return self._known[repo]

    def _open(self, repo: str) -> Repository:
        folder = self.root / repo
        if not folder.is_dir():
            raise MissingRows(
                f"{self.root}: no data set '{repo}'{nearest(repo, self._repos())}",
                lacks_data_set=True,
            )
        return local_repository(repo, folder, revision="")

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
        self._known: dict[str, Repository] = {}
        self._absent: dict[str, MissingRows] = {}  # asked for once, not once a language
        self._notes: list[str] = []

    def notes(self) -> list[str]:
        return list(self._notes)

    def revisions(self) -> dict[str, str]:
        return {repo: snapshot.revision for repo, snapshot in self._known.items()}

    def repository(self, repo: str) -> Repository:
        if repo.startswith("original/"):
            raise MissingRows(
                f"the hub: '{repo.removeprefix('original/')}' has no usable form there; give a"
                f" directory with --data DIR that holds {repo}/ (see `xtl data import`)"
                + (
                    ": the hub's google/xtreme bucc18.* are gold pairs without distractors"
                    if "bucc" in repo
                    else ""
                ),
                lacks_data_set=True,
            )
        if repo in self._absent:
            raise MissingRows(str(self._absent[repo]), lacks_data_set=True)
        if repo not in self._known:
            try:
                self._known[repo] = self._open(repo)
            except MissingRows as error:
                self._absent[repo] = error
                raise
        return self._known[repo]

    def _open(self, repo: str) -> Repository:
        from huggingface_hub import constants, hf_hub_download

        if hub.offline():
            return self._cached(repo, Path(constants.HF_HUB_CACHE))
        with _missing_said(repo):
            reference = "main"
            listing = _listing(repo, reference)
            if not _has_rows(listing.files, repo):
                reference = CONVERTED
                listing = _listing(repo, reference)

        def fetch(path: str) -> Path:
            with (
                _missing_said(repo),
                hub.hub_errors(repo, "fetching rows of", **ASKING),
                explained_os_errors(Path("the hub's cache (HF_HOME)")),
            ):
                fetched = hf_hub_download(repo, path, repo_type="dataset", revision=listing.commit)
            _remember_reference(repo, reference, listing.commit)
            return Path(fetched)

        def sha256(path: str) -> str:
            return listing.files[path].sha256 or file_digest(fetch(path), remember=True)

        where = f"hub:{repo}@{listing.commit[:12]}"
        return Repository(repo, listing.commit, tuple(sorted(listing.files)), where, sha256, fetch)

    def _cached(self, repo: str, cache: Path) -> Repository:
        """The data set's revision in the client's own cache: `main` as the client last saw it, its
        conversion to parquet where `main` holds no rows, and only then the newest other revision.
        """
        from huggingface_hub.file_download import repo_folder_name

        storage = cache / repo_folder_name(repo_id=repo, repo_type="dataset")
        folders = {path.name: path for path in (storage / "snapshots").glob("*") if path.is_dir()}
        if not folders:
            raise MissingRows(
                f"the hub: HF_HUB_OFFLINE is set and '{repo}' is not in the cache; unset it or give"
                " --data DIR",
                lacks_data_set=True,
            )
        named = [_reference(storage, name) for name in ("main", CONVERTED)]
        newest = sorted(folders, key=lambda name: -folders[name].stat().st_mtime_ns)
        revisions = dict.fromkeys(name for name in (*named, *newest) if name in folders)
        repositories = [
            local_repository(
                repo,
                folders[revision],
                revision,
                f"hub cache (offline{'' if revision in named else ', not main'}):"
                f"{repo}@{revision[:12]}",
            )
            for revision in revisions
        ]
        chosen = next(
            (repository for repository in repositories if _has_rows(repository.paths, repo)),
            repositories[0],
        )
        if chosen.revision not in named:
            self._notes.append(
                f"the hub's cache has no rows of '{repo}' at main: revision"
                f" {chosen.revision[:12]} is read, the newest there"
            )
        return chosen

    def __str__(self) -> str:
        return "hub (offline: its cache)" if hub.offline() else self.kind


def _remember_reference(repo: str, name: str, commit: str) -> None:
    """Writes into the client's cache which commit a reference named when its files were fetched.

    The client does so itself for files that are asked for by reference; ours are asked for by
    commit, and offline the reference alone tells which commit to read.
    """
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    storage = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type="dataset")
    if _reference(storage, name) != commit:
        with contextlib.suppress(OSError, RunError):  # a cache that is only read serves as well
            atomic_write(storage / "refs" / name, commit)


def _reference(storage: Path, name: str) -> str:
    """The commit that a reference of a cached repository names; "" when the cache has no such
    reference.
    """
    try:
        return (storage / "refs" / name).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def _has_rows(paths: Iterable[str], repo: str) -> bool:
    """Whether a revision with these files holds rows, and not a script that would fetch them."""
    listed = set(paths)
    script = f"{repo.rsplit('/', 1)[-1]}.py" in listed and not any(
        path.endswith(".parquet") for path in listed
    )
    return not script and any(map(is_data, listed))


def _listing(repo: str, reference: str) -> hub.HubListing:
    return hub.listing(repo, reference, **ASKING)


@contextlib.contextmanager
def _missing_said(repo: str) -> Iterator[None]:
    """A data set that the hub does not have, or does not show, as MissingRows."""
    try:
        yield
    except hub.NotOnHub as error:
        text = str(error)
        if error.reason == "revision":
            text = f"the hub: '{repo}' is a script without a parquet form ({CONVERTED}); {ADVICE}"
        raise MissingRows(text, lacks_data_set=True) from error


class Embedded:
    """The sample rows that ship in the package: one JSONL file a task, rows tagged with split and
    language.
    """

    kind = "embedded"

    def revisions(self) -> dict[str, str]:
        return {}  # the package's version stands for it

    def notes(self) -> list[str]:
        return []

    def __str__(self) -> str:
        return self.kind

    def file(self, task: Task) -> DataFile:
        path = samples_dir() / f"{task.name}.jsonl"
        if not path.is_file():
            raise MissingRows(
                f"task '{task.name}' has no embedded rows; give --data hub or --data DIR"
            )
        return DataFile(path.name, file_digest(path, remember=True), lambda: path)

    def shots_file(self, task: Task) -> DataFile:
        """The rows in other languages that shots are drawn from."""
        path = samples_dir() / "shots" / f"{task.name}.jsonl"
        if not path.is_file():
            raise MissingRows(f"task '{task.name}' has no embedded rows to draw shots from")
        name = f"shots/{path.name}"
        return DataFile(name, file_digest(path, remember=True), lambda: path)

    def language_file(self, task: Task) -> DataFile:
        """The file with a task's train rows in several languages; its English ones are others than
        those of `file`.
        """
        path = samples_dir() / "in_languages" / f"{task.samples or task.name}.jsonl"
        if not path.is_file():
            held = sorted(other.stem for other in path.parent.glob("*.jsonl"))
            raise MissingRows(
                f"task '{task.name}' has no embedded train rows in chosen languages (only"
                f" {', '.join(held)}); give --data hub or --data DIR"
            )
        return DataFile(
            f"{path.parent.name}/{path.name}", file_digest(path, remember=True), lambda: path
        )


Source = Embedded | Mirror | Hub | OwnFiles


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
    if not name.strip():
        raise RequestError("--data '': takes embedded, hub or a directory")
    root = local(name)
    if not root.exists():
        raise RequestError(
            f"--data {printable(name)}: no such directory{nearest(name, ('embedded', 'hub'))}"
        )
    if not root.is_dir():
        raise RequestError(
            f"--data {printable(name)}: a file, not a directory of data sets"
            " (DIR/<namespace>/<name>/<files>)"
        )
    return Mirror(root)
