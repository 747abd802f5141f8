"""Rows of Universal Dependencies on the hub: where a treebank's lie, and their words and tags.

The hub's rows are the lines of the treebank's files. Among them are lines without a head: fused
forms ("can't", before "ca" and "n't"; tagged `_`) and empty nodes, which no text has. Both are left
out, so that the syntactic words of the sentence are left.
"""

from typing import Any

from adapters_xtl.tasks import Row, Rows

TAGS = (
    "ADJ",
    "ADP",
    "ADV",
    "AUX",
    "CCONJ",
    "DET",
    "INTJ",
    "NOUN",
    "NUM",
    "PART",
    "PRON",
    "PROPN",
    "PUNCT",
    "SCONJ",
    "SYM",
    "VERB",
    "X",
)
LABELS = (*TAGS, "_")  # the hub's own list has the mark of a fused form
NO_HEAD = ("None", "_")

_REPO = "universal-dependencies/universal_dependencies"
_COLUMNS = {"idx": "string", "tokens": "strings", "upos": "classes", "head": "strings"}


def rows(treebank: str, split: str, beginning: str = "") -> Rows:
    """Those of a treebank, or those alone whose sentence id begins so."""
    only = {"idx": (f"{beginning}*",)} if beginning else {}
    return Rows(_REPO, treebank, split, _COLUMNS, only=only, genre="idx")


def example(row: Row) -> dict[str, Any]:
    """The words of a row that have a head, with their tags."""
    words, tags = row["tokens"], row["upos"] if "upos" in row else row["pos_tags"]
    identity, heads = row.get("idx") or row.get("sent_id"), row.get("head")
    if words and tags and len(words) == len(tags):  # what is wrong otherwise, the format says
        heads = heads or [""] * len(words)
        kept = [
            (word, tag)
            for word, tag, head in zip(words, tags, heads, strict=True)
            if tag != "_" and head not in NO_HEAD
        ]
        words, tags = [word for word, _ in kept], [tag for _, tag in kept]
    return {"id": identity, "words": words, "tags": tags}
