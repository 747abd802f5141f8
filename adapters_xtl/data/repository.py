"""A data set's repository: its files at one revision, and which of them hold which split.

The `configs:` of the repository's README decide which files a config has; else
`<config>/<split>-*.parquet` or `<config>/<split>/*.parquet` (the hub's own conversion); else
`data/<split>-*.parquet`.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapters_xtl.base.errors import DataError, nearest
from adapters_xtl.base.files import file_digest
from adapters_xtl.base.untrusted import printable
from adapters_xtl.data import readme
from adapters_xtl.data.patterns import matches

__all__ = ["DataFile", "MissingRows", "Repository", "is_data", "local_repository"]

SUFFIXES = (".parquet", ".jsonl", ".json", ".csv", ".tsv")
PACKED = (".gz", ".zip", ".zst", ".bz2", ".xz", ".arrow", ".tar")  # hold rows, and are not read
DESCRIPTIONS = ("dataset_infos.json", "dataset_info.json", "dataset_dict.json", "state.json")
SHARD = re.compile(r"-(\d+)-of-(\d+)")
ENTRIES = 200_000  # files of a repository in a directory; the largest on the hub have some 100,000


class MissingRows(DataError):
    """The source does not have these rows. `lacks_data_set`: it lacks the whole data set, not just
    some of its rows.
    """

    def __init__(self, message: str, *, lacks_data_set: bool = False) -> None:
        super().__init__(message)
        self.lacks_data_set = lacks_data_set


@dataclass(frozen=True)
class DataFile:
    """One file of rows: its name in messages, its sha256, how to have it on this machine.

    `classes`: names of its class columns as the repository's README declares them, column → names
    in the order of indices.
    """

    name: str
    sha256: str
    fetch: Callable[[], Path]
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Repository:
    """The files of one data set at one revision. `digest` and `fetch` take a path inside it;
    `where` begins every complaint about it.
    """

    repo: str
    revision: str
    paths: tuple[str, ...]
    where: str
    digest: Callable[[str], str]
    fetch: Callable[[str], Path]

    def _metadata(self) -> Mapping[str, Any]:
        """The README's metadata block; {} when there is none."""
        return readme.read_metadata(self.fetch("README.md")) if "README.md" in self.paths else {}

    @contextmanager
    def _about_readme(self) -> Iterator[None]:
        try:
            yield
        except DataError as error:
            raise DataError(f"{self.where}/README.md: {error}") from error

    def class_names(self, config: str) -> dict[str, tuple[str, ...]]:
        """Names of class columns by the README, column → names in the order of their indices."""
        metadata = self._metadata()
        with self._about_readme():
            return readme.class_names(metadata, config)

    def split_paths(self, config: str, split: str, *, language_config: bool = False) -> list[str]:
        """Paths that hold `split` of `config`, sorted. MissingRows, with the nearest name, when
        there are none.

        `language_config`: the config is one of several (a language's), so files outside its folder
        are never taken for it. DataError when shards are missing, or when the split is there twice.
        """
        metadata = self._metadata()
        with self._about_readme():
            declared = readme.config_patterns(metadata)
            for patterns in self._patterns(config, split, declared, language_config):
                paths = sorted(
                    path
                    for path in self.paths
                    if is_data(path) and any(matches(pattern, path) for pattern in patterns)
                )
                if paths:
                    break
            else:
                paths = []
        if not paths:
            raise MissingRows(
                f"{self.where}: no split '{split}' of config"
                f" '{config}'{self._hint(config, split, declared)}"
            )
        _check_whole(paths, self.where)
        return paths

    def _patterns(
        self,
        config: str,
        split: str,
        declared: Mapping[str, Mapping[str, list[str]]],
        language_config: bool,
    ) -> list[list[str]]:
        """Pattern lists for a split, in the order in which they are tried."""
        if config in declared:
            folder = declared[config].get("")
            if folder:
                return [[pattern] for pattern in _layout(folder[0], split)]
            return [declared[config].get(split, [])]
        folders = [config]
        has_folder = any(path.startswith(f"{config}/") for path in self.paths)
        if config == "default" or not (language_config or has_folder):
            folders += ["data", ""]
        return [[pattern] for folder in folders for pattern in _layout(folder, split)]

    def _hint(self, config: str, split: str, declared: Mapping[str, Mapping[str, Any]]) -> str:
        """What a missing split is near to: packed files that are not read, or the nearest name."""
        data = [path for path in self.paths if is_data(path)]
        packed = [
            path
            for path in self.paths
            if path.endswith(PACKED)
            and path.rpartition("/")[0] in (config, "data", "")
            and re.split(r"[-/.]", path.rsplit("/", 1)[-1])[0] == split
        ]
        if packed:
            names = ", ".join(printable(path) for path in packed[:3])
            return f"; {names} lies there and is not read: unpack it"
        configs = set(declared) | {path.split("/")[0] for path in data if "/" in path}
        if config not in configs and not (config == "default" and "data" in configs):
            return nearest(config, configs)
        folders = (f"{config}/", "data/") if config == "default" else (f"{config}/",)
        split_of = {
            path: re.split(r"[-/.]", path.removeprefix(f"{config}/").removeprefix("data/"))[0]
            for path in data
            if path.startswith(folders)
        }
        splits = set(declared.get(config, {})) or set(split_of.values())
        if split in declared.get(config, {}):
            patterns = ", ".join(printable(pattern) for pattern in declared[config][split][:3])
            return f"; the README gives it {patterns}, and no data file fits"
        unread = [path for path in data if split_of.get(path) == split]
        if unread and config in declared:
            return f"; the README does not give {printable(unread[0])} to it"
        if unread:
            return f"; {printable(unread[0])} lies deeper than a split's files do"
        return nearest(split, splits - {""})


