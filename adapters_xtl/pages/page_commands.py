"""The command that makes a run again, rebuilt from its spec.json.

A training is `xtl recipe TASK …` with every setting that differs from today's defaults and recipe,
an evaluation is `xtl evaluate MODULE …`. Directories of rows and of backbones are those of the
machine that the run was made on; `DIR` stands in their place.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from adapters_xtl import methods
from adapters_xtl.backbones.registry import NAMED
from adapters_xtl.base.errors import Problems, RequestError
from adapters_xtl.pages.page_parts import Command
from adapters_xtl.runs.recipes import read_recipe
from adapters_xtl.runs.records import ModuleReference, Spec
from adapters_xtl.runs.run import Run
from adapters_xtl.runs.settings import Defaults, Overrides, resolve_settings

__all__ = ["command"]

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_FOREIGN = "foreign"  # source of an imported module's rows
_UNTRAINED = "random"  # the name of a parent that was never trained


def command(spec: Spec, specs: Mapping[str, Spec], source: str = "") -> Command:
    """The command line of a run. `specs`: run id → spec of the runs that can be read, where parents
    are looked up; `source`: where its rows came from, as provenance.json has it.
    """
    if source == _FOREIGN:
        line = ["xtl", "hub", "import", "DIR", "--task", spec.task]
        return Command(shlex.join(line), "Imported; DIR is the directory of the module's files.")
    if spec.run is None or spec.kind == "training":
        line, notes = _recipe(spec, specs)
    else:
        line, notes = _evaluation(spec)
    if "DIR" in line:
        notes.append("DIR stands for the directory that the run read.")
    return Command(shlex.join(line), " ".join(notes))


def _recipe(spec: Spec, specs: Mapping[str, Spec]) -> tuple[list[str], list[str]]:
    """Words of `xtl recipe`, and sentences on them."""
    run = spec.run
    notes: list[str] = []
    words = ["xtl", "recipe", spec.module.task if spec.module else spec.task]
    words += ["--backbone", _backbone(spec), "--data", _data(spec)]
    if run is None:
        return [*words, *_bits(spec), *_scored(spec)], notes
    words += ["--method", run.method]
    parent_settings: list[str] = []
    if spec.parents:
        on, parent_settings, notes = _parents(spec, run, specs)
        words += ["--on", ",".join(on), "--compose", run.compose]
    words += _bits(spec)
    if run.from_layer:
        words += ["--from-layer", str(run.from_layer)]
    if run.protocol != "clean":
        words += ["--protocol", run.protocol]
    words += ["--seed", str(run.seed)]
    for setting in _settings(spec, run):
        words += ["--set", setting]
    for setting in parent_settings:
        words += ["--set-parents", setting]
    return [*words, *_scored(spec)], notes


def _evaluation(spec: Spec) -> tuple[list[str], list[str]]:
    """Words of `xtl evaluate`, and sentences on them."""
    module = spec.module
    identity = module.id if module else "MODULE"
    words = ["xtl", "evaluate", identity, "--task", spec.task, "--data", _data(spec)]
    layer = spec.evaluation.layer if spec.evaluation else ""
    words += ["--layer", layer] if layer else []
    return [*words, *_scored(spec)], [f"It scores the module of run {identity}."]


def _backbone(spec: Spec) -> str:
    backbone = spec.backbone
    if backbone.name in NAMED:
        return backbone.name
    if not _HUB_ID.fullmatch(backbone.location):
        return "DIR"
    return backbone.location + (f"@{backbone.revision}" if backbone.revision else "")


def _data(spec: Spec) -> str:
    return spec.data if spec.data in ("embedded", "hub") else "DIR"


def _bits(spec: Spec) -> list[str]:
    asked = spec.request.get("bits", "auto")
    return ["--bits", str(spec.bits)] if asked != "auto" or spec.bits != 32 else []


def _scored(spec: Spec) -> list[str]:
    """Flags that say what is scored, where they differ from the defaults."""
    if spec.evaluation is None:
        return []
    words = []
    if spec.evaluation.max_examples:
        words += ["--set", f"eval.max_examples={spec.evaluation.max_examples}"]
    if spec.request.get("task") == spec.task:  # the flags of a child say nothing of its parent
        for flag in ("languages", "split"):
            value = spec.request.get(flag)
            words += [f"--{flag}", str(value)] if value else []
    return words


# ---------------------------------------------------------------------------- settings


def _settings(spec: Spec, run: Run) -> list[str]:
    """`key=value` of every setting of the run that its recipe and the defaults do not give."""
    hyper: dict[str, Any] = {}
    options: dict[str, Any] = {}
    task = spec.module.task if spec.module else spec.task
    try:
        method = methods.load(run.method)
        fused = run.compose == "fuse"
        usual = resolve_settings(
            read_recipe(task),
            Defaults(
                run.method,
                method.rate_on(spec.backbone.name),
                {} if fused else method.defaults_on(spec.backbone.name),
            ),
            Overrides("--set"),
            embedded=spec.data == "embedded",
            problems=Problems(),
        )
        hyper, options = asdict(usual.hyper), dict(usual.method)
    except (RequestError, ValueError, KeyError):  # a method or recipe that is no longer there
        pass
    changed = [
        f"train.{name}={_toml(value)}"
        for name, value in asdict(run.hyper).items()
        if name not in hyper or _plain(hyper[name]) != _plain(value)
    ]
    if run.compose != "init":  # a copy has its parent's options, and takes no others
        changed += [
            f"method.{name}={_toml(value)}"
            for name, value in run.options.items()
            if name not in options or _plain(options[name]) != _plain(value)
        ]
    return changed


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _toml(value: Any) -> str:
    """A setting's value as `--set` reads it."""
    if isinstance(value, str):
        return value if re.fullmatch(r"[A-Za-z_][\w-]*", value) else json.dumps(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(json.dumps(item) for item in value)}]"
    return json.dumps(value)


