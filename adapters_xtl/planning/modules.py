"""The modules of a request: its parents and its own, as runs with ids, before any is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from adapters_xtl import methods, tasks
from adapters_xtl.backbones import Backbone
from adapters_xtl.backbones.shape import Shape
from adapters_xtl.base.cache_budget import TOKENIZED, cache_budget
from adapters_xtl.base.errors import Problems, clipped, nearest
from adapters_xtl.data.locate import TrainingFiles
from adapters_xtl.data.own_files import OwnFiles
from adapters_xtl.data.sources import Source
from adapters_xtl.methods import APART, Method, ModuleSpec
from adapters_xtl.planning import training_rows
from adapters_xtl.planning.compositions import RANDOM, SELF, SUM, borrows_parent
from adapters_xtl.planning.evaluations import own_evaluation
from adapters_xtl.planning.fixed_prefix import check_fixed_prefix, no_fixed_prefix
from adapters_xtl.planning.ineffective_settings import (
    holds_every_batch,
    needs_every_token,
    not_fused,
    not_parallel,
)
from adapters_xtl.planning.lookups import Lookups
from adapters_xtl.planning.parent_checks import check_parent
from adapters_xtl.planning.shots import (
    check_shots,
    shot_hyper,
    usual_split,
    without_shots,
)
from adapters_xtl.planning.step_checks import check_steps
from adapters_xtl.runs.hyper import ALL_TOKENS, FIXED, ON_A_CPU, PEFT, WITH_DROPOUT, Hyper
from adapters_xtl.runs.parent_settings import NamedParent, address_of, of_parent, reaches
from adapters_xtl.runs.recipes import Recipe
from adapters_xtl.runs.request import Module, Request
from adapters_xtl.runs.run import Run
from adapters_xtl.runs.seeds import phase_seed
from adapters_xtl.runs.settings import (
    EVALUATION_KEYS,
    Defaults,
    Overrides,
    Settings,
    resolve_settings,
)
from adapters_xtl.runs.store import Store
from adapters_xtl.sharing import module_lookup
from adapters_xtl.tasks import Task

__all__ = ["ModulePlanner"]


@dataclass
class ModulePlanner:
    """Plans the modules of one request; what is wrong is added to `problems`.

    own_files   the requested task's rows, where it is one on somebody's own files
    lean        tasks whose training takes the 8-bit optimizer, because the budget wants it
    described   None, or what finds a parent's description where a plan of sizes is all that is
                wanted: then no rows are looked for and no bundle is fetched
    named_parents  the parents of `--on`, in order; filled by `parents`
    head        the parent whose head scores a task that is retained; found by `requested`
    """

    request: Request
    compose: str
    problems: Problems
    backbone: Backbone
    shape: Shape
    source: Source
    device: str
    bits: int
    dtype: str
    store: Store
    lookups: Lookups
    notify: Callable[[str], None] = module_lookup.silent
    lean: frozenset[str] = frozenset()
    described: Callable[[str], Module | None] | None = None
    own_files: OwnFiles | None = None
    named_parents: list[NamedParent] = field(default_factory=list)
    head: Module | None = None

    def source_of(self, task: str) -> Source:
        """Where the rows of a task come from."""
        own = self.own_files
        return own if own is not None and own.task.name == task else self.source

    @property
    def method(self) -> Method:
        return methods.load(self.request.method)

    def requested(self) -> tuple[tuple[Module, ...], Module | None] | None:
        """(parents in order, the module that the requested task is scored with).

        That module is the task's own, or the last parent where the task trains nothing on top of
        it; None for the bare backbone. The whole is None where a parent could not be planned. The
        English training that shots go on from is the last parent.
        """
        task = tasks.load(self.request.task)
        parents = below = self.parents()
        if parents is None or below is None:
            return None
        if self.compose == SUM and parents:
            below = (self.sum_of(parents),)
            parents = (*parents, *below)
        own = Overrides("--set", self.request.overrides)
        borrows = bool(task.train_from) and not borrows_parent(task, self.request, below)
        if self.request.retained:
            self.head = self._retained_head(task, below)
        elif task.trainable or borrows:
            module = self.trained(task.train_from or task.name, below, own)
            if module is None:
                return None
            # on shots it is trained on more than those of `--on`
            return (*parents, *module.parents[len(below) :]), module
        for key in own.keys - set(EVALUATION_KEYS):
            if key.partition(".")[0] in ("train", "method", "speed"):
                self.problems.add(
                    f"--set {key}: '{task.name}' trains nothing here; --set-parents reaches what it"
                    " evaluates"
                )
            else:
                self.problems.add(
                    f"--set: unknown key '{clipped(key)}'{nearest(key, EVALUATION_KEYS)}"
                )
        return parents, below[-1] if below else None

    def _retained_head(self, task: Task, below: Sequence[Module]) -> Module | None:
        """The parent whose head scores a task on the network that `below` leaves; None where it is
        that of the last of them, and where there is none.
        """
        trained = task.train_from or task.name
        heads = [parent.module for parent in self.named_parents if parent.module.task == trained]
        if task.members or not heads or self.compose == "fuse":
            why = "none of --on is a module of it"
            if task.members:
                why = "it is scored by several heads"
            elif heads:
                why = "a fusion of its parents is trained for a task"
            self.problems.add(f"--retained: nothing is retained of '{task.name}': {why}")
            return None
        return None if heads[-1].id == below[-1].id else heads[-1]

    def sum_of(self, parents: Sequence[Module]) -> Module:
        """The module that computes the sum of parents which were trained apart. Nothing is drawn
        for it, so it has no seed.
        """
        options = [parent.run.options for parent in parents]
        summed: Mapping[str, Any] = options[0]
        if SUM in self.method.compositions:
            summed, wrong = self.method.sum_options(options)
            for problem in wrong:
                self.problems.add(problem)
        if len({parent.run.from_layer for parent in parents}) > 1:
            self.problems.add("--compose sum: the parents begin at different layers")
        settings = Settings(Hyper(), summed)
        run = replace(self._run(SUM, settings, SUM, tuple(parents)), seed=0)
        return Module(SUM, run, tuple(parents), {}, settings)

    def parents(self) -> tuple[Module, ...] | None:
        """The parents named by --on: each trained on those before it (for `init`, as a copy of the
        last of them) or, for `fuse` and `sum`, each on the bare backbone.
        """
        chain: tuple[Module, ...] = ()
        self._check_addresses()
        for position, name in enumerate(self.request.on, start=1):
            values = of_parent(self.request.parent_overrides, position, name)
            overrides = Overrides("--set-parents", values)
            below = () if self.compose in APART else chain
            if name == RANDOM:
                if below and self.compose == "init":
                    self.problems.add(
                        f"--on {','.join(self.request.on)}: an untrained module is no copy of"
                        f" {below[-1].task}; in a chain of copies (init) '{RANDOM}' comes first"
                    )
                parent: Module | None = self.untrained(below, overrides)
            elif name == SELF or name in tasks.names():
                parent = self._parent_task(name, below, overrides)
            else:
                parent = self._existing(name, below)
            if parent is None:
                return None
            chain = (*(chain if self.compose in APART else parent.parents), parent)
            self.named_parents.append(NamedParent(position, name, parent))
        if self.compose in APART and self.compose in self.method.compositions:
            different = {module.id for module in chain}
            if len(different) < max(2, len(self.request.on)):
                self.problems.add(
                    f"--compose {self.compose} joins two or more different parents: --on A,B"
                )
        return chain

    def _check_addresses(self) -> None:
        """Every address of `--set-parents` names one of the parents."""
        named = self.request.on
        for key, _ in self.request.parent_overrides if named else ():
            address, _ = address_of(key)
            if not any(reaches(address, place, name) for place, name in enumerate(named, start=1)):
                self.problems.add(
                    f"--set-parents {clipped(key)}: --on names no parent '{clipped(address)}'"
                    f"{nearest(address, named)}; parents are addressed as --on names them, or by"
                    " their position from 1"
                )

    def _parent_task(
        self, name: str, below: tuple[Module, ...], overrides: Overrides
    ) -> Module | None:
        task = tasks.load(self.request.task if name == SELF else name)
        trained = tasks.load(task.train_from or task.name)
        if not trained.trainable:
            self.problems.add(
                f"--on {name}: '{task.name}' trains nothing, so nothing can stand on it"
            )
            return None
        return self.trained(trained.name, below, overrides)

    def trained(
        self, name: str, parents: tuple[Module, ...], overrides: Overrides
    ) -> Module | None:
        """The module that training task `name` on `parents` gives; None where rows are lacking.

        With shots after the English rows it is a copy of the module that those alone give, which is
        planned as its last parent.
        """
        task = tasks.load(name)
        recipe = Recipe()
        with self.problems.catching():
            recipe = self.lookups.recipe(name)
        compose = "" if not parents else "stack" if self.compose == SUM else self.compose
        embedded = self.source_of(name).kind == "embedded"
        settings = self._settings(recipe, compose, overrides, parents, embedded=embedded)
        if settings.hyper.max_length > self.shape.longest:
            self.problems.add(
                f"train.max_length={settings.hyper.max_length} for '{name}': {self.backbone.name}"
                f" reads at most {self.shape.longest} tokens"
            )
        check_steps(task, settings.hyper, self.problems)
        hyper = settings.hyper
        check_shots(task, hyper, compose, overrides.keys, overrides.flag, self.problems)
        if not hyper.shots or self.problems.messages:
            settings = replace(settings, hyper=without_shots(hyper))
            return self._module(task, settings, compose, parents, overrides.flag)
        settings = replace(settings, hyper=shot_hyper(hyper))
        if hyper.after_english:
            english = replace(settings, hyper=without_shots(hyper))
            before = self._module(task, english, compose, parents, overrides.flag, hyper)
            if before is None:
                return None
            parents, compose = (*parents, before), "init"
            settings = replace(settings, method=dict(before.run.options))
        return self._module(task, settings, compose, parents, overrides.flag)

    def _module(
        self,
        task: Task,
        settings: Settings,
        compose: str,
        parents: tuple[Module, ...],
        flag: str,
        later: Hyper | None = None,
    ) -> Module | None:
        """The module of a training with these settings; None where rows are lacking. `later`: the
        settings of a training on shots that goes on from it.
        """
        name, hyper = task.name, settings.hyper
        members = self._members(task, settings, flag)
        if not training_rows.check(members, hyper, self.request.protocol, flag, self.problems):
            return None
        if "token_budget" not in settings.named and holds_every_batch(self.device, hyper, members):
            hyper = replace(hyper, token_budget=0)
        options = [settings.method, *(parent.run.options for parent in parents)]
        if "last_layer" not in settings.named and needs_every_token(members, options):
            hyper = replace(hyper, last_layer=ALL_TOKENS)
        settings = replace(settings, hyper=hyper)
        if name in self.lean:
            settings = replace(settings, hyper=replace(hyper, optimizer="adamw8bit"))
        files: dict[str, TrainingFiles] = {}
        for member in members:
            with self.problems.catching():
                files[member] = self._training_files(member, hyper)
        if len(files) < len(members):
            return None
        digests = [files[member].digests() for member in members]
        run = self._run(name, settings, compose, parents)
        run = replace(
            run,
            tasks=tuple((member, tasks.load(member).version) for member in members),
            data={
                part: tuple(sha for digest in digests for sha in digest[part])
                for part in ("train", "select")
            },
        )
        module = Module(name, run, parents, files, settings)
        if self.described is not None:
            return module
        source = self.source_of(name)
        split = usual_split(task, source, later or hyper)
        limit = settings.eval_max_examples
        evaluation = own_evaluation(
            module, source, self.store, self.lookups, self.problems, split, limit
        )
        return replace(module, evaluation=evaluation)

    def untrained(self, parents: tuple[Module, ...], overrides: Overrides) -> Module:
        """A frozen module that was never trained: the control for what a parent's training is
        worth. Of its settings only the method's options reach it.
        """
        options = tuple(pair for pair in overrides.values if pair[0].startswith("method."))
        compose = "stack" if parents else ""
        settings = self._settings(
            Recipe(), compose, Overrides(overrides.flag, options), parents, trains=False
        )
        run = self._run(RANDOM, settings, compose, parents)
        return Module(RANDOM, run, parents, {}, settings)

    def _settings(
        self,
        recipe: Recipe,
        compose: str,
        overrides: Overrides,
        parents: tuple[Module, ...],
        *,
        embedded: bool = False,
        trains: bool = True,
    ) -> Settings:
        """`trains`: whether the module trains; one that does not takes no defaults of training."""
        method, lacking = self.method, no_fixed_prefix(self.request, compose, parents)
        train: dict[str, Any] = {}
        if trains:
            train = {"prefix": WITH_DROPOUT if lacking else FIXED}
            train |= ON_A_CPU if self.device == "cpu" else {}
        defaults = Defaults(
            self.request.method,
            method.rate_on(self.backbone.name),
            {} if compose == "fuse" else method.defaults_on(self.backbone.name),
            self.backbone.name,
            train,
        )
        settings = resolve_settings(
            recipe,
            defaults,
            overrides,
            embedded=embedded,
            problems=self.problems,
        )
        if settings.hyper.prefix == FIXED:
            check_fixed_prefix(lacking, overrides.flag, self.problems)
        if settings.speed.keep_tokenized:
            with self.problems.catching():
                cache_budget(TOKENIZED)
        if compose == "init":
            options = self._copied_options(parents[-1], overrides)
        else:
            spec = ModuleSpec(settings.method, self.shape, self.request.from_layer, compose)
            options, wrong = method.check(spec)
            for problem in wrong:
                self.problems.add(problem)
        hyper = settings.hyper
        if "lora" not in settings.named and not_fused(self.request.method, self.bits, options):
            hyper = replace(hyper, lora=PEFT)
        alone = not_parallel(self.request.method, self.bits, hyper)
        if "parallel_passes" not in settings.named and alone:
            hyper = replace(hyper, parallel_passes=1)
        return replace(settings, hyper=hyper, method=options)

    def _copied_options(self, parent: Module, overrides: Overrides) -> Mapping[str, Any]:
        """The options of a module that starts as a copy of its parent: the parent's, since the copy
        has the same tensors.
        """
        for key in overrides.keys:
            if key.startswith("method."):
                self.problems.add(
                    f"{overrides.flag} {key}: a module that starts as a copy of its parent"
                    " (--compose init) has its parent's options; --set-parents reaches those"
                )
        if parent.run.from_layer != self.request.from_layer:
            self.problems.add(
                f"--from-layer {self.request.from_layer}: {parent}, of which the module starts as a"
                f" copy, begins at layer {parent.run.from_layer}"
            )
        return dict(parent.run.options)

    def _run(self, name: str, settings: Settings, compose: str, parents: tuple[Module, ...]) -> Run:
        """The run of a module of task `name`, of no rows yet."""
        seed = self.request.seed
        if self.request.reseed:
            seed = phase_seed(seed, [*(parent.task for parent in parents), name])
        return Run(
            tasks=(),
            data={"train": (), "select": ()},
            backbone=self.backbone.fingerprint,
            method=self.request.method,
            options=settings.method,
            compose=compose,
            bits=self.bits,
            dtype=self.dtype if settings.hyper.dtype == "auto" else settings.hyper.dtype,
            from_layer=self.request.from_layer,
            hyper=settings.hyper,
            seed=seed,
            protocol=self.request.protocol,
            parents=tuple(parent.id for parent in parents),
        )

    def _training_files(self, name: str, hyper: Hyper) -> TrainingFiles:
        if self.described is not None:
            return TrainingFiles((), (), ())
        source, task = self.source_of(name), tasks.load(name)
        files = self.lookups.training(
            source, task, self.request.protocol, hyper.languages, hyper.matched, hyper.genres
        )
        if not hyper.shots:
            return files
        return replace(files, shots=self.lookups.shots(source, task, hyper.shot_language))

    def _members(self, task: Task, settings: Settings, flag: str) -> tuple[str, ...]:
        """The tasks that a module is trained on: one, or those of a task of several."""
        chosen = settings.hyper.tasks
        if not task.members:
            if chosen:
                self.problems.add(
                    f"{flag}: train.tasks is for the task 'multi', not for '{task.name}'"
                )
            return (task.name,)
        if not chosen:
            return task.members
        trainable = [name for name in tasks.names() if tasks.load(name).train]
        for name in chosen:
            if name not in trainable:
                self.problems.add(
                    f"{flag}: train.tasks: '{clipped(name)}' cannot be"
                    f" trained{nearest(name, trainable)}"
                )
        if len(set(chosen)) < len(chosen):
            self.problems.add(f"{flag}: train.tasks names a task twice")
        return tuple(name for name in dict.fromkeys(chosen) if name in trainable)

    def _existing(self, name: str, below: tuple[Module, ...]) -> Module | None:
        """A parent that is named by its run, bundle or hub id, held against what is asked."""
        parent: Module | None = None
        reported = len(self.problems.messages)
        with self.problems.catching():
            if self.described is not None:
                parent = self.described(name)
            else:
                path = module_lookup.find(name, self.store, self.notify)
                parent = module_lookup.read(path, self.notify) if path is not None else None
        if parent is None:
            if len(self.problems.messages) == reported:
                self.problems.add(
                    f"--on {clipped(name)}: no task, no run or bundle directory, no run id and no"
                    f" hub id{nearest(name, (*tasks.names(), RANDOM, SELF))}"
                )
            return None
        check_parent(name, parent, below, self.request, self.compose, self.backbone, self.problems)
        return parent