def is_data(path: str) -> bool:
    """Whether a file can hold rows, by its name."""
    return path.endswith(SUFFIXES) and path.rsplit("/", 1)[-1] not in DESCRIPTIONS


def _layout(folder: str, split: str) -> list[str]:
    base = f"{folder}/" if folder else ""
    return [f"{base}{split}-*", f"{base}{split}/*", f"{base}{split}.*"]


def _check_whole(paths: Sequence[str], where: str) -> None:
    """DataError when `-00000-of-00003` tells that shards are missing, or when the rows would be
    read twice.
    """
    shards: dict[str, list[tuple[int, int]]] = {}
    for path in paths:
        match = SHARD.search(path.rsplit("/", 1)[-1])
        if match:
            start = len(path) - len(path.rsplit("/", 1)[-1]) + match.start()
            shards.setdefault(path[:start], []).append((int(match[1]), int(match[2])))
    for prefix, numbered in shards.items():
        totals = {total for _, total in numbered}
        numbers = sorted(number for number, _ in numbered)
        if len(totals) > 1 or len(set(numbers)) < len(numbers):
            raise DataError(
                f"{where}/{prefix}-…: shards of two different writings lie here; keep one of them"
            )
        if max(totals) > ENTRIES:
            raise DataError(f"{where}/{prefix}-…: names {max(totals):,} shards")
        absent = sorted(set(range(max(totals))) - set(numbers))
        if absent:
            raise DataError(
                f"{where}/{prefix}-…: {len(absent)} of {max(totals)} shards are missing (the"
                f" first: {absent[0]:05d})"
            )
    if len({path.rsplit(".", 1)[-1] for path in paths}) > 1:
        raise DataError(
            f"{where}: the same split lies here in several forms ({', '.join(paths[:4])}); keep one"
            " of them"
        )


def local_repository(repo: str, folder: Path, revision: str, where: str = "") -> Repository:
    """A repository that lies in a directory. DataError when the directory cannot be listed.

    Links are followed (the hub client's cache is made of them), a directory never into itself.
    """
    where = where or str(folder)

    def regular(path: str) -> Path:
        try:
            kind = os.stat(folder / path).st_mode
        except OSError as error:
            raise DataError(
                f"{where}/{printable(path)}: cannot be read ({error.strerror})"
            ) from error
        if not stat.S_ISREG(kind):
            raise DataError(f"{where}/{printable(path)}: not a regular file")
        return folder / path

    def digest(path: str) -> str:
        try:
            return file_digest(regular(path), remember=True)
        except OSError as error:
            raise DataError(
                f"{where}/{printable(path)}: cannot be read ({error.strerror})"
            ) from error

    paths = tuple(sorted(_listed(folder, where)))
    return Repository(repo, revision, paths, where, digest, fetch=regular)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads nowhere
        return False


def _listed(folder: Path, where: str) -> list[str]:
    """Paths of all files below a directory, and of a README.md whatever it is."""
    paths: list[str] = []
    pending: list[tuple[str, frozenset[tuple[int, int]]]] = [("", frozenset())]
    while pending:
        base, above = pending.pop()
        try:
            status = os.stat(folder / base)
            inside = above | {(status.st_dev, status.st_ino)}
            if len(inside) == len(above):
                continue  # a link to a directory that it lies in
            with os.scandir(folder / base) as entries:
                for entry in entries:
                    path = f"{base}{entry.name}"
                    if path == "README.md" or not _is_folder(entry):
                        paths.append(path)
                    elif not entry.name.startswith("."):
                        pending.append((f"{path}/", inside))
        except OSError as error:
            raise DataError(
                f"{where}/{printable(base)}: cannot be listed ({error.strerror})"
            ) from error
        if len(paths) + len(pending) > ENTRIES:
            raise DataError(f"{where}: more than {ENTRIES:,} files")
    return paths
