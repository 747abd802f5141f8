"""A page for each task, from its file, its recipe and its format."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping

from adapters_xtl import formats, methods, metrics, tasks
from adapters_xtl.base.errors import Problems
from adapters_xtl.runs.recipes import Recipe, read_recipe
from adapters_xtl.runs.settings import Defaults, Overrides, resolve_settings
from adapters_xtl.tasks import Rows, Task
from docs.generator.markdown import code, number, paragraphs, table

__all__ = ["overview", "task_pages"]

BACKBONE = "xlmr-large"  # whose default rates the tables show
SETTINGS = (
    *("lr", "epochs", "batch_size", "max_length", "stride", "warmup", "eval_every"),
    *("patience", "select_examples"),
)
HUB = "https://huggingface.co/datasets/"


def task_pages() -> dict[str, str]:
    """Path → page, one for each task."""
    return {f"tasks/{name}.md": _page(tasks.load(name)) for name in tasks.names()}


def overview() -> str:
    """A table of all tasks: the intermediate ones, then the targets by group."""
    every = [tasks.load(name) for name in tasks.names()]
    every.sort(key=lambda task: (task.kind != "intermediate", task.group, task.name))
    rows = [
        (
            f"[{code(task.name)}](tasks/{task.name}.md)",
            task.title,
            f"target, {task.group}" if task.group else task.kind,
            task.format or "those of its members",
            "English" if task.kind == "intermediate" else str(_largest(task)),
            task.metric,
        )
        for task in every
    ]
    return table(("task", "what", "kind", "format", "languages", "score"), rows)


def _largest(task: Task) -> int:
    return max(len(codes) for name, codes in task.languages.items() if name != "samples")


def _page(task: Task) -> str:
    parts = [
        f"# {task.name}",
        _description(task.name),
        *_commands(task),
        "## What it is",
        _facts(task),
    ]
    if task.members:
        parts += ["## Its members", "\n".join(f"- {_link(name)}" for name in task.members)]
    else:
        parts += ["## Rows", _rows_table(task), *_selection(task), "## Languages", _languages(task)]
        parts += _other_train_rows(task)
    if task.trainable:
        parts += ["## Settings", *_settings(task)]
    if task.published:
        parts += ["### In the literature", *_published(task)]
    if task.notes:
        parts += ["## To know", "\n".join(f"- {_sentence(note)}" for note in task.notes)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}".removesuffix(".") + "."


def _link(name: str) -> str:
    task = tasks.load(name)
    return f"[{code(name)}]({name}.md), {task.title}"


def _description(name: str) -> str:
    module = importlib.import_module(f"adapters_xtl.tasks.{name}")
    return paragraphs(module.__doc__)


# ------------------------------------------------------------------ what it is, how it is asked for


def _commands(task: Task) -> list[str]:
    if task.train_from and task.in_domain_task:
        split = task.domains[0]
        return [
            f"Its rows are of other domains than its training's, a report split each: the run of"
            f" {_link(task.train_from)}, is scored on them, and {_link(task.in_domain_task)},"
            " reports the training's own domain. The [study of domain shift](../studies/shift.md)"
            " scores both.",
            f"```sh\nxtl recipe {task.name} --split {split} --on mnli --method lora\n```",
        ]
    if task.train_from:
        return [
            f"Nothing is trained on {task.name}'s own rows: the run of {_link(task.train_from)},"
            " is scored on them. A parent stands under that training.",
            f"```sh\nxtl recipe {task.name} --on mnli --method lora\n```",
        ]
    if not task.trainable:
        return [
            "Nothing is trained: the hidden states of the encoder, with or without a module, are"
            " compared.",
            f"```sh\nxtl recipe {task.name}                 # the bare backbone\n"
            f"xtl recipe {task.name} --on mnli       # with a module that is trained or found\n```",
        ]
    stacked = (
        f"xtl recipe xnli --on {task.name}    # a target task on top of it"
        if task.kind == "intermediate"
        else f"xtl recipe {task.name} --on mnli     # on top of an intermediate task"
    )
    return [f"```sh\nxtl recipe {task.name} --method lora\n{stacked}\n```"]


def _facts(task: Task) -> str:
    rows = [("kind", f"target, group {task.group}" if task.group else task.kind)]
    if task.format:
        form = formats.load(task.format)
        rows.append(("format", f"{code(task.format)}; an input is {code(form.input_help)}"))
    if task.labels:
        rows.append(("labels", ", ".join(map(code, task.labels))))
    scored = f"{code(task.metric)}, 0 to 100"
    if task.scorer:
        rule = f"{metrics.get(task.scorer).description.partition(';')[0].removesuffix('.')}."
        scored += f": [{task.scorer}](../metrics.md#{task.scorer}). {rule}"
    rows.append(("score", scored))
    rows.append(("version", f"{task.version} (part of a run's identity)"))
    if task.licence:
        rows.append(("licence of the rows", task.licence))
    return table(("property", "value"), rows)


# ------------------------------------------------------------------ rows and languages


def _rows_table(task: Task) -> str:
    lines = [*_rows_lines("train", task.train), *_rows_lines("choose the checkpoint", task.select)]
    lines += _rows_lines("choose it under `--protocol xtreme`", task.select_xtreme)
    for split, rows in task.report.items():
        lines += _rows_lines(f"scored, `--split {split}`", rows)
    return table(("what the rows do", "where they lie", "columns that are read", "or"), lines)


def _rows_lines(use: str, rows: Iterable[Rows]) -> list[tuple[str, str, str, str]]:
    return [
        (
            use,
            _place(each),
            ", ".join(f"{code(name)} ({kind})" for name, kind in each.columns.items())
            or ", ".join(map(code, each.parts)),
            "; ".join(map(_place, each.instead)),
        )
        for each in rows
    ]


def _place(rows: Rows) -> str:
    where = f"{code(rows.config)}, {code(rows.split)}"
    where += "".join(
        f", where {code(name)} is {' or '.join(map(code, values))}"
        for name, values in rows.only.items()
    )
    if rows.repo.startswith("original/"):
        return f"imported files, {code(rows.repo)}, {where}"
    return f"[{rows.repo}]({HUB}{rows.repo}), {where}"


def _selection(task: Task) -> list[str]:
    text = ""
    if task.train and not task.select:
        text = (
            "No rows are set aside for choosing the checkpoint: under `--protocol clean` a slice of"
            " the train rows is cut off for it ([how](../numbers.md#select-and-report))."
        )
    if task.genres:
        some = ",".join(list(task.genres)[:2])
        text += (
            f" The train rows name their genre, {', '.join(task.genres)}:"
            f" {code(f'--set train.genres={some}')} trains on these alone."
        )
    borrowed = ", ".join(f"[{code(name)}]({name}.md)" for name in task.drop)
    if borrowed:
        text += (
            f" Rows that {borrowed} reports never choose the checkpoint of this training, which it"
            " borrows."
        )
    return [text.strip()] if text.strip() else []


def _languages(task: Task) -> str:
    if task.kind == "intermediate":
        return "English."
    rows = []
    for name, codes in task.languages.items():
        rows.append((code(f"--languages {name}"), str(len(codes)), ", ".join(codes)))
    text = table(("set", "languages", "codes"), rows)
    own = {iso: theirs for iso, theirs in task.codes.items() if iso != theirs}
    if own:
        names = ", ".join(f"{iso} is {code(theirs)}" for iso, theirs in own.items())
        text += f"\n\nIn the source's own names, {names}."
    return text


def _other_train_rows(task: Task) -> list[str]:
    """Where train rows in other languages lie, a line for each origin and place."""
    codes_by_place: dict[tuple[str, str], list[str]] = {}
    for language, rows in task.train_in.items():
        codes_by_place.setdefault((rows.origin, _place(rows.train)), []).append(language)
    if not codes_by_place:
        return []
    lines = [(", ".join(codes), *place) for place, codes in codes_by_place.items()]
    return ["Train rows in these languages, too:", table(("languages", "origin", "rows"), lines)]


# ------------------------------------------------------------------ settings


def _settings(task: Task) -> list[str]:
    recipe = read_recipe(task.recipe or task.name)
    columns = {name: _resolved(recipe, name) for name in methods.names()}
    names = [
        name
        for name in SETTINGS
        if name != "stride" or (task.format and formats.load(task.format).reads_windows)
    ]
    lines = [
        (code(f"train.{name}"), *(number(values[name]) for values in columns.values()))
        for name in names
    ]
    of_samples = []
    for method, values in columns.items():
        sample = _resolved(recipe, method, embedded=True)
        changes = [
            f"{code(f'{name}={number(sample[name])}')}"
            for name in sample
            if sample[name] != values[name]
        ]
        if changes:
            of_samples.append(f"- {method}: {', '.join(changes)}")
    file = f"`recipes/{recipe.path.name}`" if recipe.path else "no recipe file"
    parts = [
        f"Defaults on {code(BACKBONE)}, from {file}; `--set` changes any of them, and the"
        " [settings page](../settings.md) says what each is. Rates on other backbones stand on"
        " the [methods' page](../methods.md#options).",
        table(("setting", *columns), lines),
    ]
    if of_samples:
        parts += ["On the package's sample rows instead:", "\n".join(of_samples)]
    return parts


def _resolved(recipe: Recipe, method: str, *, embedded: bool = False) -> Mapping[str, object]:
    """Hyper-parameter → value for one method on the hub's rows, or on the sample rows."""
    problems = Problems()
    defaults = Defaults(method, methods.load(method).rate_on(BACKBONE), {}, BACKBONE)
    settings = resolve_settings(
        recipe, defaults, Overrides("--set"), embedded=embedded, problems=problems
    )
    problems.raise_if_any()
    return {name: getattr(settings.hyper, name) for name in SETTINGS}


def _published(task: Task) -> list[str]:
    every = list(dict.fromkeys(key for values in task.published.values() for key in values))
    lines = [
        (code(name), *(number(values.get(name, "–")) for values in task.published.values()))
        for name in every
    ]
    return [
        "Hyper-parameters as they were published, for comparison: none of them is a default here.",
        table(("setting", *task.published), lines),
    ]
