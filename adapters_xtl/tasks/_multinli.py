"""Rows of MNLI (Williams et al. 2018): where they lie, their genres, and what is read of one."""

from typing import Any

from adapters_xtl.tasks import Row, Rows

LABELS = ("entailment", "neutral", "contradiction")
COLUMNS = {"premise": "string", "hypothesis": "string", "label": "class"}
# SNLI's genre is for files that hold its rows too
GENRES = ("fiction", "government", "slate", "telephone", "travel", "captions")

_GLUE = "nyu-mll/glue"  # its rows tell no genre


def rows(split: str, genre: str = "") -> Rows:
    """Those of a split, or those alone of a genre."""
    glue = () if genre else (Rows(_GLUE, "mnli", split, COLUMNS),)
    only = {"genre": (genre,)} if genre else {}
    return Rows(
        "nyu-mll/multi_nli", "default", split, COLUMNS, instead=glue, only=only, genre="genre"
    )


def example(row: Row) -> dict[str, Any]:
    return {
        "id": row.get("pairID"),
        "text": row["premise"],
        "pair": row["hypothesis"],
        "label": row["label"],
    }
