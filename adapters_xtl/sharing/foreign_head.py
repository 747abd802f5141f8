"""The classification head of a module that another tool saved: does it fit the task?

A head comes along where it is structurally our own (`<s>` → dropout → dense → tanh → dropout → out)
and its classes have the task's names. Any other head stays behind, and a note says why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters_xtl import formats, methods
from adapters_xtl.backbones.shape import Shape
from adapters_xtl.base.errors import RequestError, clipped, nearest
from adapters_xtl.base.untrusted import Refusal, Tensor, load_json, printable, tensors, unfit_values
from adapters_xtl.methods import ForeignForm
from adapters_xtl.runs.hyper import Hyper
from adapters_xtl.tasks import Task

__all__ = ["ForeignHead", "head_config", "read_head"]

_WITHOUT_HEAD = (
    "it can be a parent (--on) and embed sentences (bucc, tatoeba), but scores no labelled task"
)
_CLASSIFIER = {
    "dense.weight": "dense.weight",
    "dense.bias": "dense.bias",
    "out_proj.weight": "out.weight",
    "out_proj.bias": "out.bias",
}
_FLEX = {
    "1.weight": "dense.weight",
    "1.bias": "dense.bias",
    "4.weight": "out.weight",
    "4.bias": "out.bias",
}


@dataclass
class ForeignHead:
    """A head that can come along.

    source  the file with its weights
    names   tensor in that file → tensor of our head
    labels  its classes, in its order
    """

    source: Path
    names: dict[str, str]
    labels: tuple[str, ...]


def read_head(
    source: Path,
    form: ForeignForm,
    config: Mapping[str, Any],
    weights: Path,
    held: Mapping[str, Tensor],
    task: Task,
    labels: tuple[str, ...],
    size: Shape,
    notes: list[str],
) -> ForeignHead | None:
    """The head that comes along, or None with the reason in `notes`."""
    names: dict[str, str] = {}
    named: dict[str, Any] = {}
    file = weights.resolve()
    if form.head_prefix:
        names = {
            name: _CLASSIFIER.get(name.removeprefix(form.head_prefix), "")
            for name in held
            if name.startswith(form.head_prefix)
        }
    elif form.head_files:
        head_weights, description, head_pickle = (source / name for name in form.head_files)
        if head_weights.is_file() and description.is_file():
            file = head_weights.resolve()
            names, named = _library_head(load_json(description.resolve()), tensors(file))
            held = tensors(file)
        elif head_pickle.is_file():
            notes.append(f"its head is a pickle ({head_pickle.name}) and stays behind")
            return None
    if not names:
        notes.append(f"it has no head: {_WITHOUT_HEAD}")
        return None
    ours = formats.load(task.format).head_shapes(size.hidden, len(task.labels))
    if not task.labels or not set(names.values()) == set(_CLASSIFIER.values()) == set(ours):
        notes.append(f"its head is not the one that '{task.name}' has here: {_WITHOUT_HEAD}")
        return None
    count = held[next(old for old, new in names.items() if new == "out.bias")].shape[0]
    order = labels or tuple(name for name, _ in sorted(named.items(), key=lambda item: item[1]))
    if labels and (len(order) != count or set(order) != set(task.labels)):
        stray = next((label for label in order if label not in task.labels), "")
        hint = nearest(stray, task.labels) if stray else ""
        raise RequestError(
            f"--labels {clipped(','.join(order))}: takes the {len(task.labels)} classes of"
            f" '{task.name}' ({', '.join(task.labels)}), each once, in the order of the head, which"
            f" has {count}{hint}"
        )
    if len(order) != count or set(order) != set(task.labels):
        own = printable(", ".join(order[:6])) or "none"
        reason = f"the {count} classes of its head have other names ({own})"
        how = (
            f"give those of '{task.name}' ({', '.join(task.labels)}) in the head's order with"
            " --labels"
        )
        notes.append(f"{reason}; {how}. Until then {_WITHOUT_HEAD}")
        return None
    wanted = formats.head_shapes(head_config(task, order, size), size.hidden, size.longest)
    methods.check_tensors({new: held[old] for old, new in names.items()}, wanted)
    if fault := unfit_values(file, held):
        raise Refusal(fault)
    return ForeignHead(file, names, order)


def _library_head(
    description: Any, held: Mapping[str, Tensor]
) -> tuple[dict[str, str], dict[str, Any]]:
    """(tensor in the file → tensor of our head, label → number) of a head saved by `adapters`.

    The tensors' names are "" where the head has another structure than ours.
    """
    table = description.get("config") if isinstance(description, dict) else None
    if not isinstance(description, dict):
        raise Refusal("head_config.json is no JSON object")
    if not isinstance(table, dict):  # the model class's own head: XLM-R's and RoBERTa's are ours
        names = {name: _CLASSIFIER.get(name.removeprefix("classifier."), "") for name in held}
        table = description
    else:
        ours = {
            "head_type": "classification",
            "layers": 2,
            "activation_function": "tanh",
            "use_pooler": False,
            "bias": True,
        }
        start = f"heads.{description.get('name')}."
        fits = all(table.get(key) == value for key, value in ours.items())
        names = {name: _FLEX.get(name.removeprefix(start), "") if fits else "" for name in held}
    label_numbers = table.get("label2id")
    if not isinstance(label_numbers, dict) or any(
        type(value) is not int for value in label_numbers.values()
    ):
        label_numbers = {}
    return names, dict(label_numbers)


def head_config(task: Task, labels: Sequence[str], size: Shape) -> dict[str, Any]:
    """The config.json of the head, as a head that was trained here has it."""
    lengths = {"max_length": Hyper().max_length, "stride": Hyper().max_length // 2}
    return {
        "format": task.format,
        "labels": list(labels),
        "outputs": list(formats.load(task.format).output_names(labels)),
        "hidden": size.hidden,
        "dropout": 0.1,
        "lengths": lengths,
    }
