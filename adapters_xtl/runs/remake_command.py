"""The command that makes a run again, from its spec.json."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from adapters_xtl import tasks
from adapters_xtl.methods import APART, DEFAULT
from adapters_xtl.runs.parent_settings import of_parent, of_parents_before
from adapters_xtl.runs.records import Spec

__all__ = ["remake_command"]

SELF = "self"  # the name, behind --on, of the requested task itself
# flag of `xtl recipe` → (key of the request, the flag's default)
_PLAIN_FLAGS = {
    "--bits": ("bits", "auto"),
    "--device": ("device", "auto"),
    "--protocol": ("protocol", "clean"),
    "--from-layer": ("from_layer", 0),
    "--seed": ("seed", 1),
    "--memory": ("memory", None),
}


def remake_command(spec: Spec, runs: str = "runs") -> str:
    """One line for a shell: `xtl recipe …` for a training or the bare backbone, `xtl evaluate …`
    for an evaluation of a module that the store has.

    The backbone and the data are named, which another machine could choose otherwise. Under
    `--bits auto` it may compute in another type, and then its run has another id. `runs`: the
    store's directory. "" for a module that was imported.
    """
    if "method" not in spec.request:
        return ""
    retained = bool(spec.request.get("retained"))
    if spec.kind == "evaluation" and spec.module is not None and not retained:
        words = _evaluation(spec, spec.module.id)
    else:
        words = _recipe(spec)
    words += _flag("--runs", runs) if runs != "runs" else []
    return shlex.join(["xtl", *words])


def _evaluation(spec: Spec, module: str) -> list[str]:
    request = spec.request
    words = ["evaluate", module]
    words += _own_rows(spec) or _flag("--task", spec.task)
    words += _flag("--data", _data(spec))
    words += _flag("--languages", request.get("languages")) + _flag("--split", _split(spec))
    if request.get("device", "auto") != "auto":
        words += _flag("--device", request["device"])
    if spec.evaluation is not None:
        words += _flag("--layer", spec.evaluation.layer)
        if spec.evaluation.max_examples:
            words += _flag("--set", f"eval.max_examples={spec.evaluation.max_examples}")
        if spec.evaluation.merged:
            words += _flag("--set", "eval.merged=true")
    return words + _switches(request)


def _split(spec: Spec) -> str | None:
    """The split that was asked for; None where it was the task's usual one."""
    split: str | None = spec.request.get("split")
    return split


def _recipe(spec: Spec) -> list[str]:
    request = spec.request
    on: Sequence[str] = request.get("on") or ()
    overrides, parent_overrides = request.get("overrides"), request.get("parent_overrides")
    task, compose = request["task"], request.get("compose")
    languages, split = request.get("languages"), request.get("split")
    own_rows: list[str] = []
    if spec.kind == "training" and _is_parent(spec, on):
        # trained with its own settings among them, on the parents before it
        position = _position(spec, on)
        overrides = of_parent(parent_overrides or (), position, on[position - 1])
        on = on[: len(spec.parents)]
        parent_overrides = of_parents_before(parent_overrides or (), on)
        on = [request["task"] if name == SELF else name for name in on]
        compose = compose if on else None
        task, languages, split = spec.task, None, None
    elif spec.own_rows is not None:
        task, own_rows = spec.own_rows.format, _own_rows(spec)
    elif spec.evaluation is not None and task != spec.task:
        # trained for a task that borrows its training: merging is for that task's scores
        overrides = [pair for pair in overrides or () if pair[0] != "eval.merged"]
        task, languages, split = spec.task, None, None
    if _is_before_shots(spec, overrides or ()):
        # the English training that another one with shots goes on from
        overrides = [pair for pair in overrides or () if not pair[0].startswith("train.shot")]
        languages, split = None, None
    words = ["recipe", task, *own_rows]
    words += _flag("--on", ",".join(on)) + _flag("--compose", compose)
    method = request.get("method", DEFAULT)
    words += _flag("--method", method) if method != DEFAULT else []
    words += _flag("--backbone", request.get("backbone") or spec.backbone.name)
    words += _flag("--data", _data(spec))
    words += _flag("--languages", languages) + _flag("--split", split)
    for flag, (key, default) in _PLAIN_FLAGS.items():
        if request.get(key, default) != default:
            words += _flag(flag, request[key])
    for flag, pairs in (("--set", overrides), ("--set-parents", parent_overrides)):
        # a parent's own setting stands behind one for all parents, and holds
        for key, value in dict(pairs or ()).items():
            words += _flag(flag, f"{key}={_toml(value)}")
    words += ["--reseed"] if request.get("reseed") else []
    words += ["--retained"] if request.get("retained") and task == request["task"] and on else []
    return words + _switches(request)


def _is_parent(spec: Spec, on: Sequence[str]) -> bool:
    """Whether a training was made as a parent of what its request names. An untrained module
    (`random`) is made by that request alone.
    """
    if spec.evaluation is None:
        return False
    if spec.request.get("retained"):  # whose own module is none
        return True
    apart = spec.request.get("compose") in APART
    return bool(on) and (not spec.parents if apart else len(spec.parents) < len(on))


def _is_before_shots(spec: Spec, overrides: Sequence[Sequence[Any]]) -> bool:
    """Whether a training has no shots though its request names some."""
    has_shots = spec.run is not None and bool(spec.run.hyper.shots)
    return not has_shots and any(key == "train.shots" and count for key, count in overrides)


def _position(spec: Spec, on: Sequence[str]) -> int:
    """The position in `--on`, from 1, of the parent that a training was made as. In a chain all
    others before it are its parents; of parents that stand apart it has the name.
    """
    if spec.parents or spec.request.get("compose") not in APART:
        return len(spec.parents) + 1
    names = [spec.request["task"] if name == SELF else name for name in on]
    trained = [
        tasks.load(name).train_from or name if tasks.exists(name) else name for name in names
    ]
    return trained.index(spec.task) + 1


def _own_rows(spec: Spec) -> list[str]:
    """The flags that name somebody's own files; none where the rows are not of such."""
    named: Mapping[str, Any] | None = spec.request.get("own_rows")
    if named is None or spec.own_rows is None:
        return []
    flags = {"--data-file": "train", "--select-file": "select", "--test-file": "test"}
    words = [word for flag, key in flags.items() for name in named[key] for word in (flag, name)]
    words += _flag("--text-columns", ",".join(named["text_columns"]))
    return words + _flag("--label", named["label"])


def _data(spec: Spec) -> str:
    """The data as the flag has it: a mirror's directory is in the request. Own files have flags of
    their own.
    """
    return str(spec.request.get("data") or ("" if spec.own_rows is not None else spec.data))


def _switches(request: Mapping[str, Any]) -> list[str]:
    return [
        flag
        for flag, key in (("--strict", "strict"), ("--allow-mismatch", "allow_mismatch"))
        if request.get(key)
    ]


def _flag(flag: str, value: object) -> list[str]:
    return [] if value in (None, "") else [flag, str(value)]


def _toml(value: Any) -> str:
    """A setting as TOML; texts as they are."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        inner = ", ".join(f"{json.dumps(key)} = {_inner(item)}" for key, item in value.items())
        return f"{{{inner}}}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_inner, value))}]"
    return json.dumps(value)


def _inner(value: Any) -> str:
    return json.dumps(value) if isinstance(value, str) else _toml(value)
