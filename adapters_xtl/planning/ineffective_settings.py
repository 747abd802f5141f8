"""Settings that would change nothing: refused where they would change a run's id, else reported."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from adapters_xtl import formats, methods, tasks
from adapters_xtl.base.errors import Problems
from adapters_xtl.planning.packages import QUANTISED
from adapters_xtl.runs.hyper import FIRST_TOKEN, FUSED, Hyper
from adapters_xtl.runs.parent_settings import NamedParent, address_of, of_parent, reaches
from adapters_xtl.runs.request import Module, Request
from adapters_xtl.runs.settings import EVALUATION_KEYS, OverrideValues

__all__ = [
    "check_effects",
    "check_techniques",
    "holds_every_batch",
    "idle_flags",
    "needs_every_token",
    "not_fused",
    "not_parallel",
    "without_effect",
]

FOR_A_CPU = (
    "dropout_masks",
    "attention",
    "parallel_passes",
)  # hyper-parameters with values for a CPU alone
EVALUATIONS = 10  # of a training whose train.eval_every is 0


def without_effect(key: str, members: Sequence[str]) -> str:
    """Why a setting changes nothing in a training of the tasks `members`; "" where it does."""
    if key == "train.cap" and len(members) == 1:
        return "it weighs several tasks against each other, and this is a single one"
    if key == "train.stride" and not any(_reads_windows(member) for member in members):
        return "its inputs are cut at train.max_length, and not read in windows"
    return ""


def check_effects(
    request: Request, parents: Sequence[NamedParent], own: Module | None, problems: Problems
) -> None:
    """Adds to `problems` what `--set` and `--set-parents` set without any effect.

    `own`: the module of its own that the request trains, if it trains one.
    """
    _check_reached("--set", request.overrides, [own] if own else [], problems)
    for key in dict.fromkeys(key for key, _ in request.parent_overrides):
        address, setting = address_of(key)
        reached = [parent for parent in parents if reaches(address, parent.position, parent.name)]
        trained = [parent.module for parent in reached if parent.trained]
        if setting in EVALUATION_KEYS[1:]:
            problems.add(f"--set-parents {key}: reaches the requested run alone; use --set")
        elif address and reached and not trained and not _of_untrained(setting, reached):
            problems.add(
                f"--set-parents {key}: reaches no training: '{address}' exists already, or is"
                " untrained"
            )
        else:
            _check_reached("--set-parents", ((key, None),), trained, problems)


def _check_reached(
    flag: str, overrides: OverrideValues, reached: Sequence[Module], problems: Problems
) -> None:
    """Adds the keys that change nothing in any of the trainings that they reach."""
    for key in dict.fromkeys(key for key, _ in overrides):
        setting = address_of(key)[1]
        reasons = [without_effect(setting, tuple(module.members)) for module in reached]
        if reasons and all(reasons):
            names = ", ".join(dict.fromkeys(module.task for module in reached))
            problems.add(f"{flag} {key}: means nothing for {names}: {reasons[0]}")


def _of_untrained(setting: str, parents: Sequence[NamedParent]) -> bool:
    """Whether a setting reaches a parent that is drawn and not trained: its options do."""
    return setting.startswith("method.") and any(parent.module.stored is None for parent in parents)


def check_techniques(device: str, modules: Sequence[Module], problems: Problems) -> None:
    """Adds to `problems` why settings for speed would change nothing in these trainings."""
    _check_device(device, modules, problems)
    _check_lora_layers(modules, problems)
    _check_token_budget(device, modules, problems)
    for run in (module.run for module in modules if module.run.hyper.parallel_passes > 1):
        if reason := not_parallel(run.method, run.bits, run.hyper):
            problems.add(f"train.parallel_passes={run.hyper.parallel_passes}: {reason}")
    for module in modules:
        chosen = module.run.hyper.last_layer == FIRST_TOKEN
        gated = [stacked.run.options for stacked in (module, *module.below)]
        if chosen and (reason := needs_every_token(module.members, gated)):
            problems.add(f"train.last_layer={FIRST_TOKEN}: {reason}")


def _check_device(device: str, modules: Iterable[Module], problems: Problems) -> None:
    """Adds to `problems` the settings of these trainings that are made for a CPU alone."""
    defaults = Hyper()
    for name in FOR_A_CPU:
        values = {getattr(module.run.hyper, name) for module in modules}
        for value in sorted(values - {getattr(defaults, name)}) if device != "cpu" else ():
            problems.add(f"train.{name}={value} is only available with --device cpu")


def _check_token_budget(device: str, modules: Iterable[Module], problems: Problems) -> None:
    """Adds to `problems` a budget of tokens that holds every batch of its training."""
    for module in modules:
        hyper = module.run.hyper
        if holds_every_batch(device, hyper, module.members):
            problems.add(
                f"train.token_budget={hyper.token_budget}: changes nothing for {module.task}, whose"
                f" batches have at most {hyper.batch_size} × {_width(device, hyper)} tokens"
            )


def holds_every_batch(device: str, hyper: Hyper, members: Iterable[str]) -> bool:
    """Whether no batch of a training of the tasks `members` has more tokens than its budget."""
    # how many sequences an example of several has, only its rows tell
    single = all(_has_one_sequence(member) for member in members)
    return single and hyper.token_budget >= hyper.batch_size * _width(device, hyper)


def _width(device: str, hyper: Hyper) -> int:
    """Tokens of the longest padded sequence."""
    return -(-hyper.max_length // 8) * 8 if device == "cuda" else hyper.max_length


def _check_lora_layers(modules: Iterable[Module], problems: Problems) -> None:
    """Adds to `problems` why `train.lora=fused` would replace no layer of a training."""
    for run in (module.run for module in modules if module.run.hyper.lora == FUSED):
        if reason := not_fused(run.method, run.bits, run.options):
            problems.add(f"train.lora=fused: {reason}")


def not_fused(method: str, bits: int, options: Mapping[str, Any]) -> str:
    """Why `train.lora=fused` would replace no layer of such a training; "" where it does."""
    if method != "lora":
        return f"means nothing for method {method}; it is for lora"
    if bits in QUANTISED:
        return (
            f"not on layers of {bits} bits, which bitsandbytes computes; give --bits 32 or 16, or"
            " train.lora=peft"
        )
    unusual = next((key for key in ("use_dora", "lora_bias") if options.get(key)), "")
    return f"not with method.{unusual}; give train.lora=peft" if unusual else ""


def needs_every_token(members: Iterable[str], options: Iterable[Mapping[str, Any]]) -> str:
    """Why the last layer is needed at every token for the tasks `members` and modules with these
    options; "" where it is not.
    """
    if any(chosen.get("use_gating") for chosen in options):
        return "a gate (method.use_gating) is a mean over all tokens"
    readers = [name for name in members if tasks.exists(name) and _reads_every_token(name)]
    return f"the head of {readers[0]} reads every token" if readers else ""


def not_parallel(method: str, bits: int, hyper: Hyper) -> str:
    """Why the passes of such a training are not computed at the same time; "" where they can be."""
    if hyper.batch_size == 1:
        return "means nothing with train.batch_size=1"
    if method == "full":
        return "not for method full: each pass would hold gradients of all weights"
    if bits in QUANTISED:
        return f"not on layers of {bits} bits, whose state threads would share"
    if hyper.dropout_masks != "bytes":
        return "only with train.dropout_masks=bytes, which a pass draws from a seed of its own"
    if hyper.compiled == "on":
        return "not with train.compiled=on; torch compiles in one thread"
    return ""


def idle_flags(
    request: Request, parents: Sequence[NamedParent], own: Module | None, named: Iterable[Module]
) -> tuple[str, ...]:
    """Flags of the request that change nothing, one line each.

    `named`: modules of the request that exist already, given by their run, bundle or hub id.
    """
    lines: list[str] = []
    trained_parents = [parent for parent in parents if parent.trained]
    trained = [*(parent.module for parent in trained_parents), *([own] if own else [])]
    no_parents = "this request has no parents (--on)"
    none_trained = "every parent exists already, or is untrained"
    reached = trained_parents or _of_untrained_only(request)
    joined = request.compose == "sum" or any(module.run.compose for module in trained)
    if request.compose and not (request.on and joined):
        why = "nothing is trained on them here" if request.on else no_parents
        lines.append(f"--compose means nothing here: {why}")
    if request.parent_overrides and not reached:
        lines.append(
            f"--set-parents means nothing here: {none_trained if request.on else no_parents}"
        )
    if request.allow_mismatch and not list(named):
        lines.append("--allow-mismatch means nothing here: no module is given that exists already")
    if not trained:
        for flag, value in (
            ("--seed", request.seed != 1),
            ("--reseed", request.reseed),
            ("--from-layer", request.from_layer),
            ("--protocol", request.protocol != "clean"),
        ):
            if value:
                lines.append(f"{flag} means nothing here: nothing is trained")
        if request.bits != "auto" and list(named):
            lines.append("--bits means nothing here: the module is loaded as it was trained")
    elif request.from_layer and not methods.load(request.method).takes_from_layer:
        lines.append(f"--from-layer means nothing here: {request.method} trains every layer")
    if request.own_rows is not None and request.data is not None and not trained_parents:
        lines.append("--data means nothing here: the rows are own files, and no parent is trained")
    if own is not None:
        keys = {key for key, _ in request.overrides}
        lines += [f"--set {line}" for line in _idle_settings(keys, own.run.hyper)]
    for parent in trained_parents:
        settings = of_parent(request.parent_overrides, parent.position, parent.name)
        keys = {key for key, _ in settings}
        hyper = parent.module.run.hyper
        lines += [f"--set-parents {line}" for line in _idle_settings(keys, hyper)]
    return tuple(dict.fromkeys(lines))


def _idle_settings(keys: set[str], hyper: Hyper) -> list[str]:
    """Hyper-parameters among `keys` that the others leave without a say."""
    lines = []
    steps = hyper.max_steps
    if steps and "train.epochs" in keys:
        lines.append(f"train.epochs means nothing here: train.max_steps={steps} ends the training")
    if steps and hyper.eval_every > steps and "train.eval_every" in keys:
        lines.append(
            f"train.eval_every={hyper.eval_every} means nothing here: the training has"
            f" {steps} steps, and its last one is evaluated"
        )
    evaluations = -(-steps // hyper.eval_every) if steps and hyper.eval_every else EVALUATIONS
    is_decided = steps or not hyper.eval_every
    if is_decided and hyper.patience >= evaluations and "train.patience" in keys:
        lines.append(
            f"train.patience={hyper.patience} means nothing here: the training has"
            f" {evaluations} evaluations, so that it never stops early"
        )
    return lines


def _of_untrained_only(request: Request) -> bool:
    """Whether settings reach an untrained parent, where none is trained."""
    return "random" in request.on and any(
        address_of(key)[1].startswith("method.") for key, _ in request.parent_overrides
    )


def _reads_windows(task: str) -> bool:
    return tasks.exists(task) and formats.load(tasks.load(task).format).reads_windows


def _reads_every_token(task: str) -> bool:
    form = formats.load(tasks.load(task).format)
    return form.reads_every_token or not form.has_head


def _has_one_sequence(task: str) -> bool:
    return tasks.exists(task) and formats.load(tasks.load(task).format).usual_sequences == 1
