"""A data set's files at one revision, and which of them hold which split.

The snapshot's README `configs:` decide which files a config has; else `<config>/<split>-*.parquet`,
`<config>/<split>/*.parquet` (the hub's own conversion); else `data/<split>-*.parquet`.
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from adapters_xtl.canon import file_digest
from adapters_xtl.errors import DataError, nearest

__all__ = ["File", "Missing", "Snapshot", "is_data", "local_snapshot"]

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

    def select(self, config: str, split: str) -> list[str]:
        """Paths that hold `split` of `config`, sorted. Missing, with the nearest name, when there are none."""
        declared = self.configs()
        patterns = declared.get(config, {}).get(split)
        if patterns is None and config not in declared:
            tries = [f"{config}/{split}-*", f"{config}/{split}/*", f"{config}/{split}.*"]
            if config == "default" or not any(path.startswith(f"{config}/") for path in self.paths):
                tries += [f"data/{split}-*", f"data/{split}.*", f"{split}-*", f"{split}.*"]
            for pattern in tries:
                found = [path for path in self.paths if is_data(path) and fnmatch.fnmatchcase(path, pattern)]
                if found:
                    return sorted(found)
        elif patterns:
            found = [path for path in self.paths if any(_matches(path, pattern) for pattern in patterns)]
            if found:
                return sorted(found)
        raise Missing(f"{self.where}: no split '{split}' of config '{config}'{self._hint(config, split, declared)}")

    def _hint(self, config: str, split: str, declared: Mapping[str, Mapping[str, Any]]) -> str:
        configs = set(declared) | {path.split("/")[0] for path in self.paths if "/" in path and is_data(path)}
        if config not in configs:
            return nearest(config, configs)
        inside = [path.removeprefix(f"{config}/") for path in self.paths if path.startswith(f"{config}/")]
        splits = set(declared.get(config, {})) | {path.split("-")[0].split("/")[0].split(".")[0] for path in inside}
        return nearest(split, splits)


def is_data(path: str) -> bool:
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
            splits.setdefault(str(entry.get("split", "train")), []).extend(
                [paths] if isinstance(paths, str) else paths or []
            )
        if splits:
            configs[str(config.get("config_name", "default"))] = splits
    return configs


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
