"""XTREME's two retrieval tasks: BUCC 2018's sentences with gold pairs, and Tatoeba's pairs."""

from __future__ import annotations

import re
from pathlib import Path

from adapters_xtl import tasks
from adapters_xtl.data.imports.forms import columns
from adapters_xtl.data.imports.staging import Column, Staging
from adapters_xtl.data.imports.xtreme_files import declared_rows, matching_files, parquet_path

__all__ = ["import_bucc", "import_tatoeba"]


def import_bucc(build: Staging, folder: Path) -> None:
    """Both sides and the gold pairs of every language's dev split; a split without its gold, or
    without a side, is refused.
    """
    task = tasks.load("bucc")
    pattern = r"(?P<language>\w+)-en\.(?P<split>dev|test)\.gold"
    sides = r"(\w+)-en\.(dev|test)\.(?:\1|en)"
    gold = {
        (split, language): path
        for path, split, language in matching_files(build, folder, task, pattern, sides)
    }
    for path in sorted(
        folder.rglob("*-en.*")
    ):  # XTREME calls the shared task's train part "test", and drops its gold
        match = re.fullmatch(sides, path.name)
        if match and not path.with_suffix(".gold").is_file():
            build.refuse(path, f"the gold is hidden: no {path.with_suffix('.gold').name}")
    for (split, language), path in gold.items():
        if split != "validation":
            build.refuse(path, "the task scores the dev split only")
            continue
        parts = {
            "source": path.with_suffix(f".{language}"),
            "target": path.with_suffix(".en"),
            "gold": path,
        }
        absent = [part.name for part in parts.values() if not part.is_file()]
        if absent:
            build.refuse(
                path,
                f"incomplete: no {' and no '.join(absent)}; mining needs both sides, every"
                " sentence",
            )
            continue
        fields = {
            part: [
                row
                for _, row in columns(
                    build, file, 2, "two ids" if part == "gold" else "id and sentence"
                )
            ]
            for part, file in parts.items()
        }
        ids: dict[str, set[str]] = {part: set() for part in parts}
        for part in ("source", "target"):
            for identity, _ in fields[part]:
                if identity in ids[part]:
                    build.problem(parts[part], f"id {identity} is there twice")
                ids[part].add(identity)
        lost = sum(
            first not in ids["source"] or second not in ids["target"]
            for first, second in fields["gold"]
        )
        build.count(
            path,
            f"gold pairs, of {len(fields['gold'])}, that name a sentence which is not there",
            lost,
        )
        for part, kinds in next(iter(task.report.values()))[0].parts.items():
            where = parquet_path(declared_rows(task, language), part)
            build.write(
                where, [Column(name, "string") for name in kinds], fields[part], parts[part]
            )


def import_tatoeba(build: Staging, folder: Path) -> None:
    """LASER's aligned files as pairs. XTREME's own files are refused: their English side is sorted,
    so that no line tells which sentence it translates.
    """
    task = tasks.load("tatoeba")
    own, laser = r"(?P<language>\w+)-en\.(?P=language)", r"tatoeba\.(\w+)-eng\.(?:\1|eng)"
    aligned: set[str] = set()
    kinds = [
        Column(name, "string")
        for name in ("source_sentence", "target_sentence", "source_lang", "target_lang")
    ]
    for path in sorted(folder.rglob("tatoeba.*-eng.eng")):
        code = path.name.split(".")[1].removesuffix("-eng")
        other = path.with_suffix(f".{code}")
        language = next(
            (language for language in task.all_languages if task.code(language) == code), ""
        )
        if not language or not other.is_file():
            build.refuse(
                path,
                (
                    f"no {other.name} beside it"
                    if language
                    else f"task 'tatoeba' has no language '{code}'"
                ),
            )
            continue
        first, second = build.lines(other), build.lines(path)
        if len(first) != len(second):
            build.problem(path, f"{len(second)} lines, but {other.name} has {len(first)}")
        rows = [
            (source, target, code, "eng") for source, target in zip(first, second, strict=False)
        ]
        build.write(parquet_path(declared_rows(task, language), "validation"), kinds, rows, path)
        aligned.add(language)
    for path, _, language in matching_files(build, folder, task, own, r"(\w+)-en\.en", laser):
        if language in aligned:
            continue
        english = path.with_suffix(".en")
        code = task.code(language)
        lines = [line.strip() for line in build.lines(english)] if english.is_file() else []
        state = "sorted, not aligned" if lines == sorted(lines) else "in an unknown order"
        reason = (
            f"the English side ({english.name}) is {state}: no line tells which one it translates"
        )
        reason += (
            f"; LASER's aligned tatoeba.{code}-eng.{code} and .eng would be read from this folder"
        )
        build.refuse(path, reason if lines else f"incomplete: no {english.name}")
    for path in sorted(folder.rglob("*-en.en")):
        if not path.with_suffix(f".{path.name.removesuffix('-en.en')}").is_file():
            build.refuse(
                path,
                f"incomplete: no {path.name.removesuffix('en')}{path.name.removesuffix('-en.en')}",
            )
