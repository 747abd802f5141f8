"""Study files: TOML that names a study and says where its grid deviates from the defaults.

    study = "transfer"            # a study's name
    title = "…"                   # optional
    seeds = [1, 2, 3]
    backbone = "mini"             # and the other flags of `xtl recipe` that all runs share
    bits = [16, 8]                # as --bits of `xtl compare`
    skip-lacking = true           # leave out tasks and parents of which the source has no rows
    [axes]                        # the values of the study's axes
    on = ["none", "mnli"]
    [set]                         # as --set: settings of the cells' own trainings
    train.max_steps = 120
    lora.train.lr = 1e-3          # of one method alone
    [set-parents]                 # as --set-parents
    mnli.train.max_steps = 60     # of one parent alone, by its name or its position ("2".train…)
    [tasks.multi]                 # settings of one task's trainings, as a parent too
    train.tasks = ["mnli", "squad1"]
    [tune]                        # as --tune: the values that each method tries
    lr = [3e-4, 1e-3]

`--set KEY=VALUE` on the command line changes one key of the file, by its dotted name. For short, an
axis' name stands for `axes.NAME`, and `train.…`, `method.…` and `eval.…` for `set.…`. A text with
commas stands for a list of values, in a file as in `--set`; a chain of parents is `mnli>squad1`.
"""

from __future__ import annotations

import itertools
import json
import math
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from adapters_xtl import methods, tasks
from adapters_xtl.base.errors import Problems, RequestError, clipped, nearest
from adapters_xtl.base.numbers import parse_seeds
from adapters_xtl.grid import grid_options
from adapters_xtl.grid.cells import Axis, Cell, Grid, Overrides
from adapters_xtl.grid.study import Study
from adapters_xtl.planning.compositions import RANDOM, SELF
from adapters_xtl.runs.parent_settings import address_of
from adapters_xtl.runs.recipes import recipes_dir
from adapters_xtl.runs.request import Request
from adapters_xtl.runs.settings import parse_override, parse_overrides

__all__ = ["StudyFile", "make_grid", "read_study_file", "shipped_files"]

# flags that all runs of a study share, with the type of their TOML value
SHARED: Mapping[str, tuple[type, ...]] = {
    "backbone": (str,),
    "data": (str,),
    "device": (str,),
    "languages": (str,),
    "split": (str,),
    "protocol": (str,),
    "compose": (str,),
    "from_layer": (int,),
    "strict": (bool,),
    "reseed": (bool,),
    "memory": (int, float),
}
_OWN_KEYS = {"study": (str,), "title": (str,), "bits": (str, int, list), "skip_lacking": (bool,)}
_SEED_KEYS = {"seeds": (str, int, list), "tune_seeds": (str, int, list)}
_TABLES = ("axes", "set", "set_parents", "tasks", "tune")
_SETTINGS = ("train", "method", "eval")
MOST_POINTS = 100_000  # of a grid's axes: planning more would take hours
MIRROR = "mirror"  # as `data`, stands for a directory that the command line names
assert SHARED.keys() <= {item.name for item in fields(Request)}


class StudyFile:
    """The content of a study file with the command line's `--set`. `path`: None without a file."""

    def __init__(self, content: Mapping[str, Any], path: Path | None) -> None:
        self.content, self.path = content, path

    @property
    def study(self) -> str:
        return str(self.content["study"])

    @property
    def title(self) -> str:
        return str(self.content.get("title", ""))


def shipped_files() -> dict[str, Path]:
    """The study files that come with the package, by name."""
    return {path.stem: path for path in sorted((recipes_dir() / "studies").glob("*.toml"))}