# ---------------------------------------------------------------------------- parents


def _parents(
    spec: Spec, run: Run, specs: Mapping[str, Spec]
) -> tuple[list[str], list[str], list[str]]:
    """(what `--on` takes, settings of `--set-parents`, sentences).

    Parents are named by their tasks where that makes the same ones again: trained with the child's
    seed, method and settings that all of them share. Otherwise their runs are named.
    """
    parents = [specs.get(parent.id) for parent in spec.parents]
    found = [parent for parent in parents if parent is not None]
    if len(found) == len(spec.parents) and all(
        parent.run is not None and _shared(parent.run) == _shared(run) for parent in found
    ):
        trained = [
            _settings(parent, parent.run) for parent in found if parent.run and parent.run.tasks
        ]
        others = [
            [setting for setting in _settings(parent, parent.run) if setting.startswith("method.")]
            for parent in found
            if parent.run and not parent.run.tasks
        ]
        chains = _chains(spec.parents, run.compose)
        if all(settings == trained[0] for settings in trained[1:]) and all(
            tuple(ref.id for ref in parent.parents) == chain
            for parent, chain in zip(found, chains, strict=True)
        ):
            settings = (trained or others or [[]])[0]
            return [parent.task for parent in spec.parents], settings, []
    named = spec.parents if run.compose == "fuse" else spec.parents[-1:]
    missing = [f"{parent.task}/{parent.id}" for parent in named if parent.id not in specs]
    sentence = f"The store must hold {', '.join(parent.id for parent in named)}, made beforehand."
    if missing:
        sentence += f" It cannot be read here: {', '.join(missing)}."
    return [parent.id for parent in named], [], [sentence]


def _shared(run: Run) -> tuple[Any, ...]:
    """What a request gives to its parents too."""
    return (run.method, run.backbone, run.bits, run.from_layer, run.seed, run.protocol)


def _chains(parents: Sequence[ModuleReference], compose: str) -> list[tuple[str, ...]]:
    """For each parent the ids of those that it stands on, in order."""
    ids = [parent.id for parent in parents]
    return [() if compose == "fuse" else tuple(ids[:place]) for place in range(len(ids))]
