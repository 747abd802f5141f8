"""The texts of flags and study files as parts of a grid: variants, chains, settings, trials."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from adapters_xtl import methods, tasks
from adapters_xtl.backbones import BITS
from adapters_xtl.base.errors import Problems, RequestError, clipped, nearest
from adapters_xtl.base.numbers import parse_seeds
from adapters_xtl.grid.cells import Overrides, Tuning, Variant
from adapters_xtl.runs.hyper import HYPER_FIELDS
from adapters_xtl.runs.settings import parse_override, parse_overrides

__all__ = [
    "ALL",
    "by_method",
    "by_task",
    "chain",
    "check_chain",
    "check_bits",
    "names",
    "parse_tuning",
    "task_names",
    "variants",
]

ALL = "all"  # every target task, but those whose rows are of other domains
NO_PARENTS = "none"


def names(text: str) -> tuple[str, ...]:
    """`a, b` as ("a", "b"), each once."""
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def chain(text: str) -> tuple[str, ...]:
    """A chain of parents, `mnli,squad1` or `mnli>squad1`; () for `none`."""
    text = text.strip()
    return () if text == NO_PARENTS else names(text.replace(">", ","))


def check_chain(text: str, flag: str, problems: Problems) -> None:
    """Adds a chain that has an empty part: `mnli,,qqp`, `mnli>`, `>`."""
    if not all(part.strip() for part in text.replace(">", ",").split(",")):
        problems.add(
            f"{flag}: {clipped(text)}: expected names separated by commas, e.g. mnli,squad1, or"
            f" {NO_PARENTS}"
        )


def task_names(texts: Sequence[str], problems: Problems) -> tuple[str, ...]:
    """The tasks, each checked; `all` alone stands for every target but those of other
    domains.
    """
    if tuple(texts) == (ALL,):
        targets = (tasks.load(name) for name in tasks.names())
        return tuple(
            task.name for task in targets if task.kind == "target" and not task.in_domain_task
        )
    for name in texts:
        if name not in tasks.names():
            problems.add(
                f"TASK {','.join(texts)}: all stands alone"
                if name == ALL
                else f"unknown task '{clipped(name)}'{nearest(name, [*tasks.names(), ALL])}"
            )
    if not texts:
        problems.add("TASK: a task, several with commas between them, or all")
    return tuple(texts)


def variants(
    texts: Sequence[str], bits: Sequence[str], problems: Problems, *, flag: str = "--methods"
) -> tuple[Variant, ...]:
    """`full,lora@8` and bits `16,4` as variants: a name with bits of its own takes no others, and a
    method that trains the whole encoder stays at 32.
    """
    allowed = ("auto", *map(str, BITS))
    parsed: list[Variant] = []
    for text in texts:
        method, at, own_bits = text.partition("@")
        if method not in methods.names():
            problems.add(
                f"{flag}: unknown method '{clipped(method)}'{nearest(method, methods.names())}"
            )
        shared_bits = tuple(bits) or ("auto",)
        if method in methods.names() and methods.load(method).whole_encoder:
            shared_bits = ("auto",)
        for value in (own_bits,) if at else shared_bits:
            if value not in allowed:
                wrong = f"{flag} {text}" if at else f"--bits {value}"
                problems.add(f"{wrong}: takes {', '.join(allowed)}")
            parsed.append(Variant(method, value))
    if not parsed:
        example = ",".join(methods.COMPARED)
        problems.add(f"{flag}: expected names separated by commas, e.g. {example}")
    return tuple(dict.fromkeys(parsed))


def check_bits(texts: Sequence[str], bits: Sequence[str], problems: Problems) -> None:
    """Adds bits that reach none of the methods `full`, `lora@8`."""
    reached = [
        text
        for text in texts
        if "@" not in text and not (text in methods.names() and methods.load(text).whole_encoder)
    ]
    if texts and not reached and tuple(bits) not in ((), ("auto",)):
        problems.add(
            f"--bits {','.join(bits)}: means nothing here: {', '.join(texts)} take no other bits"
        )


def by_method(
    texts: Sequence[str], flag: str, method_names: Sequence[str], problems: Problems
) -> tuple[list[str], dict[str, Overrides]]:
    """Overrides as (those of every method, method → its own: `full:train.lr=1e-4`).

    Those of parents (the flag ends in "parents") may have the address of a parent behind it:
    `mnli:train.lr=1e-4`, `full:mnli:train.lr=1e-4`.
    """
    shared: list[str] = []
    own: dict[str, Overrides] = {}
    for text in texts:
        method, colon, _ = text.partition("=")[0].partition(":")
        of_one_parent = flag.endswith("parents") and method not in methods.names()
        if not colon or of_one_parent:
            shared.append(text)
        elif method not in method_names:
            problems.add(
                f"{flag} {text}: '{method}' is not among the methods"
                f" compared{nearest(method, method_names)}"
            )
        else:
            before = own.get(method, ())
            own[method] = parse_overrides([text.partition(":")[2]], flag, problems, before)
    return shared, own


def by_task(
    texts: Mapping[str, Sequence[str]], flag: str, problems: Problems
) -> dict[str, Overrides]:
    """Task → the settings of its trainings alone."""
    own: dict[str, Overrides] = {}
    for task, settings in texts.items():
        if task not in tasks.names():
            problems.add(f"{flag}.{clipped(task)}: unknown task{nearest(task, tasks.names())}")
            continue
        own[task] = parse_overrides(settings, f"{flag}.{task}", problems)
    return own


def parse_tuning(
    tune: Sequence[str],
    tune_seeds: str,
    reported_seeds: tuple[int, ...],
    method_names: Sequence[str],
    problems: Problems,
) -> Tuning | None:
    """`--tune` and `--tune-seeds`; without the latter, the lowest seed that is not reported."""
    if not tune:
        if tune_seeds:
            problems.add("--tune-seeds: there is nothing to tune; give --tune key=value,value")
        return None
    lowest_free = next(seed for seed in itertools.count() if seed not in reported_seeds)
    seeds = parse_seeds(tune_seeds, "--tune-seeds", problems) if tune_seeds else (lowest_free,)
    for seed in sorted(set(seeds) & set(reported_seeds)):
        problems.add(f"--tune-seeds {seed}: also reported (--seeds); a trial's seed must not be")
    return Tuning(_trials(tune, method_names, problems), seeds)


def _trials(
    texts: Sequence[str], method_names: Sequence[str], problems: Problems
) -> dict[str, tuple[Overrides, ...]]:
    """`lr=1e-4,3e-4`, `full:lr=1e-5,2e-5` as each method's trials: the product of its keys' values.

    A key with a method's name before it stands for that method alone, in place of the shared one.
    """
    shared: dict[str, Overrides] = {}  # key → one override for each value
    own: dict[str, dict[str, Overrides]] = {}
    for text in texts:
        left, equals, values = text.partition("=")
        method, colon, short_key = left.rpartition(":")
        method, short_key = method.strip(), short_key.strip()
        if not equals or not short_key or not names(values):
            problems.add(
                f"--tune {text!r}: expected key=value,value, e.g. --tune lr=1e-4,3e-4,1e-3"
            )
            continue
        if colon and method not in method_names:
            problems.add(
                f"--tune {text}: '{method}' is not among the methods"
                f" compared{nearest(method, method_names)}"
            )
        key = short_key if short_key.startswith(("train.", "method.")) else f"train.{short_key}"
        if key.startswith("train.") and key.removeprefix("train.") not in HYPER_FIELDS:
            choices = [f"train.{name}" for name in HYPER_FIELDS]
            problems.add(f"--tune {text}: unknown key '{short_key}'{nearest(key, choices)}")
        overrides = []
        for value in names(values):
            try:
                overrides.append(parse_override(f"{key}={value}", "--tune"))
            except RequestError as error:
                problems.catch(error)
        tuned = own.setdefault(method, {}) if colon else shared
        if key in tuned:
            problems.add(f"--tune {text}: {key} is tuned already; name all its values at once")
        tuned[key] = tuple(overrides)
    trials = {
        name: tuple(itertools.product(*{**shared, **own.get(name, {})}.values()))
        for name in method_names
    }
    if len({len(groups) for groups in trials.values()}) > 1:
        counts = ", ".join(f"{name} {len(groups)}" for name, groups in trials.items())
        problems.add(f"--tune: every method gets the same number of trials, not {counts}")
    return trials