def read_study_file(
    name: str, study_names: Sequence[str], axes_of: Mapping[str, Sequence[str]], set_: Sequence[str]
) -> StudyFile:
    """The study that `xtl study NAME|FILE.toml` names, with the keys of `--set` in place. The name
    of a study stands for the file of that name, if the package has one, else for its defaults.

    axes_of: study → the names of its axes. RequestError names every key that is unknown or has the
    wrong form.
    """
    path: Path | None = None
    if name in study_names and name not in shipped_files():
        content: dict[str, Any] = {"study": name}
    else:
        path = Path(name) if name.endswith(".toml") else shipped_files().get(name)
        if path is None or not path.is_file():
            names = [*study_names, *shipped_files()]
            raise RequestError(
                f"{clipped(name)}: no study and no study file{nearest(name, names)};"
                f" `xtl study list` lists them"
            )
        content = _read(path)
    problems = Problems()
    origin = str(path) if path else name
    twice = [key for key in content if "-" in key and key.replace("-", "_") in content]
    if twice:
        raise RequestError(f"{origin}: {clipped(twice[0])}: is given twice, with - and with _")
    content = {key.replace("-", "_"): value for key, value in content.items()}
    study = content.get("study")
    if not isinstance(study, str) or study not in study_names:
        shown = "is missing" if study is None else f"'{clipped(study)}' is no study"
        raise RequestError(f"{origin}: study: {shown}{nearest(str(study), study_names)}")
    _check(content, origin, axes_of[study], problems)
    problems.raise_if_any()
    places: set[tuple[str, str]] = set()
    for text in set_:
        with problems.catching():
            place = _set(content, text, axes_of[study])
            if place in places:
                problems.add(f"--set {clipped(text.partition('=')[0])}: is given twice")
            places.add(place)
    _check(content, origin, axes_of[study], problems)
    problems.raise_if_any()
    return StudyFile(content, path)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise RequestError(f"{path}: nested too deeply") from error
    except (ValueError, OSError) as error:
        raise RequestError(f"{path}: {clipped(error, 200)}") from error


def _set(content: dict[str, Any], text: str, axes: Sequence[str]) -> tuple[str, str]:
    """Puts the value of `key=value` in its place, and returns that: its table, or its key where it
    is in none, and the rest of its name. Lists are written with commas, or as TOML.
    """
    key, value = parse_override(text)
    section, _, rest = key.partition(".")
    if key in axes:
        section, rest = "axes", key
    elif section.partition(":")[2] in _SETTINGS or section in _SETTINGS:
        section, rest = "set", key.replace(":", ".", 1)
    section = section.replace("-", "_")
    keys = [*SHARED, *_OWN_KEYS, *_SEED_KEYS, *axes, *(f"{table}.…" for table in _TABLES)]
    if section not in (*SHARED, *_OWN_KEYS, *_SEED_KEYS, *_TABLES) or (
        section in _TABLES and not rest
    ):
        raise RequestError(f"--set {clipped(key)}: unknown key{nearest(key, [*keys, *_SETTINGS])}")
    if section == "study":
        raise RequestError("--set study: the study is the one that the command names")
    if section not in _TABLES:
        content[section] = value
        return section, ""
    names = [rest] if section == "axes" else rest.split(".")
    table = content.setdefault(section, {})
    for name in names[:-1]:
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            raise RequestError(f"--set {clipped(key)}: {name} is a value, and holds no keys")
    if section in ("axes", "tune") and isinstance(value, str):
        value = list(grid_options.names(value))
    table[names[-1]] = value
    return section, rest


def _check(content: dict[str, Any], origin: str, axes: Sequence[str], problems: Problems) -> None:
    """Adds every key that a study file cannot have, and every value of the wrong type."""
    types = {**SHARED, **_OWN_KEYS, **_SEED_KEYS, **dict.fromkeys(_TABLES, (dict,))}
    for key, value in content.items():
        if key not in types:
            shown = [name.replace("_", "-") for name in types]
            problems.add(f"{origin}: unknown key '{clipped(key)}'{nearest(key, shown)}")
        elif not isinstance(value, types[key]) or (
            isinstance(value, bool) and bool not in types[key]
        ):
            kinds = {dict: "a table", list: "a list", str: "a text", bool: "true or false"}
            wanted = " or ".join(dict.fromkeys(kinds.get(kind, "a number") for kind in types[key]))
            shown_key = key.replace("_", "-")
            problems.add(f"{origin}: {shown_key} takes {wanted}, not {clipped(repr(value))}")
        elif isinstance(value, str) and not value.strip() and key != "title":
            problems.add(f"{origin}: {key.replace('_', '-')}: is empty")
    for axis, values in _table(content, "axes").items():
        if axis not in axes:
            problems.add(f"{origin}: [axes] unknown axis '{clipped(axis)}'{nearest(axis, axes)}")
        elif not _texts(values):
            problems.add(f"{origin}: [axes] {axis} takes a list of values, not {clipped(values)}")
    for task, table in _table(content, "tasks").items():
        if not isinstance(table, dict):
            problems.add(f"{origin}: [tasks] {clipped(task)} is a table, [tasks.{clipped(task)}]")


