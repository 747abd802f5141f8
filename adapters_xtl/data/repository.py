"""A data set's files at one revision, and which of them hold which split.

The snapshot's README `configs:` decide which files a config has; else `<config>/<split>-*.parquet`,
`<config>/<split>/*.parquet` (the hub's own conversion); else `data/<split>-*.parquet`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from adapters_xtl.base.errors import DataError, nearest
from adapters_xtl.base.files import file_digest

__all__ = ["File", "Missing", "Snapshot", "is_data", "local_snapshot"]

SUFFIXES = (".parquet", ".jsonl", ".json", ".csv", ".tsv")
DESCRIPTIONS = ("dataset_infos.json", "dataset_info.json", "dataset_dict.json", "state.json")
SHARD = re.compile(r"-(\d+)-of-(\d+)")


class Missing(DataError):
    """The source does not have these rows. `whole`: it lacks the data set itself, not just some of
    its rows.
    """

    def __init__(self, message: str, *, whole: bool = False) -> None:
        super().__init__(message)
        self.whole = whole


@dataclass(frozen=True)
class File:
    """One data file: what to call it, its sha256, how to have it on this machine.

    `classes`: names of its class columns as the snapshot's README declares them, column → names in
    the order of indices.
    """

    name: str
    sha256: str
    fetch: Callable[[], Path]
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Snapshot:
    """The files of one data set at one revision. `digest` and `fetch` take a path inside it."""

    repo: str
    revision: str
    paths: tuple[str, ...]
    where: str
    digest: Callable[[str], str]
    fetch: Callable[[str], Path]

    def _readme(self) -> Mapping[str, Any]:
        """The README's metadata block; {} when there is none."""
        if "README.md" not in self.paths:
            return {}
        path = self.fetch("README.md")
        stat = path.stat()
        return _metadata(path, stat.st_size, stat.st_mtime_ns)

    def configs(self) -> dict[str, dict[str, list[str]]]:
        """`configs:` of the README as {config: {split: [patterns]}}; a config with a folder only
        has {"": [folder]}.
        """
        found: dict[str, dict[str, list[str]]] = {}
        for config in _dicts(self._readme().get("configs")):
            splits: dict[str, list[str]] = {}
            for split, path in _data_files(config.get("data_files")):
                splits.setdefault(split, []).append(path)
            if config.get("data_dir"):
                folder = str(config["data_dir"]).removeprefix("./").strip("/")
                splits = {
                    split: [f"{folder}/{path}" for path in paths] for split, paths in splits.items()
                } or {"": [folder]}
            if splits:
                found[str(config.get("config_name", "default"))] = splits
        return found

    def classes(self, config: str) -> dict[str, tuple[str, ...]]:
        """Names of class columns by `dataset_info:` of the README, column → names in the order of
        their indices.
        """
        for info in _dicts(self._readme().get("dataset_info")):
            if str(info.get("config_name", "default")) == config:
                named = {
                    str(each.get("name")): _class_label(each)
                    for each in _dicts(info.get("features"))
                }
                return {column: names for column, names in named.items() if names}
        return {}

    def select(self, config: str, split: str, *, own: bool = False) -> list[str]:
        """Paths that hold `split` of `config`, sorted. Missing, with the nearest name, when there
        are none.

        `own`: the config is one of several (a language's), so files outside its folder are never
        taken for it. DataError when shards are missing, or when the split is there twice.
        """
        declared = self.configs()
        folders = [config]
        if config == "default" or not (
            own or any(path.startswith(f"{config}/") for path in self.paths)
        ):
            folders += ["data", ""]
        tries = [[pattern] for folder in folders for pattern in _layout(folder, split)]
        if config in declared:
            folder = declared[config].get("")
            tries = (
                [[each] for each in _layout(folder[0], split)]
                if folder
                else [declared[config].get(split, [])]
            )
        for patterns in tries:
            globs = [_glob(pattern) for pattern in patterns]
            found = sorted(
                path
                for path in self.paths
                if is_data(path) and any(glob.fullmatch(path) for glob in globs)
            )
            if found:
                _check_whole(found, self.where)
                return found
        raise Missing(
            f"{self.where}: no split '{split}' of config"
            f" '{config}'{self._hint(config, split, declared)}"
        )

    def _hint(self, config: str, split: str, declared: Mapping[str, Mapping[str, Any]]) -> str:
        data = [path for path in self.paths if is_data(path)]
        configs = set(declared) | {path.split("/")[0] for path in data if "/" in path}
        if config not in configs and not (config == "default" and "data" in configs):
            return nearest(config, configs)
        inside = [
            path.removeprefix(f"{config}/").removeprefix("data/")
            for path in data
            if path.startswith((f"{config}/", "data/" if config == "default" else f"{config}/"))
        ]
        splits = set(declared.get(config, {})) | {re.split(r"[-/.]", path)[0] for path in inside}
        return nearest(split, splits - {""})


