"""CCGbank (LDC2005T13): its derivations in `data/AUTO/<section>/wsj_*.auto` → words and supertags.

A file holds, for each sentence, a line `ID=wsj_0001.1 PARSER=GOLD NUMPARSE=1` and a line with one
derivation: inner nodes `(<T category head children> …)`, leaves `(<L category pos pos word
category>)`. A leaf's first category is the word's supertag. The split is the usual one: sections
02-21 train, 00 validation, 23 test.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from adapters_xtl import tasks
from adapters_xtl.base.errors import DataError
from adapters_xtl.data.imports.staging import Column, Report, Staging, staging

__all__ = ["convert", "leaves"]

_SPLITS = {
    "train": tuple(f"{section:02d}" for section in range(2, 22)),
    "validation": ("00",),
    "test": ("23",),
}
_PLACES = ("data/AUTO", "AUTO", "ccgbank_1_1/data/AUTO", ".")
_COLUMNS = (Column("id", "string"), Column("tokens", "strings"), Column("ccg_tags", "strings"))
_HEADER = re.compile(r"ID=(\S+)\s+PARSER=\S+\s+NUMPARSE=(\d+)\s*")
_NODE = re.compile(
    r"\s*(?:\(<T (?P<category>\S+) (?P<head>\d+) (?P<children>\d+)>"
    r"|\(<L (?P<tag>\S+) \S+ \S+ (?P<word>\S+) \S+>\)"
    r"|(?P<close>\)))"
)

Row = tuple[str, list[str], list[str]]


def convert(source: Path, out: Path) -> Report:
    """Writes `out`/original/ccgbank/default/{train,validation,test}-00000-of-00001.parquet: id,
    tokens, ccg_tags.

    DataError, with every file and line that is malformed, or if `source` holds no AUTO files. A
    section that is missing is reported; a split without any of its sections is refused.
    """
    with staging(source, out) as build:
        auto = _find(source)
        rows = tasks.load("ccg").train[0]
        for split, sections in _SPLITS.items():
            present = [section for section in sections if _files(auto / section)]
            missing = [section for section in sections if section not in present]
            if not present:
                build.refuse(auto, f"no {split} split: section {', '.join(missing)} is not there")
                continue
            if missing:
                build.note(f"{split} lacks section {', '.join(missing)}")
            sentences = [
                row
                for section in present
                for file in _files(auto / section)
                for row in _read(build, file)
            ]
            _check_ids(build, auto, sentences)
            build.write(
                f"{rows.repo}/{rows.config}/{split}-00000-of-00001.parquet",
                _COLUMNS,
                sentences,
                auto / present[0],
            )
        used = {section for sections in _SPLITS.values() for section in sections}
        spare = sorted(
            path.name for path in auto.iterdir() if path.name not in used and _files(path)
        )
        if spare:
            build.note(f"not read, as usual: section {', '.join(spare)}")
    return build.report()


def leaves(derivation: str) -> tuple[list[str], list[str]]:
    """Words and supertags of one derivation, left to right. DataError says where it is
    malformed.
    """
    words: list[str] = []
    tags: list[str] = []
    stack: list[list[int]] = []  # children declared, children seen
    at = 0
    while at < len(derivation.rstrip()):
        node = _NODE.match(derivation, at)
        if node is None:
            raise DataError(f"no node at column {at + 1}: {derivation[at : at + 40].strip()!r}")
        if not stack and words:
            raise DataError(f"text after the derivation's end at column {at + 1}")
        if node["close"]:
            if not stack:
                raise DataError(f"a bracket closes nothing at column {at + 1}")
            declared, seen = stack.pop()
            if declared != seen:
                raise DataError(
                    f"a node declares {declared} children and has {seen}, up to column {node.end()}"
                )
        else:
            if stack:
                stack[-1][1] += 1
            if node["tag"]:
                words.append(node["word"])
                tags.append(node["tag"])
            elif int(node["head"]) >= int(node["children"]):
                raise DataError(
                    f"a node's head is child {node['head']} of {node['children']}, at column"
                    f" {at + 1}"
                )
            else:
                stack.append([int(node["children"]), 0])
        at = node.end()
    if stack:
        raise DataError(f"{len(stack)} brackets are not closed")
    if not words:
        raise DataError("a derivation without a leaf")
    return words, tags


def _find(source: Path) -> Path:
    for place in _PLACES:
        folder = source / place
        if folder.is_dir() and any(_files(path) for path in folder.iterdir()):
            return folder
    raise DataError(
        f"{source}: no CCGbank here; looked for <section>/*.auto, sections 00 to 24, "
        f"under {', '.join(_PLACES[:-1])} and in the directory itself"
    )


def _files(section: Path) -> Sequence[Path]:
    return (
        sorted(section.glob("*.auto"))
        if section.is_dir() and re.fullmatch(r"[0-2]\d", section.name)
        else ()
    )


def _read(build: Staging, path: Path) -> list[Row]:
    rows: list[Row] = []
    header: tuple[int, str] | None = None  # line and id of a header that waits for its derivation
    lines = build.lines(path)
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        match = _HEADER.fullmatch(line)
        if match:
            if header:
                build.problem(path, f"sentence {header[1]} has no derivation", header[0])
            if match[2] != "1":
                build.problem(
                    path, f"sentence {match[1]} has {match[2]} derivations, not one", number
                )
            header = number, match[1]
        elif header is None:
            build.problem(
                path,
                "neither a header 'ID=… PARSER=… NUMPARSE=1' nor the derivation of one",
                number,
            )
        else:
            try:
                rows.append((header[1], *leaves(line)))
            except DataError as error:
                build.problem(path, f"sentence {header[1]}: {error}", number)
            header = None
    if header:
        build.problem(path, f"sentence {header[1]} has no derivation", header[0])
    if not rows and not build.troubled(path):
        build.problem(path, "no derivations")
    return rows


def _check_ids(build: Staging, auto: Path, rows: Sequence[Row]) -> None:
    seen: set[str] = set()
    for identity, _, _ in rows:
        if identity in seen:
            build.problem(auto, f"sentence {identity} is there twice")
        seen.add(identity)
