"""A card for each run of the page: its provenance, and the command that makes it again."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from adapters_xtl.pages.comparison_tables import size
from adapters_xtl.pages.page_parts import Command, RunCard
from adapters_xtl.pages.page_tables import amount, anchor
from adapters_xtl.runs.records import RowsCount, Spec
from adapters_xtl.runs.remake_command import remake_command
from adapters_xtl.runs.stored_runs import StoredRun
from adapters_xtl.runs.trained_languages import trained_languages

__all__ = ["cards", "command", "name_of", "names_of", "without_places"]

_PLACE = "DIR"


def name_of(run: StoredRun) -> str:
    """`mnli>xnli · bottleneck · seed 1`, and what an evaluation scored."""
    spec = run.spec
    parts = [spec.stack or "bare backbone"]
    if spec.kind == "evaluation":
        parts[0] = f"{spec.task} by {parts[0]}"
    if spec.run is not None:
        parts += [spec.run.method, f"seed {spec.run.seed}"]
    return " · ".join(parts)


def cards(runs: Sequence[StoredRun]) -> list[RunCard]:
    """A card for each run, in the order given."""
    names = names_of(runs)
    return [_card(run, names[run.spec.id]) for run in runs]


def names_of(runs: Sequence[StoredRun]) -> dict[str, str]:
    """Run id → `name_of` the run, with its id where several runs have that name."""
    names = {run.spec.id: name_of(run) for run in runs}
    count = Counter(names.values())
    return {
        identity: name if count[name] == 1 else f"{name} · {identity}"
        for identity, name in names.items()
    }


def _card(run: StoredRun, name: str) -> RunCard:
    spec, provenance, metrics = run.spec, run.provenance, run.metrics
    scores = [
        f"{task} {entry.metric} {entry.score:.2f} ({entry.split})"
        for task, entry in metrics.tasks.items()
    ]
    if metrics.train is not None:
        scores.append(f"{amount(metrics.train.seconds)} s of training")
    return RunCard(
        anchor=anchor("run", spec.task, spec.id),
        title=name,
        summary=", ".join(scores) or "nothing was scored",
        command=command(spec),
        facts=tuple(_facts(run)),
        versions=provenance.versions,
        notes=tuple(_without_place(note, spec) for note in provenance.notes),
    )


def command(spec: Spec) -> Command:
    """The command that makes a run again. A page is shown to others: a directory or file of the
    machine that made the run is not in it, but `DIR` or the name alone.
    """
    request = dict(spec.request)
    notes = []
    if _is_place(request.get("data")) or _is_place(request.get("backbone")):
        notes.append("DIR stands for the directory that the run read.")
    for key in ("data", "backbone"):
        if _is_place(request.get(key)):
            request[key] = _PLACE
    if isinstance(request.get("on"), list | tuple):
        request["on"] = [_name_alone(name) for name in request["on"]]
    if isinstance(request.get("own_rows"), dict):
        request["own_rows"] = {
            key: [_name_alone(name) for name in value] if isinstance(value, list | tuple) else value
            for key, value in request["own_rows"].items()
        }
    line = remake_command(replace(spec, request=request))
    if not line:
        return Command("", "Imported from elsewhere with xtl hub import.")
    if spec.kind == "evaluation" and spec.module is not None:
        notes.append("It scores a module that the store has.")
    return Command(line, " ".join(notes))


def without_places(line: str) -> str:
    """A command line with `DIR` for the directories and files of the machine it was given on."""
    try:
        words = shlex.split(line)
    except ValueError:  # no line of a shell
        return line
    masked = [_masked(word) for word in words]
    return line if masked == words else shlex.join(masked)


def _masked(word: str) -> str:
    """A word of a command line with `DIR` for the directories in it: alone, after `=`, or in a list
    with commas.
    """
    name, equals, value = word.partition("=")
    if equals:
        return f"{name}={_masked(value)}"
    return ",".join(_PLACE if _is_place(item) else item for item in word.split(","))


def _is_place(value: object) -> bool:
    """Whether a request's value is a directory of the machine that the run was made on."""
    return isinstance(value, str) and (
        Path(value).is_absolute()
        or value in (".", "..")
        or value.startswith(("./", "../", "~"))
        or value.endswith("/")
    )


