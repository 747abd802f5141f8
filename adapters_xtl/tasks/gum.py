"""GUM (Zeldes 2017) by genre, tagged by a training on the English Web Treebank (Silveira et al.
2014), which has none of its texts.

XTREME's own English rows hold GUM besides, so `udpos` says nothing about a shift to it. The rows
are those of Universal Dependencies on the hub, told apart by their sentence ids, which begin with
the genre. GUM is never trained on, so all three of its splits are scored.
"""

from typing import Any

from adapters_xtl.tasks import Row, Rows, Task

_COLUMNS = {"idx": "string", "tokens": "strings", "upos": "classes"}
_REPO = "universal-dependencies/universal_dependencies"
_GENRES = ("academic", "bio", "fiction", "interview", "news", "voyage", "whow")
_SPLITS = ("train", "validation", "test")


def _rows(config: str, split: str, beginning: str = "") -> Rows:
    only = {"idx": (f"{beginning}*",)} if beginning else {}
    return Rows(_REPO, config, split, _COLUMNS, only=only)


TASK = Task(
    kind="target",
    format="tag",
    metric="f1",
    scorer="tagging",
    title="part-of-speech tagging by genre",
    labels=(
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
        "_",
    ),
    train=(_rows("en_ewt", "train"),),
    select=(_rows("en_ewt", "validation"),),
    report={
        "web": (_rows("en_ewt", "test"),),
        **{
            genre: tuple(_rows("en_gum", split, f"GUM_{genre}_") for split in _SPLITS)
            for genre in _GENRES
        },
    },
    in_domain_task="gum",
    samples="udpos",
    recipe="udpos",
    group="structured",
    licence="CC BY-SA 4.0 (EWT), CC BY-NC-SA 4.0 and others, by text (GUM)",
    notes=(
        "F1 is seqeval's entity F1 on plain tags by the rules of seqeval 0.0.12, as for udpos",
        "a fused form, tagged _, is left out: its syntactic words follow it",
    ),
)


def example(row: Row) -> dict[str, Any]:
    if "upos" not in row:  # the sample rows are udpos' own
        return {"words": row["tokens"], "tags": row["pos_tags"]}
    words = [pair for pair in zip(row["tokens"], row["upos"], strict=True) if pair[1] != "_"]
    return {
        "id": row["idx"],
        "words": [word for word, _ in words],
        "tags": [tag for _, tag in words],
    }