def is_data(path: str) -> bool:
    """Whether a file can hold rows, by its name."""
    return path.endswith(SUFFIXES) and path.rsplit("/", 1)[-1] not in DESCRIPTIONS


def _layout(folder: str, split: str) -> list[str]:
    base = f"{folder}/" if folder else ""
    return [f"{base}{split}-*", f"{base}{split}/*", f"{base}{split}.*"]


@lru_cache(maxsize=4096)
def _glob(pattern: str) -> re.Pattern[str]:
    """A hub pattern as a regular expression: `*` stays inside one folder, `**` does not."""
    signs = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]]+\])", pattern.removeprefix("./"))
    made = [
        part.replace("[!", "[^", 1) if re.fullmatch(r"\[.+\]", part) else re.escape(part)
        for part in parts
    ]
    return re.compile(
        "".join(signs.get(part, other) for part, other in zip(parts, made, strict=True))
    )


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
    for prefix, found in shards.items():
        totals = {total for _, total in found}
        numbers = sorted(number for number, _ in found)
        if len(totals) > 1 or len(set(numbers)) < len(numbers):
            raise DataError(
                f"{where}/{prefix}-…: shards of two different writings lie here; keep one of them"
            )
        absent = sorted(set(range(max(totals))) - set(numbers))
        if absent:
            said = f"{len(absent)} of {max(totals)} shards are missing (the first: {absent[0]:05d})"
            raise DataError(f"{where}/{prefix}-…: {said}")
    if len({path.rsplit(".", 1)[-1] for path in paths}) > 1:
        raise DataError(
            f"{where}: the same split lies here in several forms ({', '.join(paths[:4])}); keep one"
            " of them"
        )


@lru_cache(maxsize=256)
def _metadata(readme: Path, size: int, changed: int) -> Mapping[str, Any]:
    import yaml

    text = readme.read_text(encoding="utf-8", errors="replace")
    if not text.startswith("---"):
        return {}
    try:
        block = yaml.safe_load(text.split("\n---", 1)[0].removeprefix("---"))
    except yaml.YAMLError as error:
        raise DataError(
            f"{readme}: its metadata block is no YAML: {str(error).splitlines()[0]}"
        ) from error
    return block if isinstance(block, dict) else {}


def _dicts(value: Any) -> list[Mapping[str, Any]]:
    """A list of tables, where one table may stand for a list of one."""
    found = value if isinstance(value, list) else [value]
    return [each for each in found if isinstance(each, dict)]


def _data_files(value: Any) -> Iterable[tuple[str, str]]:
    """(split, pattern) of a config's `data_files`: a pattern, a list of them, or a list of {split,
    path}.
    """
    for entry in value if isinstance(value, list) else [value]:
        if isinstance(entry, str):
            yield "train", entry
        elif isinstance(entry, dict):
            named = (
                [(entry.get("split", "train"), entry["path"])]
                if "path" in entry
                else list(entry.items())
            )
            for split, paths in named:
                yield from (
                    (str(split), str(path))
                    for path in (paths if isinstance(paths, list) else [paths])
                )


def _class_label(feature: Any) -> tuple[str, ...]:
    """Class names of a feature of `dataset_info:`, at any depth; () for any other feature."""
    if not isinstance(feature, dict):
        return ()
    if isinstance(label := feature.get("class_label"), dict):
        names = label.get("names")
        if isinstance(names, dict):
            return tuple(str(names[key]) for key in sorted(names, key=lambda key: int(key)))
        return tuple(map(str, names or ()))
    return next((found for value in feature.values() if (found := _class_label(value))), ())


def local_snapshot(repo: str, folder: Path, revision: str, where: str = "") -> Snapshot:
    """A snapshot that lies in a directory."""
    paths = []
    for base, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths += [
            os.path.relpath(os.path.join(base, name), folder).replace(os.sep, "/") for name in names
        ]
    return Snapshot(
        repo,
        revision,
        tuple(sorted(paths)),
        where or str(folder),
        digest=lambda path: file_digest(folder / path, remember=True),
        fetch=lambda path: folder / path,
    )
