"""GUM (Zeldes 2017) by genre, tagged by a training on the English Web Treebank (Silveira et al.
2014), which has none of its texts.

XTREME's own English rows hold GUM besides, so `udpos` says nothing about a shift to it. The rows
are those of Universal Dependencies on the hub, told apart by their sentence ids, which begin with
the genre. GUM is never trained on, so all three of its splits are scored.
"""

from adapters_xtl.tasks import Task
from adapters_xtl.tasks._universal_dependencies import LABELS, example, rows

__all__ = ["TASK", "example"]

_GENRES = ("academic", "bio", "fiction", "interview", "news", "voyage", "whow")
_SPLITS = ("train", "validation", "test")

TASK = Task(
    kind="target",
    format="tag",
    metric="f1",
    scorer="tagging",
    title="part-of-speech tagging by genre",
    version=2,
    labels=LABELS,
    train=(rows("en_ewt", "train"),),
    select=(rows("en_ewt", "validation"),),
    report={
        "web": (rows("en_ewt", "test"),),
        **{
            genre: tuple(rows("en_gum", split, f"GUM_{genre}_") for split in _SPLITS)
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
        "fused forms and empty nodes are left out: the words are the syntactic ones",
    ),
)
