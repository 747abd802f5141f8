"""The English Web Treebank (Silveira et al. 2014) by genre, tagged by a training on others of its
genres (`train.genres`).

The rows are those of Universal Dependencies on the hub, told apart by their sentence ids, which
begin with the genre. Test rows alone are scored, of the genres that are trained on and of others.
"""

from adapters_xtl.tasks import Task
from adapters_xtl.tasks._universal_dependencies import LABELS, example, rows

__all__ = ["TASK", "example"]

_GENRES = ("weblog", "newsgroup", "email", "reviews", "answers")

TASK = Task(
    kind="target",
    format="tag",
    metric="f1",
    scorer="tagging",
    title="part-of-speech tagging of the web by genre",
    labels=LABELS,
    train=(rows("en_ewt", "train"),),
    genres={genre: f"{genre}-*" for genre in _GENRES},
    select=(rows("en_ewt", "validation"),),
    report={
        "web": (rows("en_ewt", "test"),),
        **{genre: (rows("en_ewt", "test", f"{genre}-"),) for genre in _GENRES},
    },
    in_domain_task="ewt",
    recipe="udpos",
    group="structured",
    licence="CC BY-SA 4.0",
    notes=(
        "F1 is seqeval's entity F1 on plain tags by the rules of seqeval 0.0.12, as for udpos",
        "fused forms and empty nodes are left out: the words are the syntactic ones",
        "all five genres are in the train rows: train.genres chooses those that are trained on",
    ),
)
