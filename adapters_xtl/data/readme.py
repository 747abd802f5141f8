"""The metadata block of a README.md: which files a config has, and the names of its classes.

The block is YAML between two lines `---`, as the hub has it. A README is a stranger's file:
whatever is wrong with its block is one DataError that names the file, and no block takes long to
read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from adapters_xtl.base.errors import DataError
from adapters_xtl.base.untrusted import printable

__all__ = ["class_names", "config_patterns", "read_metadata"]

LONGEST = 4 << 20  # bytes of a README's metadata block; the longest on the hub have about 1 MB
_OPENING = re.compile(rb"\s*---[ \t]*\r?\n")
_CLOSING = re.compile(rb"(?:^|\n)---[ \t]*(?:\r?\n|\Z)")


def read_metadata(path: Path) -> Mapping[str, Any]:
    """The metadata block of the README at `path`, {} when it has none. DataError when it is no
    YAML mapping, is not UTF-8 or is too long.
    """
    status = path.stat()
    return _metadata(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=256)
def _metadata(path: Path, size: int, changed: int) -> Mapping[str, Any]:
    import yaml

    with path.open("rb") as file:
        text = file.read(LONGEST).removeprefix(b"\xef\xbb\xbf")
    opening = _OPENING.match(text)
    if opening is None:
        return {}
    closing = _CLOSING.search(text, opening.end() - 1)
    if closing is None:
        longer = f" within {LONGEST:,} bytes" if size > LONGEST else ""
        raise DataError(f"{path}: its metadata block does not end{longer} (no second line '---')")
    block = text[opening.end() : max(closing.start(), opening.end())]
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        metadata = yaml.load(block.decode("utf-8"), Loader=loader)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: its metadata block is not UTF-8 text") from error
    except RecursionError as error:
        raise DataError(f"{path}: its metadata block is nested too deep") from error
    except (
        yaml.YAMLError,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        OverflowError,
    ) as error:
        reason = printable((str(error).strip() or type(error).__name__).splitlines()[0], 120)
        raise DataError(f"{path}: its metadata block is no YAML: {reason}") from error
    if metadata is None:
        return {}
    if not isinstance(metadata, dict):
        raise DataError(f"{path}: its metadata block is no mapping of keys to values")
    return metadata


def config_patterns(metadata: Mapping[str, Any]) -> dict[str, dict[str, list[str]]]:
    """`configs:` of a README as {config: {split: [path patterns]}}.

    A config with a folder and no patterns has {"": [folder]}. DataError (without the file's name)
    for an entry that is no text.
    """
    patterns: dict[str, dict[str, list[str]]] = {}
    for config in _mappings(metadata.get("configs")):
        splits: dict[str, list[str]] = {}
        for split, path in _data_files(config.get("data_files")):
            splits.setdefault(split, []).append(path)
        if config.get("data_dir"):
            folder = _text(config["data_dir"], "data_dir").removeprefix("./").strip("/")
            splits = {
                split: [f"{folder}/{path}" for path in paths] for split, paths in splits.items()
            } or {"": [folder]}
        if splits:
            patterns[_text(config.get("config_name", "default"), "config_name")] = splits
    return patterns


def class_names(metadata: Mapping[str, Any], config: str) -> dict[str, tuple[str, ...]]:
    """Names of the class columns of `config` by `dataset_info:` of a README: column → names in the
    order of their indices. DataError (without the file's name) when the names are in no order.
    """
    for info in _mappings(metadata.get("dataset_info")):
        if _text(info.get("config_name", "default"), "config_name") == config:
            names = {
                _text(feature.get("name", ""), "the name of a feature"): _class_label(
                    feature, set()
                )
                for feature in _mappings(info.get("features"))
            }
            return {column: labels for column, labels in names.items() if labels}
    return {}


def _text(value: Any, what: str) -> str:
    """A scalar as text; YAML aliases can make a short list into one that fills the memory."""
    if isinstance(value, (list, dict, set, tuple)) or value is None:
        raise DataError(f"{what} is no text")
    try:
        return str(value)
    except ValueError as error:  # a number of more than 4,300 digits
        raise DataError(f"{what} is no text") from error


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    """A list of mappings, where one mapping may stand for a list of one."""
    entries = value if isinstance(value, list) else [value]
    return [entry for entry in entries if isinstance(entry, dict)]


def _data_files(value: Any) -> Iterator[tuple[str, str]]:
    """(split, pattern) of a config's `data_files`: a pattern, a list of patterns, a list of
    {split, path}, or {split: patterns}.
    """
    for entry in value if isinstance(value, list) else [value]:
        if isinstance(entry, str):
            yield "train", entry
        elif isinstance(entry, dict):
            listed = (
                [(entry.get("split", "train"), entry["path"])]
                if "path" in entry
                else list(entry.items())
            )
            for split, paths in listed:
                for path in paths if isinstance(paths, list) else [paths]:
                    yield _text(split, "a split"), _text(path, "a path of data_files")


def _class_label(feature: Any, seen: set[int]) -> tuple[str, ...]:
    """Class names of a feature of `dataset_info:`, at any depth; () for any other feature.

    `seen`: ids of the mappings that were looked into (YAML aliases may make a circle of them).
    """
    if not isinstance(feature, dict) or id(feature) in seen:
        return ()
    seen.add(id(feature))
    if isinstance(label := feature.get("class_label"), dict):
        return _in_order(label.get("names"))
    return next((names for value in feature.values() if (names := _class_label(value, seen))), ())


def _in_order(names: Any) -> tuple[str, ...]:
    """Class names in the order of their indices: a list, or a mapping of all indices from 0 on."""
    if names is None:
        return ()
    if isinstance(names, list):
        return tuple(_text(name, "a class name") for name in names)
    if not isinstance(names, dict):
        raise DataError(
            f"class names are a list or a mapping of indices, not {type(names).__name__}"
        )
    by_index: dict[int, str] = {}
    for key, name in names.items():
        index, label = _text(key, "the index of a class name"), _text(name, "a class name")
        if not re.fullmatch(r"[0-9]{1,9}", index):
            raise DataError(
                f"class name '{printable(label)}' has the key '{printable(index)}', which is no"
                " index"
            )
        by_index[int(index)] = label
    if set(by_index) != set(range(len(names))):
        raise DataError(f"the indices of {len(names)} class names are not 0 to {len(names) - 1}")
    return tuple(by_index[index] for index in range(len(names)))
