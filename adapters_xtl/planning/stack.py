"""The stack of a request: its parents and its own module, as runs with ids, before anything is
trained.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from adapters_xtl import tasks
from adapters_xtl.backbones import Backbone, registry
from adapters_xtl.base.errors import Problems, XtlError, nearest
from adapters_xtl.data.locate import TrainingFiles, locate_training
from adapters_xtl.data.sources import Source
from adapters_xtl.memory.activations import shape
from adapters_xtl.planning.evaluations import own_evaluation
from adapters_xtl.runs.request import Declared, Module, Request
from adapters_xtl.runs.run import Run
from adapters_xtl.runs.settings import Settings, read_recipe, resolve_settings
from adapters_xtl.runs.store import Store
from adapters_xtl.sharing import lineage
from adapters_xtl.tasks import Task

__all__ = ["RANDOM", "SELF", "Stacks", "attempt"]

RANDOM, SELF = (
    "random",
    "self",
)  # parents that are no tasks: an untrained module; the requested task itself
T = TypeVar("T")


def attempt(
    problems: Problems, call: Callable[[], T], kinds: list[type[XtlError]] | None = None
) -> T | None:
    """What `call` returns; an error is added to `problems`, its type to `kinds`, and gives None."""
    try:
        return call()
    except XtlError as error:
        problems.catch(error)
        if kinds is not None:
            kinds.append(type(error))
        return None


@dataclass
class Stacks:
    """Plans the modules of one request; what is wrong is added to `problems`."""

    request: Request
    methods: Mapping[str, Declared]
    problems: Problems
    backbone: Backbone
    source: Source
    bits: int
    dtype: str
    store: Store
    notify: Callable[[str], None] = lineage.silent
    lean: frozenset[str] = frozenset()  # tasks whose training needs the 8-bit optimizer

    def module(
        self,
        name: str,
        parents: tuple[Module, ...],
        overrides: tuple[tuple[str, Any], ...],
        flag: str,
        compose: str,
    ) -> Module | None:
        task = tasks.load(name)
        method = self.methods[self.request.method]
        recipe, path = attempt(self.problems, lambda: read_recipe(name)) or ({}, None)
        settings = resolve_settings(
            recipe=recipe,
            path=path,
            method=self.request.method,
            methods=self.methods,
            method_defaults={} if compose == "fuse" and parents else method.DEFAULTS,
            method_lr=method.LR,
            backbone=self.backbone,
            source=self.source.kind,
            overrides=overrides,
            flag=flag,
            problems=self.problems,
        )
        form = attempt(
            self.problems, lambda: shape(registry.config(self.backbone), self.backbone.name)
        )
        if form is not None and settings.hyper.max_length > form.longest:
            self.problems.add(
                f"train.max_length={settings.hyper.max_length} for '{name}': {self.backbone.name}"
                f" reads at most {form.longest} tokens"
            )
        if name in self.lean:
            settings = replace(settings, hyper=replace(settings.hyper, optimizer="adamw8bit"))
        names = self._members(task, settings, flag)
        members: dict[str, TrainingFiles] = {}
        for member in names:
            found = attempt(
                self.problems,
                lambda member=member: locate_training(  # type: ignore[misc]
                    self.source, tasks.load(member), self.request.protocol, tasks.load
                ),
            )
            if found is not None:
                members[member] = found
        if len(members) < len(names):
            return None
        shas = [members[member].digests() for member in names]
        run = Run(
            tasks=tuple((member, tasks.load(member).version) for member in names),
            data={
                part: tuple(sha for found in shas for sha in found[part])
                for part in ("train", "select")
            },
            backbone=self.backbone.fingerprint,
            method=self.request.method,
            options=settings.method,
            compose=compose if parents else "",
            bits=self.bits,
            dtype=self._dtype(settings),
            from_layer=self.request.from_layer,
            hyper=settings.hyper,
            seed=self.request.seed,
            protocol=self.request.protocol,
            parents=tuple(parent.id for parent in parents),
        )
        module = Module(name, run, parents, members, settings)
        evaluation = own_evaluation(module, self.source, self.store, self.problems)
        return replace(module, evaluation=evaluation)

    def untrained(self, parents: tuple[Module, ...]) -> Module:
        """A frozen module that was never trained: the control for what a parent's training is
        worth.
        """
        chosen = tuple(
            each for each in self.request.parent_overrides if each[0].startswith("method.")
        )
        method = self.methods[self.request.method]
        settings = resolve_settings(
            recipe={},
            path=None,
            method=self.request.method,
            methods=self.methods,
            method_defaults=method.DEFAULTS,
            method_lr=method.LR,
            backbone=self.backbone,
            source=self.source.kind,
            overrides=chosen,
            flag="--set-parents",
            problems=self.problems,
        )
        run = Run(
            tasks=(),
            data={"train": (), "select": ()},
            backbone=self.backbone.fingerprint,
            method=self.request.method,
            options=settings.method,
            compose="stack" if parents else "",
            bits=self.bits,
            dtype=self._dtype(settings),
            from_layer=self.request.from_layer,
            hyper=settings.hyper,
            seed=self.request.seed,
            protocol=self.request.protocol,
            parents=tuple(parent.id for parent in parents),
        )
        return Module(RANDOM, run, parents, {}, settings)

    def _dtype(self, settings: Settings) -> str:
        return self.dtype if settings.hyper.dtype == "auto" else settings.hyper.dtype

    def _members(self, task: Task, settings: Settings, flag: str) -> tuple[str, ...]:
        if not task.members:
            if settings.hyper.tasks:
                self.problems.add(
                    f"{flag}: train.tasks is for the task 'multi', not for '{task.name}'"
                )
            return (task.name,)
        if settings.hyper.tasks:
            known = [name for name in tasks.names() if tasks.load(name).train]
            for name in settings.hyper.tasks:
                if name not in known:
                    self.problems.add(
                        f"{flag}: train.tasks: '{name}' cannot be trained{nearest(name, known)}"
                    )
            if len(set(settings.hyper.tasks)) < len(settings.hyper.tasks):
                self.problems.add(f"{flag}: train.tasks names a task twice")
            return tuple(name for name in dict.fromkeys(settings.hyper.tasks) if name in known)
        return task.members

    def chain(self, names: tuple[str, ...], compose: str) -> tuple[Module, ...] | None:
        """The parents named by --on: each trained on those before it or, for `fuse`, each on the
        bare backbone.
        """
        chain: tuple[Module, ...] = ()
        for name in names:
            below = () if compose == "fuse" else chain
            if name == RANDOM:
                found = self.untrained(below)
            elif name == SELF or name in tasks.names():
                task = tasks.load(self.request.task if name == SELF else name)
                trained = task.train_from or task.name
                if not tasks.load(trained).trainable:
                    self.problems.add(
                        f"--on {name}: '{task.name}' trains nothing, so nothing can stand on it"
                    )
                    return None
                built = self.module(
                    trained, below, self.request.parent_overrides, "--set-parents", compose
                )
                if built is None:
                    return None
                found = built
            else:
                existing = self._existing(name, below)
                if existing is None:
                    return None
                if compose != "fuse":
                    chain = existing.parents
                found = existing
            chain = (*chain, found)
        known = (
            "fuse" in self.methods[self.request.method].COMPOSES
        )  # where not, that is said already
        if (
            compose == "fuse"
            and known
            and len({module.id for module in chain}) < max(2, len(names))
        ):
            self.problems.add("--compose fuse joins two or more different parents: --on A,B")
        return chain

    def _existing(self, name: str, below: tuple[Module, ...]) -> Module | None:
        """A parent that is named by its run, bundle or hub id, held against what is asked."""
        known = len(self.problems.messages)
        path = attempt(self.problems, lambda: lineage.find(name, self.store, self.notify))
        if path is None:
            if len(self.problems.messages) == known:
                self.problems.add(
                    f"--on {name}: no task, no run or bundle directory, no run id and no hub id"
                    f"{nearest(name, (*tasks.names(), RANDOM, SELF))}"
                )
            return None
        found = attempt(self.problems, lambda: lineage.read(path, self.notify))
        if found is None:
            return None
        if below and tuple(parent.id for parent in found.parents) != tuple(
            module.id for module in below
        ):
            self.problems.add(
                f"--on {name}: it was not trained on {below[-1]}, the one named before it"
            )
        if self.request.compose == "fuse" and found.parents:
            self.problems.add(
                f"--on {name}: fusion takes parents that were trained on the bare backbone, and"
                f" this one was trained on {found.parents[-1]}"
            )
        if found.run.compose == "fuse":
            self.problems.add(
                f"--on {name}: a fused module cannot be a parent; stack on one of its own parents"
                " instead"
            )
        if found.run.method != self.request.method:
            self.problems.add(
                f"--on {name}: a {found.run.method} module, but this request is"
                f" {self.request.method}"
            )
        if found.run.backbone != self.backbone.fingerprint and not self.request.allow_mismatch:
            self.problems.add(
                f"--on {name}: trained on a backbone with fingerprint {found.run.backbone[:12]},"
                f" but {self.backbone.name} has {self.backbone.fingerprint[:12]} (--allow-mismatch"
                " to insist)"
            )
        return found
