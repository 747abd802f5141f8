"""What the rows of a mirror are: only the mirror can say, since any rows can have any columns.

A mirror's root may hold a README.md whose metadata block has the key `rows`, a mapping from data
sets, or from single splits of them, to one line of text:

    ---
    rows:
      nyu-mll/multi_nli: captions of SNLI in MultiNLI's columns
      google/xtreme [XNLI] validation: the first 500 rows
    ---

Without it a card says only where rows were read and whose columns they have.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from adapters_xtl.base.errors import DataError
from adapters_xtl.base.files import file_digest
from adapters_xtl.base.untrusted import printable
from adapters_xtl.data.readme import read_metadata
from adapters_xtl.data.repository import is_data

__all__ = ["data_set_of", "stated_rows"]

LONGEST = 300  # characters of one statement


def data_set_of(form: str) -> str:
    """The data set of a form such as `nyu-mll/multi_nli [default] train`."""
    return form.split(" [")[0]


def stated_rows(root: Path, forms: Iterable[str], trained: Iterable[str]) -> dict[str, str]:
    """Form → what the mirror at `root` says of it; {} where it says nothing.

    Also {} where the mirror lacks a file that was trained on: it may be another one by now.
    `trained`: sha256 of those files.
    """
    readme = root / "README.md"
    try:
        statements = read_metadata(readme).get("rows") if readme.is_file() else None
    except (DataError, OSError):
        return {}
    if not isinstance(statements, dict):
        return {}
    forms = sorted(set(forms))
    stated = {form: statements.get(form, statements.get(data_set_of(form))) for form in forms}
    stated_forms = {form: printable(text, LONGEST) for form, text in stated.items() if text}
    if not stated_forms:
        return {}
    files = (
        path
        for data_set in {data_set_of(form) for form in forms}
        for path in (root / data_set).rglob("*")
        if is_data(path.name) and path.is_file()
    )
    held = {file_digest(path, remember=True) for path in files}
    return stated_forms if set(trained) <= held else {}
