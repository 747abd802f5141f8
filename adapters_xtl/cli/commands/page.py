"""`xtl page`: reads the records of studies and runs and writes the page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adapters_xtl.base.errors import RequestError
from adapters_xtl.base.extras import need
from adapters_xtl.pages import page as html_page
from adapters_xtl.pages.comparison_tables import size
from adapters_xtl.runs.store import Store

__all__ = ["page"]


def page(
    studies: Sequence[str], *, runs: str | None, out: str | None
) -> tuple[dict[str, Any], list[str]]:
    """Writes the page of the studies or, without one, of a store's runs.

    The payload: `path` of the file, its `bytes`, how many `studies` and `runs` it shows, and
    `damaged` and `missing` runs by name. RequestError where there is nothing to show, or matplotlib
    is not installed.
    """
    need("a page, which has figures,", "matplotlib")
    paths = [Path(study) for study in studies]
    if len(paths) > 1 and out is None:
        raise RequestError(f"{len(paths)} studies: name the page's file with -o")
    if paths:
        contents = html_page.of_studies(paths, runs)
        home = paths[0] if paths[0].is_dir() else paths[0].parent
    else:
        contents = html_page.of_store(Store(Path(runs or "runs")))
        home = contents.store.root
    path = Path(out) if out is not None else home / html_page.PAGE
    html_page.check_place(path)
    html = html_page.render(contents)
    html_page.write(html, path)
    damaged = {
        f"{place.parent.name}/{place.name}": reason for place, reason in contents.damaged.items()
    }
    payload = {
        "path": str(path),
        "bytes": len(html.encode()),
        "studies": len(contents.studies),
        "runs": len(contents.runs),
        "damaged": damaged,
        "missing": list(contents.missing),
    }
    shown = [f"damaged: {name}: {reason}" for name, reason in damaged.items()]
    if contents.missing:
        shown.append(
            f"not in {contents.store.root}: {', '.join(contents.missing[:5])}"
            + (f" and {len(contents.missing) - 5} more runs" if len(contents.missing) > 5 else "")
        )
    return payload, [*shown, f"page: {path} ({size(len(html.encode()))})"]
