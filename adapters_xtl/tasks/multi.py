"""All nine intermediate tasks (or `--set train.tasks=a,b`) in one module with a head each.

Tasks are sampled in proportion to their sizes, a task counting as at most `train.cap` examples.
"""

from adapters_xtl.tasks import Task

TASK = Task(
    kind="intermediate",
    format="",
    metric="mean",
    scorer="",
    title="several intermediate tasks at once",
    members=("anli", "mnli", "qqp", "squad2", "squad1", "hellaswag", "ccg", "cosmosqa", "csqa"),
)
