"""A page for each study: its question, its axes, the files that ask it, what it cannot say."""

from __future__ import annotations

import importlib

from adapters_xtl import studies
from adapters_xtl.grid.study import Study
from adapters_xtl.grid.study_file import MIRROR, StudyFile, read_study_file, shipped_files
from docs.generator.markdown import code, paragraphs, table

__all__ = ["overview", "study_pages"]


def study_pages() -> dict[str, str]:
    """Path → page, one for each study."""
    return {f"studies/{name}.md": _page(studies.load(name)) for name in studies.names()}


def overview() -> str:
    """A table of all studies, with the files that ask them."""
    rows = []
    for name in studies.names():
        study = studies.load(name)
        files = ", ".join(code(file) for file in _files(name))
        rows.append((f"[{code(name)}](studies/{name}.md)", study.question, files or "–"))
    return table(("study", "question", "files that ask it"), rows)


def _files(study: str) -> dict[str, StudyFile]:
    """Name → file, of those that come with the package and ask this study."""
    axes = {name: [axis.name for axis in studies.load(name).axes] for name in studies.names()}
    every = {name: read_study_file(name, studies.names(), axes, ()) for name in shipped_files()}
    return {name: file for name, file in every.items() if file.study == study}


def _page(study: Study) -> str:
    module = importlib.import_module(type(study).__module__)
    parts = [f"# {study.title}", f"*{study.question}*", paragraphs(module.__doc__), "## Its axes"]
    parts.append(
        table(
            ("axis", "values by default"),
            [(code(axis.name), ", ".join(map(code, axis.values))) for axis in study.axes],
        )
    )
    parts.append(
        f"`--set AXIS=VALUE,VALUE` asks for other values. “No difference” is claimed within"
        f" {study.margin:g} points."
    )
    parts.append("## How it is asked")
    files = _files(study.name)
    if files:
        parts.append(
            table(("file", "what it asks"), [(code(n), f.title) for n, f in files.items()])
        )
    commands = [
        f"xtl study {name}{' --set data=DIR' if file.content.get('data') == MIRROR else ''}"
        for name, file in files.items()
    ] or [f"xtl study {study.name}"]
    commands = [f"{line} --dry-run" if n == 0 else line for n, line in enumerate(commands)]
    parts.append("```sh\n" + "\n".join(commands) + f"\nxtl study answer {study.name}\n```")
    if study.evidence_for:
        parts += ["## What it is evidence for", _listed(study.evidence_for)]
    if study.no_evidence:
        parts += ["## What it cannot say", _listed(study.no_evidence)]
    if study.to_know:
        parts += ["## How its numbers come about", _listed(study.to_know)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _listed(sentences: tuple[str, ...]) -> str:
    return "\n".join(f"- {text[:1].upper()}{text[1:].removesuffix('.')}." for text in sentences)
