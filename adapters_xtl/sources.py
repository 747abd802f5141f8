"""Where rows come from: the package's samples, a mirror directory, or the hub at a recorded revision.

All three answer the same question, "which files hold these rows, and what are their sha256?", without reading a row.
A mirror is a directory of plain hub snapshots, `<root>/<namespace>/<name>/…`; a snapshot's README `configs:` decide
which files a config has, else `<config>/<split>-*.parquet`, `<config>/<split>/*.parquet` (the hub's own conversion),
else `data/<split>-*.parquet`.
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from adapters_xtl.canon import file_digest
from adapters_xtl.errors import DataError, RequestError, nearest
from adapters_xtl.spec import Rows, Task

__all__ = ["Embedded", "File", "Hub", "Mirror", "Missing", "Snapshot", "Source", "open_source", "samples_dir"]

SUFFIXES = (".parquet", ".jsonl", ".json", ".csv", ".tsv")


class Missing(DataError):
    """The source does not have these rows."""


@dataclass(frozen=True)
class File:
    """One data file: what to call it, its sha256, and how to have it on this machine."""

    name: str
    sha256: str
    fetch: Callable[[], Path]


@dataclass(frozen=True)
class Snapshot:
    """The files of one data set at one revision. `digest` and `fetch` take a path inside it."""

    repo: str
    revision: str
    paths: tuple[str, ...]
    where: str
    digest: Callable[[str], str]
    fetch: Callable[[str], Path]

    def configs(self) -> dict[str, dict[str, list[str]]]:
        """`configs:` of the README's metadata block as {config: {split: [patterns]}}; {} when it has none."""
        return _readme_configs(self.fetch("README.md")) if "README.md" in self.paths else {}

    def select(self, rows: Rows, split: str) -> list[str]:
        """Paths that hold `split` of `rows.config`, sorted. Missing, with the nearest name, when there are none."""
        declared = self.configs()
        patterns = declared.get(rows.config, {}).get(split)
        if patterns is None and rows.config not in declared:
            tries = [f"{rows.config}/{split}-*", f"{rows.config}/{split}/*", f"{rows.config}/{split}.*"]
            if rows.config == "default" or not any(path.startswith(f"{rows.config}/") for path in self.paths):
                tries += [f"data/{split}-*", f"data/{split}.*", f"{split}-*", f"{split}.*"]
            for pattern in tries:
                found = [path for path in self.paths if _is_data(path) and fnmatch.fnmatchcase(path, pattern)]
                if found:
                    return sorted(found)
        elif patterns:
            found = [path for path in self.paths if any(_matches(path, pattern) for pattern in patterns)]
            if found:
                return sorted(found)
        raise Missing(f"{self.where}: no split '{split}' of config '{rows.config}'{self._hint(rows, split, declared)}")

    def _hint(self, rows: Rows, split: str, declared: Mapping[str, Mapping[str, Any]]) -> str:
        configs = set(declared) | {path.split("/")[0] for path in self.paths if "/" in path and _is_data(path)}
        if rows.config not in configs:
            return nearest(rows.config, configs)
        inside = [path.removeprefix(f"{rows.config}/") for path in self.paths if path.startswith(f"{rows.config}/")]
        splits = set(declared.get(rows.config, {})) | {path.split("-")[0].split("/")[0].split(".")[0] for path in inside}
        return nearest(split, splits)


def _is_data(path: str) -> bool:
    return path.endswith(SUFFIXES)


def _matches(path: str, pattern: str) -> bool:
    pattern = pattern.removeprefix("./")
    return fnmatch.fnmatchcase(path, pattern) or fnmatch.fnmatchcase(path, pattern.replace("**/", ""))


@lru_cache(maxsize=256)
def _readme_configs(readme: Path) -> dict[str, dict[str, list[str]]]:
    import yaml

    text = readme.read_text(encoding="utf-8", errors="replace")
    if not text.startswith("---"):
        return {}
    try:
        block = yaml.safe_load(text.split("\n---", 1)[0].removeprefix("---")) or {}
    except yaml.YAMLError as error:
        raise DataError(f"{readme}: its metadata block is no YAML: {str(error).splitlines()[0]}") from error
    configs: dict[str, dict[str, list[str]]] = {}
    for config in block.get("configs") or [] if isinstance(block, dict) else []:
        files = config.get("data_files")
        entries = files if isinstance(files, list) else [{"split": "train", "path": files}] if files else []
        splits: dict[str, list[str]] = {}
        for entry in entries:
            if isinstance(entry, str):
                entry = {"split": "train", "path": entry}
            paths = entry.get("path")
            splits.setdefault(str(entry.get("split", "train")), []).extend([paths] if isinstance(paths, str) else paths or [])
        if splits:
            configs[str(config.get("config_name", "default"))] = splits
    return configs


class Source:
    """What the three sources share: which files hold which rows."""

    kind: str = ""

    def snapshot(self, repo: str) -> Snapshot:
        """The files of data set `repo`; Missing when the source lacks it."""
        raise NotImplementedError

    def files(self, rows: Rows) -> tuple[Rows, dict[str, list[File]]]:
        """The form of `rows` that this source has, and its files by split name (or by part).

        Tries `rows` itself, then the forms in `rows.instead`; Missing names what was looked for.
        """
        complaints: list[str] = []
        for form in (rows, *rows.instead):
            try:
                snapshot = self.snapshot(form.repo)
                named = {part: snapshot.select(form, part) for part in (form.parts or [form.split])}
            except Missing as error:
                complaints.append(str(error))
                continue
            return form, {part: [self._file(snapshot, path) for path in paths] for part, paths in named.items()}
        raise Missing(complaints[0] + "".join(f" (nor {'; '.join(complaints[1:])})" for _ in complaints[1:2]))

    def _file(self, snapshot: Snapshot, path: str) -> File:
        return File(f"{snapshot.where}/{path}", snapshot.digest(path), lambda: snapshot.fetch(path))

    def revisions(self) -> dict[str, str]:
        """Data set → revision, for what was opened."""
        return {}

    def __str__(self) -> str:
        return self.kind


