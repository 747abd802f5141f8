"""A request → the runs it needs, with their ids, before any model is loaded or any row is read.

All that is wrong with a request is found here (or in the data) and reported at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from adapters_xtl import fingerprint, tasks
from adapters_xtl.canon import digest, read_json
from adapters_xtl.errors import Problems, RequestError, XtlError, nearest
from adapters_xtl.provenance import gpu, native_dtype
from adapters_xtl.request import Declared, Evaluation, Module, Plan, Request
from adapters_xtl.sources import Located, Source, Training, locate_report, locate_training, open_source
from adapters_xtl.spec import (
    BITS,
    COMPOSES,
    PROTOCOLS,
    Backbone,
    Hyper,
    Run,
    Settings,
    Task,
    read_recipe,
    resolve_settings,
)
from adapters_xtl.store import Store

__all__ = ["find_run", "make", "own_evaluation"]

T = TypeVar("T")


def _attempt(problems: Problems, call: Callable[[], T]) -> T | None:
    try:
        return call()
    except XtlError as error:
        problems.catch(error)
        return None


def _languages(task: Task, asked: str | None, source: Source, problems: Problems) -> tuple[tuple[str, ...], bool]:
    """(codes, whether they were named one by one)."""
    sets = {**task.languages, "all": task.all_languages}
    if asked is None:
        name = "all" if source.kind == "embedded" else next(iter(task.languages))
        return sets[name], False
    if asked in sets:
        return sets[asked], False
    codes = tuple(dict.fromkeys(code.strip() for code in asked.split(",") if code.strip()))
    for code in codes:
        if code not in task.all_languages:
            problems.add(f"--languages: task '{task.name}' has no language or set '{code}'"
                         f"{nearest(code, (*task.all_languages, *sets))}")  # fmt: skip
    if not codes:
        problems.add("--languages: expected codes separated by commas, e.g. de,zh")
    return codes, True


def _evaluation(task: Task, source: Source, run: Run | None, bare: Mapping[str, Any], *, languages: str | None,
                split: str | None, limit: int, members: Iterable[str], problems: Problems) -> Evaluation:  # fmt: skip
    scored = [tasks.load(name) for name in members] if task.format == "multi" else [task]
    files: dict[str, dict[str, tuple[Located, ...]]] = {}
    lacking: dict[str, dict[str, str]] = {}
    splits: dict[str, str] = {}
    explicit = False
    if limit and task.scorer == "bucc":
        problems.add("--set eval.max_examples: bucc is mined whole; a part of its sentences measures nothing")
    for each in scored:
        codes, named = _languages(each, languages, source, problems)
        explicit = explicit or named
        known = list(each.report) if source.kind != "embedded" else list(each.report)[:1]
        if split is not None and split not in known:
            hint = " (the embedded rows have one)" if source.kind == "embedded" else ""
            problems.add(f"--split {split}: task '{each.name}' reports {', '.join(known)}{hint}")
            continue
        splits[each.name] = split or known[0]
        found, without = locate_report(source, each, splits[each.name], [c for c in codes if c in each.all_languages])
        if without and (named or not found):
            for complaint in dict.fromkeys(without.values()):
                problems.add(complaint)
        files[each.name], lacking[each.name] = found, without
    shas = {name: {code: [sha for located in group for sha in located.digests] for code, group in by.items()}
            for name, by in files.items()}  # fmt: skip
    key = {
        "module": run.digest if run else None, "bare": None if run else dict(bare),
        "tasks": [[each.name, each.version] for each in scored], "splits": splits, "files": shas, "limit": limit,
    }  # fmt: skip
    return Evaluation(digest(key)[:12], splits, files, lacking, explicit, limit)


def find_run(text: str, store: Store) -> Path | None:
    """A finished run named by its directory or by its id; None when `text` is neither."""
    path = Path(text)
    if (path / "manifest.json").is_file():
        return path.resolve()
    found = store.by_id(text)
    return found[0] if found else None


def _existing(path: Path) -> Module:
    """The module of a finished training run, with its parents found beside it."""
    spec = read_json(path / "spec.json")
    if spec.get("kind") != "training":
        raise RequestError(f"{path}: an evaluation, not a trained module")
    fields = dict(spec["run"])
    fields["hyper"] = Hyper(**{**fields["hyper"], "tasks": tuple(fields["hyper"]["tasks"])})
    fields["tasks"] = tuple((name, version) for name, version in fields["tasks"])
    fields["data"] = {name: tuple(shas) for name, shas in fields["data"].items()}
    fields["parents"] = tuple(fields["parents"])
    parents = []
    for entry in spec["parents"]:
        beside = path.parent.parent / entry["task"] / entry["id"]
        if not (beside / "manifest.json").is_file():
            raise RequestError(f"{path}: its parent {entry['task']}/{entry['id']} is not beside it ({beside})")
        parents.append(_existing(beside))
    return Module(spec["task"], Run(**fields), tuple(parents), existing=path)


@dataclass
class _Planner:
    request: Request
    methods: Mapping[str, Declared]
    problems: Problems
    backbone: Backbone
    source: Source
    bits: int
    dtype: str
    store: Store

    def module(self, name: str, parents: tuple[Module, ...], overrides: tuple[tuple[str, Any], ...], flag: str,
               compose: str) -> Module | None:  # fmt: skip
        task = tasks.load(name)
        method = self.methods[self.request.method]
        recipe, path = _attempt(self.problems, lambda: read_recipe(name)) or ({}, None)
        settings = resolve_settings(
            recipe=recipe, path=path, method=self.request.method, methods=self.methods, method_defaults=method.DEFAULTS,
            method_lr=method.LR, backbone=self.backbone, source=self.source.kind, overrides=overrides, flag=flag,
            problems=self.problems,
        )  # fmt: skip
        names = self._members(task, settings, flag)
        members: dict[str, Training] = {}
        for member in names:
            found = _attempt(self.problems, lambda member=member: locate_training(  # type: ignore[misc]
                self.source, tasks.load(member), self.request.protocol, tasks.load))  # fmt: skip
            if found is not None:
                members[member] = found
        if len(members) < len(names):
            return None
        shas = [members[member].digests() for member in names]
        run = Run(
            tasks=tuple((member, tasks.load(member).version) for member in names),
            data={part: tuple(sha for found in shas for sha in found[part]) for part in ("train", "select")},
            backbone=self.backbone.fingerprint, method=self.request.method, options=settings.method,
            compose=compose if parents else "", bits=self.bits, dtype=self._dtype(settings),
            from_layer=self.request.from_layer, hyper=settings.hyper, seed=self.request.seed,
            protocol=self.request.protocol, parents=tuple(parent.id for parent in parents),
        )  # fmt: skip
        return Module(name, run, parents, members, settings)

    def _dtype(self, settings: Settings) -> str:
        return self.dtype if settings.hyper.dtype == "auto" else settings.hyper.dtype

    def _members(self, task: Task, settings: Settings, flag: str) -> tuple[str, ...]:
        if task.format != "multi":
            if settings.hyper.tasks:
                self.problems.add(f"{flag}: train.tasks is for the task 'multi', not for '{task.name}'")
            return (task.name,)
        if settings.hyper.tasks:
            known = [name for name in tasks.names() if tasks.load(name).train]
            for name in settings.hyper.tasks:
                if name not in known:
                    self.problems.add(f"{flag}: train.tasks: '{name}' cannot be trained{nearest(name, known)}")
            if len(set(settings.hyper.tasks)) < len(settings.hyper.tasks):
                self.problems.add(f"{flag}: train.tasks names a task twice")
            return tuple(name for name in dict.fromkeys(settings.hyper.tasks) if name in known)
        return task.members

    def chain(self, names: tuple[str, ...], compose: str) -> tuple[Module, ...] | None:
        """The parents named by --on, each trained on those before it."""
        chain: tuple[Module, ...] = ()
        for name in names:
            if name in tasks.names():
                trained = tasks.load(name).train_from or name
                if not tasks.load(trained).train and tasks.load(trained).format != "multi":
                    self.problems.add(f"--on {name}: '{name}' trains nothing, so nothing can stand on it")
                    return None
                built = self.module(trained, chain, self.request.parent_overrides, "--set-parents", compose)
                if built is None:
                    return None
                chain = (*chain, built)
                continue
            path = find_run(name, self.store)
            if path is None:
                self.problems.add(f"--on {name}: no task, no run directory and no run id{nearest(name, tasks.names())}")
                return None
            found = _attempt(self.problems, lambda path=path: _existing(path))  # type: ignore[misc]
            if found is None:
                return None
            if chain and tuple(parent.id for parent in found.parents) != tuple(module.id for module in chain):
                self.problems.add(f"--on {name}: it was not trained on {chain[-1]}, the one named before it")
            if (found.run.backbone, found.run.method) != (self.backbone.fingerprint, self.request.method):
                self.problems.add(
                    f"--on {name}: a {found.run.method} module on backbone {found.run.backbone[:12]}, but this request is "
                    f"{self.request.method} on {self.backbone.name} ({self.backbone.fingerprint[:12]})"
                )
            chain = (*found.parents, found)
        return chain


def _resolve_bits(request: Request, device: str, problems: Problems) -> tuple[int, str]:
    """(bits of the frozen weights, compute type)."""
    native = native_dtype(device)
    if request.bits == "auto":
        return (16 if device == "cuda" and request.method != "full" else 32), native
    if not request.bits.isdigit() or int(request.bits) not in BITS:
        problems.add(f"--bits {request.bits}: takes auto, {', '.join(map(str, BITS))}")
        return 32, native
    bits = int(request.bits)
    if request.method == "full" and bits != 32:
        problems.add(f"--bits {bits}: full fine-tuning trains the weights themselves, which stay at 32 bits")
    if bits == 32:
        return 32, "float32"
    return bits, "bfloat16" if device == "cpu" or native == "bfloat16" else native


def make(request: Request, methods: Mapping[str, Declared], *, store: Store) -> Plan:
    """The plan of a request. RequestError with every problem found, one a line."""
    problems = Problems()
    has_gpu = request.device == "cuda" or (request.device == "auto" and gpu() is not None)
    if request.device not in ("auto", "cpu", "cuda"):
        problems.add(f"--device {request.device}: takes auto, cpu or cuda")
    device = "cuda" if has_gpu else "cpu"
    backbone_name = request.backbone or ("xlmr-large" if has_gpu else "mini")
    data = request.data or ("hub" if has_gpu else "embedded")
    why = "a CUDA device is here" if has_gpu else "no CUDA device"
    defaulted = [name for name, asked in (("backbone", request.backbone), ("data", request.data)) if asked is None]
    notes = [f"backbone {backbone_name} · data {data} · method {request.method} · device {device}"
             + (f" ({' and '.join(defaulted)} by default: {why})" if defaulted else "")]  # fmt: skip

    task = _attempt(problems, lambda: tasks.load(request.task))
    if request.method not in methods:
        problems.add(f"--method: unknown method '{request.method}'{nearest(request.method, methods)}")
    backbone = _attempt(problems, lambda: fingerprint.resolve(backbone_name))
    source = _attempt(problems, lambda: open_source(data))
    _attempt(problems, store.check_writable)
    if request.protocol not in PROTOCOLS:
        problems.add(f"--protocol {request.protocol}: takes {' or '.join(PROTOCOLS)}")
    if request.seed < 0 or request.seed >= 2**32:
        problems.add(f"--seed {request.seed}: takes a whole number from 0 to 4294967295")
    bits, dtype = _resolve_bits(request, device, problems)
    compose = _compose(request, methods, problems)
    if backbone is not None:
        named = backbone
        backbone = _attempt(problems, lambda: fingerprint.fingerprint(named))
    if backbone is not None:
        layers = int(fingerprint.config(backbone)["num_hidden_layers"])
        if not 0 <= request.from_layer < layers:
            problems.add(f"--from-layer {request.from_layer}: {backbone.name} has layers 0 to {layers - 1}")
    if task is None or request.method not in methods or backbone is None or source is None:
        if task is not None and source is not None:  # what is left can still be checked
            _evaluation(task, source, None, {}, languages=request.languages, split=request.split, limit=0,
                        members=task.members, problems=problems)  # fmt: skip
        problems.raise_if_any()
    assert task is not None and backbone is not None and source is not None
    if backbone.note:
        notes.append(backbone.note)
    if source.kind == "embedded":
        notes.append("embedded sample rows: scores on them only show that the pipeline works")
    return _assemble(request, methods, store, task, backbone, source, bits, dtype, device, compose, notes, problems)


def _compose(request: Request, methods: Mapping[str, Declared], problems: Problems) -> str:
    if request.compose is not None and request.compose not in COMPOSES:
        problems.add(f"--compose: unknown '{request.compose}'{nearest(request.compose, COMPOSES)}")
        return "stack"
    known = methods[request.method].COMPOSES if request.method in methods else {}
    compose = request.compose or ("stack" if "stack" in known else "init")
    if known and compose not in known:
        problems.add(f"--compose {compose}: not possible for method {request.method}; it takes {', '.join(known)}")
    if compose == "init" and len(request.on) > 1:
        problems.add(f"--compose init starts from exactly one parent, not {len(request.on)}")
    return compose


def _assemble(request: Request, methods: Mapping[str, Declared], store: Store, task: Task, backbone: Backbone,
              source: Source, bits: int, dtype: str, device: str, compose: str, notes: list[str],
              problems: Problems) -> Plan:  # fmt: skip
    planner = _Planner(request, methods, problems, backbone, source, bits, dtype, store)
    chain = planner.chain(request.on, compose)
    target: Module | None = None
    if chain is not None:
        trains = bool(task.train) or task.format == "multi"
        if trains or (task.train_from and not (chain and chain[-1].task == task.train_from)):
            target = planner.module(task.train_from or task.name, chain, request.overrides, "--set", compose)
        else:
            target = chain[-1] if chain else None
            for key, _ in request.overrides:
                if not key.startswith("eval."):
                    problems.add(f"--set {key}: '{task.name}' trains nothing here; --set-parents reaches what it evaluates")
    limit = next((value for key, value in request.overrides if key == "eval.max_examples"), 0)
    members = [name for name, _ in target.run.tasks] if target else []
    bare = {"backbone": backbone.fingerprint, "bits": bits, "dtype": dtype}
    evaluation = _evaluation(
        task, source, target.run if target else None, bare, languages=request.languages, split=request.split,
        limit=limit if isinstance(limit, int) else 0, members=members, problems=problems,
    )  # fmt: skip
    problems.raise_if_any()
    wanted = [*(chain or ()), *([target] if target else [])]
    ordered = {module.id: module for module in wanted}.values()
    return Plan(request, task.name, backbone, source, bits, dtype, device, tuple(ordered), target, evaluation, tuple(notes))


def own_evaluation(plan: Plan, module: Module) -> Evaluation:
    """What a parent's run scores on its own: its task's default split, in English."""
    problems = Problems()
    task = tasks.load(module.task)
    members = [name for name, _ in module.run.tasks]
    language = "en" if task.format == "multi" or "en" in task.all_languages else None
    found = _evaluation(task, plan.source, module.run, {}, languages=language, split=None, limit=0, members=members,
                        problems=problems)  # fmt: skip
    problems.raise_if_any()
    return found