def _table(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    table = content.get(name, {})
    return table if isinstance(table, dict) else {}


def _texts(values: Any) -> tuple[str, ...]:
    """The values of a TOML list, or of a text with commas, as texts, each once; () where they are
    neither texts nor numbers.
    """
    return tuple(dict.fromkeys(_all_texts(values)))


def _all_texts(values: Any) -> list[str]:
    """The same, repeated values included."""
    if isinstance(values, str):
        return [part.strip() for part in values.split(",")]
    values = values if isinstance(values, list) else [values]
    if not all(isinstance(value, str | int | float) for value in values):
        return []
    return [_text(value) for value in values]


def _text(value: Any) -> str:
    """A TOML value as a flag has it; a date becomes its text, which no setting takes."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _flag_texts(
    table: Mapping[str, Any],
    text_of: Callable[[Any], str],
    before: str = "",
    *,
    parents: bool = False,
) -> list[str]:
    """The keys of a table as the texts of flags: `train.lr=0.001`, of one method alone
    `lora:train.lr=0.001`, with `parents` of one parent alone `mnli:train.lr=0.001`. `text_of`
    writes a value.
    """
    texts = []
    for key, value in table.items():
        if isinstance(value, dict):
            is_address = (not before and key in methods.names()) or (
                parents and "." not in before and _addresses_parent(key)
            )
            colon = ":" if is_address and key not in _SETTINGS else "."
            texts += _flag_texts(value, text_of, f"{before}{key}{colon}", parents=parents)
        else:
            texts.append(f"{before}{key}={text_of(value)}")
    return texts


def _addresses_parent(key: str) -> bool:
    """Whether a table's key is the name of a parent, or its position."""
    return key in tasks.names() or key in (RANDOM, SELF) or key.isdigit()


def _setting_texts(table: Mapping[str, Any], *, parents: bool = False) -> list[str]:
    """The settings of a table as the texts of --set, or of --set-parents."""
    return _flag_texts(table, _text, parents=parents)


def _trial_texts(table: Mapping[str, Any]) -> list[str]:
    """The trials of a table as the texts of --tune: `lr=0.0003,0.001`, `full:lr=1e-05`."""
    return _flag_texts(table, lambda values: ",".join(_texts(values)))


def make_grid(study: Study, file: StudyFile, *, runs: str) -> Grid:
    """The grid that a study file describes. RequestError with every value that is wrong."""
    content, problems = file.content, Problems()
    axes = tuple(
        Axis(axis.name, _texts(_table(content, "axes").get(axis.name, list(axis.values))))
        for axis in study.axes
    )
    axes = _checked_axes(axes, problems)
    problems.raise_if_any()  # what follows from a wrong axis would be said of every cell
    bits = _texts(content.get("bits", "auto"))
    seeds = parse_seeds(_seeds_text(content, "seeds", list(study.seeds)), "seeds", problems)
    if content.get("data") == MIRROR and not Path(MIRROR).is_dir():
        problems.add("data: these rows come from a mirror: name its directory by --set data=DIR")
    points = math.prod(len(axis.values) for axis in axes)
    if points > MOST_POINTS:
        problems.add(f"[axes]: {points:,} points; a grid has at most {MOST_POINTS:,}")
        problems.raise_if_any()
    cells: dict[tuple[tuple[str, str], ...], Cell] = {}
    for values in itertools.product(*(axis.values for axis in axes)):
        point = dict(zip((axis.name for axis in axes), values, strict=True))
        with problems.catching():
            for cell in study.cell(point, bits, problems):
                cells[cell.point] = cell
    cells = {cell.point: cell for cell in study.together(list(cells.values()))}
    if not problems.messages:
        for axis in axes:
            reached = {dict(cell.point)[axis.name] for cell in cells.values()}
            for value in axis.values if axis.name in study.complete_axes else ():
                if value not in reached:
                    problems.add(f"[axes] {axis.name}: {clipped(value)}: no cell has it here")
    if not cells and not problems.messages:
        problems.add("[axes]: no cell is left: these values exclude each other")
    if content.get("languages") and any(cell.languages for cell in cells.values()):
        problems.add("languages: this study scores the language of its axis `language` alone")
    grid_options.check_bits(
        [value for axis in axes if axis.name == "method" for value in axis.values], bits, problems
    )
    problems.raise_if_any()
    method_names = tuple(dict.fromkeys(cell.variant.method for cell in cells.values()))
    shared, own = grid_options.by_method(
        _setting_texts(_table(content, "set")), "set", method_names, problems
    )
    shared_parents, own_parents = grid_options.by_method(
        _setting_texts(_table(content, "set_parents"), parents=True),
        "set-parents",
        method_names,
        problems,
    )
    of_task = grid_options.by_task(
        {
            task: _setting_texts(table)
            for task, table in _table(content, "tasks").items()
            if isinstance(table, dict)
        },
        "tasks",
        problems,
    )
    tuning = grid_options.parse_tuning(
        _trial_texts(_table(content, "tune")),
        _seeds_text(content, "tune_seeds", []),
        seeds,
        method_names,
        problems,
    )
    base = Request(
        task="",
        seed=0,
        runs=runs,
        overrides=parse_overrides(shared, "set", problems),
        parent_overrides=parse_overrides(shared_parents, "set-parents", problems),
        **{
            "reseed": study.reseed,
            **{key: value for key, value in content.items() if key in SHARED},
        },
    )
    _check_decided(study, list(cells.values()), base, (own, own_parents), of_task, problems)
    problems.raise_if_any()
    shown = tuple(
        Axis(
            axis.name, tuple(dict.fromkeys(dict(cell.point)[axis.name] for cell in cells.values()))
        )
        for axis in axes
    )
    return Grid(
        study.name,
        shown,
        tuple(cells.values()),
        seeds,
        base,
        tuning,
        own,
        own_parents,
        of_task,
        bool(content.get("skip_lacking", False)),
    )


def _check_decided(
    study: Study,
    cells: Sequence[Cell],
    base: Request,
    of_methods: tuple[Mapping[str, Overrides], Mapping[str, Overrides]],
    of_task: Mapping[str, Overrides],
    problems: Problems,
) -> None:
    """Adds the settings that the file sets and the study decides: those that it has for parents
    (`Study.decides`), and those that every cell with settings of its own has. `of_methods`: for one
    method alone, a cell's own and its parents'.
    """
    parents = {name for cell in cells for name in cell.chain}
    sets = [{key for key, _ in cell.overrides} for cell in cells if cell.overrides]
    in_every_cell = frozenset(set.intersection(*sets) if sets else ())
    settings: list[tuple[str, str, frozenset[str]]] = []
    for flag, shared, of_method, decided in (
        ("set", base.overrides, of_methods[0], in_every_cell),
        ("set-parents", base.parent_overrides, of_methods[1], study.decides),
    ):
        settings += [(f"{flag} {key}", key, decided) for key, _ in shared]
        for method, pairs in of_method.items():
            settings += [(f"{flag} {method}:{key}", key, decided) for key, _ in pairs]
    for task in parents & of_task.keys():
        settings += [(f"tasks.{task}.{key}", key, study.decides) for key, _ in of_task[task]]
    for shown, key, decided in settings:
        if address_of(key)[1] in decided:
            problems.add(
                f"{shown}: the study '{study.name}' decides it, so that its conditions stay"
                " comparable"
            )


def _seeds_text(content: Mapping[str, Any], key: str, default: list[int]) -> str:
    return ",".join(_all_texts(content.get(key, default)))


def _checked_axes(axes: tuple[Axis, ...], problems: Problems) -> tuple[Axis, ...]:
    """The axes, the tasks of the axis `task` checked and `all` replaced, the chains of the axis
    `on` in one spelling, each value once.
    """
    expanded = []
    for axis in axes:
        values = axis.values
        if any(not value.strip() for value in values):
            problems.add(f"[axes] {axis.name}: one of its values is empty")
        if axis.name == "task":
            values = grid_options.task_names(values, problems)
        elif axis.name == "on":
            for value in values:
                grid_options.check_chain(value, "[axes] on", problems)
            chains = (grid_options.chain(value) for value in values)
            values = tuple(">".join(chain) or grid_options.NO_PARENTS for chain in chains)
        expanded.append(Axis(axis.name, tuple(dict.fromkeys(values))))
    return tuple(expanded)