class Mirror(Source):
    """A directory of plain hub snapshots, as `hf download --repo-type dataset … --local-dir …` leaves them."""

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
            raise Missing(f"{self.root}: no data set '{repo}'{nearest(repo, self._repos())}")
        return local_snapshot(repo, folder, revision="")

    def _repos(self) -> list[str]:
        return [f"{path.parent.name}/{path.name}" for path in self.root.glob("*/*") if path.is_dir()]

    def __str__(self) -> str:
        return str(self.root)


def local_snapshot(repo: str, folder: Path, revision: str) -> Snapshot:
    """A snapshot that lies in a directory."""
    paths = []
    for base, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths += [os.path.relpath(os.path.join(base, name), folder).replace(os.sep, "/") for name in names]
    return Snapshot(
        repo, revision, tuple(sorted(paths)), str(folder),
        digest=lambda path: file_digest(folder / path, remember=True), fetch=lambda path: folder / path,
    )  # fmt: skip


class Hub(Source):
    """The hub that `huggingface_hub` is set up for (HF_ENDPOINT, HF_HOME, HF_HUB_OFFLINE and tokens are its own)."""

    kind = "hub"

    def __init__(self) -> None:
        self._known: dict[str, Snapshot] = {}

    def revisions(self) -> dict[str, str]:
        return {repo: snapshot.revision for repo, snapshot in self._known.items()}

    def snapshot(self, repo: str) -> Snapshot:
        if repo.startswith("original/"):
            raise Missing(
                f"the hub: '{repo.removeprefix('original/')}' has no usable form there; give a directory with --data DIR "
                f"that holds {repo}/ (see `xtl data import`)"
                + (": the hub's google/xtreme bucc18.* are gold pairs without distractors" if "bucc" in repo else "")
            )
        if repo not in self._known:
            self._known[repo] = self._open(repo)
        return self._known[repo]

    def _open(self, repo: str) -> Snapshot:
        from huggingface_hub import HfApi, hf_hub_download, snapshot_download
        from huggingface_hub.constants import HF_HUB_OFFLINE
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError
        from huggingface_hub.hf_api import RepoFile

        if HF_HUB_OFFLINE:
            try:
                folder = Path(snapshot_download(repo, repo_type="dataset", local_files_only=True))
            except LocalEntryNotFoundError as error:
                raise Missing(
                    f"the hub: HF_HUB_OFFLINE is set and '{repo}' is not in the cache; unset it or give --data DIR"
                ) from error
            return local_snapshot(repo, folder, revision=folder.name)
        api = HfApi()
        try:
            revision = api.dataset_info(repo).sha or "main"
            tree = [item for item in api.list_repo_tree(repo, recursive=True, revision=revision, repo_type="dataset")]
            if not any(isinstance(item, RepoFile) and _is_data(item.path) for item in tree):
                # a script data set: the hub keeps its rows as parquet under this reference
                revision = api.dataset_info(repo, revision="refs/convert/parquet").sha or "refs/convert/parquet"
                tree = list(api.list_repo_tree(repo, recursive=True, revision=revision, repo_type="dataset"))
        except RepositoryNotFoundError as error:
            raise Missing(f"the hub: no data set '{repo}' (or no access to it)") from error
        except (HfHubHTTPError, OSError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise RequestError(
                f"the hub could not be reached for '{repo}' ({reason[:200]}); --data embedded or --data DIR need no network"
            ) from error
        known = {item.path: item for item in tree if isinstance(item, RepoFile)}

        def fetch(path: str) -> Path:
            return Path(hf_hub_download(repo, path, repo_type="dataset", revision=revision))

        def sha256(path: str) -> str:
            lfs = known[path].lfs
            return str(lfs.sha256) if lfs else file_digest(fetch(path), remember=True)

        return Snapshot(repo, revision, tuple(sorted(known)), f"hub:{repo}@{revision[:12]}", sha256, fetch)


class Embedded(Source):
    """The sample rows that ship in the package: one JSONL file a task, rows tagged with split and language."""

    kind = "embedded"

    def file(self, task: Task) -> File:
        path = samples_dir() / f"{task.name}.jsonl"
        if not path.is_file():
            raise Missing(f"task '{task.name}' has no embedded rows; give --data hub or --data DIR")
        return File(path.name, file_digest(path, remember=True), lambda: path)


def samples_dir() -> Path:
    return Path(__file__).parent / "samples"


def open_source(name: str) -> Source:
    """`"embedded"`, `"hub"` or a directory → a source. RequestError when the directory is not there."""
    if name == "embedded":
        return Embedded()
    if name == "hub":
        return Hub()
    root = Path(name).expanduser()
    if not root.is_dir():
        raise RequestError(f"--data {name}: no such directory{nearest(name, ('embedded', 'hub'))}")
    return Mirror(root)


def digests(files: Iterable[Sequence[File]]) -> tuple[str, ...]:
    """sha256 of every file, in order."""
    return tuple(file.sha256 for group in files for file in group)