def _name_alone(value: object) -> object:
    return Path(value).name if isinstance(value, str) and _is_place(value) else value


def _without_place(text: str, spec: Spec) -> str:
    for key in ("data", "backbone"):
        value = spec.request.get(key)
        if _is_place(value):
            text = text.replace(str(value), _PLACE).replace(str(value).rstrip("/"), _PLACE)
    return text


def _facts(run: StoredRun) -> list[tuple[str, str]]:
    spec, provenance, trained = run.spec, run.provenance, run.metrics.train
    backbone, data = spec.backbone, provenance.data
    revision = f", revision {backbone.revision}" if backbone.revision else ""
    facts = [
        ("run", f"{spec.task}/{spec.id}"),
        ("backbone", f"{backbone.name}{revision}, fingerprint {backbone.fingerprint[:12]}"),
        ("precision", f"{spec.bits}-bit backbone, computed in {spec.dtype}"),
    ]
    if spec.run is not None:
        options = ", ".join(f"{key} {value}" for key, value in spec.run.options.items())
        facts.append(("method", f"{spec.run.method} ({options or 'no options'})"))
        hyper = spec.run.hyper
        if languages := trained_languages(spec.run):
            facts.append(("trained in", languages))
        facts.append(
            (
                "settings",
                f"lr {hyper.lr:g}, batch {hyper.batch_size}, epochs {hyper.epochs:g}, max steps"
                f" {hyper.max_steps or 'by epochs'}, max length {hyper.max_length}, seed"
                f" {spec.run.seed}, protocol {spec.run.protocol}",
            )
        )
    if spec.parents:
        parents = ", ".join(f"{parent.task}/{parent.id}" for parent in spec.parents)
        compose = spec.run.compose if spec.run else ""
        facts.append(("parents", f"{parents} ({compose}, {provenance.composition})"))
    facts.append(("data", f"{data.source}: {_rows(data.train.values(), data.report)}"))
    revisions = ", ".join(f"{name}@{commit[:12]}" for name, commit in data.revisions.items())
    facts.append(("data revisions", revisions or "none: the rows have no hub revision"))
    hardware = provenance.hardware
    if hardware is not None:
        device = hardware.gpu.name if hardware.gpu else hardware.cpu.name
        memory = f", {size(hardware.memory_bytes, True)}" if hardware.memory_bytes else ""
        facts.append(
            ("hardware", f"{device}, {hardware.cpu.cores} cores{memory}, {hardware.system}")
        )
    facts.append(("device", provenance.device or "not known"))
    facts.append(
        ("threads", "not known" if provenance.threads is None else str(provenance.threads))
    )
    git = provenance.git
    changed = " with changed files" if git and git.changed else ""
    facts.append(("git commit", f"{git.commit}{changed}" if git else "no checkout"))
    if trained is not None:
        energy = f", {amount(trained.energy_joules)} J" if trained.energy_joules else ""
        facts.append(
            (
                "training",
                f"{trained.steps} steps, {trained.examples:,} examples,"
                f" {amount(trained.seconds)} s{energy}; peak"
                f" {size(trained.measured_peak_bytes, True)} ({provenance.memory_measured})",
            )
        )
        facts.append(
            (
                "module",
                f"{trained.trainable_parameters:,} of {trained.total_parameters:,} parameters"
                f" train; {size(trained.stored_bytes)} stored",
            )
        )
    return facts


def _rows(train: Iterable[RowsCount], report: Mapping[str, Mapping[str, RowsCount]]) -> str:
    counts = list(train)
    forms = sorted({form for count in counts for form in count.forms})
    scored = [count for by_language in report.values() for count in by_language.values()]
    left_out = sum(sum(count.left_out.values()) for count in (*counts, *scored))
    parts = []
    if counts:
        examples = sum(count.examples for count in counts)
        parts.append(f"{examples:,} training examples ({', '.join(forms)})")
    if scored:
        parts.append(
            f"{sum(count.examples for count in scored):,} scored in {len(scored)} languages"
        )
    if left_out:
        parts.append(f"{left_out:,} rows left out")
    return "; ".join(parts) or "no rows"
