"""Tables and figures of the study `representation`, layer by layer."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from adapters_xtl.grid.results import Figure, Line, Point, Series, Table
from adapters_xtl.representation.analysis import FORMS
from adapters_xtl.representation.features import CONTENT, JOINTLY, RANDOM, TOGETHER
from adapters_xtl.representation.record import EncoderResult, RepresentationRecord
from adapters_xtl.representation.similarity import DISTANCES
from adapters_xtl.studies._representation_numbers import Comparison, Number, Numbers

__all__ = [
    "CORRECTED",
    "MAIN",
    "UNITS",
    "comparisons_of",
    "control_table",
    "file_label",
    "group_title",
    "importance_of",
    "importance_tables",
    "language_against_retrieval",
    "rows_note",
    "tables_by_layer",
]

Quantity = Callable[[EncoderResult], Sequence[float]]  # one number a layer
MAIN = DISTANCES[0]  # of headlines and figures; the tables have the others too
UNITS = (
    "numbers are 100 times Spearman's ρ, or a fall of it, on pairs of held-out items; intervals are"
    " over seeds, a difference is paired over them"
)
CORRECTED = (
    "states are corrected for anisotropy by mean and deviation of each dimension (Timkey and van"
    " Schijndel 2021); layer 0 are the embeddings"
)
TOGETHER_NOTE = (
    f"{' and '.join(JOINTLY)}: these features permuted together. One of them follows from another,"
    " so which of them has the weight is partly chance"
)
USUAL = {"form": FORMS[0], "task": "tatoeba"}
HOLM_OF_MAP = "Holm's correction goes over all numbers of this table"


def comparisons_of(points: Sequence[Mapping[str, str]]) -> list[Comparison]:
    """Each chain of parents against none; a longer one also against what it is without its first
    parent (does intermediate training change what the target leaves?), and without its last (what
    does the target change after it?).
    """
    by_point = {tuple(sorted(point.items())): point for point in points}
    comparisons = []
    for point in points:
        chain = point["on"].split(">")
        baselines = ["none"] if point["on"] != "none" else []
        if len(chain) > 1:
            baselines += [">".join(chain[1:]), ">".join(chain[:-1])]
        for baseline in dict.fromkeys(baselines):
            against = by_point.get(tuple(sorted({**point, "on": baseline}.items())))
            if against is not None:
                several = len({one_point["method"] for one_point in points}) > 1
                method = f", {point['method']}" if several else ""
                name = f"{point['on']} against {baseline}{method}"
                comparisons.append(Comparison(name, point, against))
    return comparisons


def group_title(points: Sequence[Mapping[str, str]]) -> str:
    """What the cells of a group have in common, for titles: "xnli, lora"."""
    return ", ".join(_parts(points[0]))


def file_label(points: Sequence[Mapping[str, str]]) -> str:
    """The same as part of a file name."""
    return "-".join(value.replace("@", "-") for value in _parts(points[0]))


def _parts(point: Mapping[str, str]) -> list[str]:
    """Items and method; form and task where they are not the usual ones."""
    parts = [point["items"], point["method"]]
    return parts + [point[axis] for axis, usual in USUAL.items() if point[axis] != usual]


def rows_note(record: RepresentationRecord) -> str:
    features = "; ".join(f"{name}: {why}" for name, why in record.left_out.items())
    lacking = ", ".join(record.left_out_languages)
    return (
        f"{record.units} units: {record.items} items of {record.task} ({record.split}) in"
        f" {', '.join(record.languages)}; {record.parts.get('train', 0)} train,"
        f" {record.parts.get('select', 0)} select, {record.parts.get('held-out', 0)} are held out"
        + (f"; features left out: {features}" if features else "")
        + (f"; languages left out: {lacking}" if lacking else "")
    )


def importance_of(distance: str, feature: str, layer: int) -> Number:
    return lambda encoder: encoder.distances[distance].importance[feature][layer]


def _layers(record: RepresentationRecord) -> tuple[str, ...]:
    return tuple(str(layer) for layer in range(record.layers + 1))


def importance_tables(
    numbers: Numbers,
    points: Sequence[Mapping[str, str]],
    record: RepresentationRecord,
    distance: str,
) -> list[Table]:
    """Feature × layer: the importances of each cell, then their changes."""
    features = tuple(record.model.distances[distance].importance)
    layers = range(record.layers + 1)
    rows = [[importance_of(distance, name, layer) for layer in layers] for name in features]
    notes = (UNITS, CORRECTED, TOGETHER_NOTE)
    tables = []
    for point in points:
        lines = tuple(
            Line(name, tuple(numbers.entry(point, number) for number in row))
            for name, row in zip(features, rows, strict=True)
        )
        name = f"importance-{file_label(points)}-{distance}-{_file_part(point['on'])}"
        title = f"Importance of features, {distance}, {point['on']}"
        tables.append(Table(name, title, "feature \\ layer", _layers(record), lines, notes))
    for comparison in comparisons_of(points):
        lines = tuple(
            Line(name, entries, difference=True)
            for name, entries in zip(features, numbers.changes(comparison, rows), strict=True)
        )
        sides = "-".join(_file_part(side["on"]) for side in (comparison.of, comparison.against))
        name = f"change-{file_label(points)}-{distance}-{sides}"
        title = f"Change of importance, {distance}, {comparison.name}"
        tables.append(
            Table(name, title, "feature \\ layer", _layers(record), lines, (*notes, HOLM_OF_MAP))
        )
    return tables


def _file_part(on: str) -> str:
    """The parents of a point as part of a file's name: what a name cannot hold becomes `-`."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", on.replace(">", "+"))


def tables_by_layer(
    numbers: Numbers, points: Sequence[Mapping[str, str]], record: RepresentationRecord
) -> list[Table]:
    """For each quantity of an encoder a table: the cells and random weights down, layers across."""
    units = {
        "rho": "100 times Spearman's ρ of the fitted and the real distances of held-out items",
        "ceiling": "what 100·ρ could reach at most, by the split half of the dimensions",
        "retrieval": "% of units whose nearest English unit is their translation",
        "cka-english": "100 × linear CKA (Kornblith et al. 2019) of translations with English",
        "cka-backbone": "100 × linear CKA (Kornblith et al. 2019) with the bare backbone",
        "anisotropy": "100 × mean cosine of pairs (Ethayarajh 2019), before the correction",
    }
    quantities: dict[str, tuple[str, str, Quantity]] = {}
    for distance in DISTANCES:
        for name, title in (("rho", "Fit of the features"), ("ceiling", "Ceiling of the fit")):
            quantities[f"{name}-{distance}"] = (
                f"{title}, {distance}",
                units[name],
                _of_distance(distance, name),
            )
    quantities |= {
        "retrieval": (
            "Retrieval of translations",
            units["retrieval"],
            lambda encoder: encoder.retrieval,
        ),
        "cka-english": (
            "Alignment of translations",
            units["cka-english"],
            lambda encoder: encoder.cka_english,
        ),
        "cka-backbone": (
            "Likeness to the bare backbone",
            units["cka-backbone"],
            lambda encoder: encoder.cka_backbone,
        ),
        "anisotropy": ("Anisotropy", units["anisotropy"], lambda encoder: encoder.anisotropy),
    }
    bare = next((point for point in points if point["on"] == "none"), None)
    layers = range(record.layers + 1)
    tables = []
    for name, (title, unit, quantity) in quantities.items():
        lines = [
            Line(point["on"], tuple(numbers.entry(point, _at(quantity, n)) for n in layers))
            for point in points
        ]
        if bare is not None:
            entries = tuple(numbers.random_weights(bare, _at(quantity, n)) for n in layers)
            lines.append(Line("random weights", entries))
        notes = (f"{unit}; means over seeds", CORRECTED)
        label = f"{name}-{file_label(points)}"
        tables.append(Table(label, title, "layer", _layers(record), tuple(lines), notes))
    return tables


def _at(quantity: Quantity, layer: int) -> Number:
    return lambda encoder: quantity(encoder)[layer]


def _of_distance(distance: str, name: str) -> Quantity:
    if name == "rho":
        return lambda encoder: encoder.distances[distance].correlation
    return lambda encoder: encoder.distances[distance].ceiling


def control_table(
    numbers: Numbers, points: Sequence[Mapping[str, str]], record: RepresentationRecord
) -> Table:
    """At the layer that retrieval pools: what features that say nothing come to, beside the fit."""
    layer = record.retrieval_layer

    def largest(encoder: EncoderResult) -> float:
        shuffled = encoder.distances[MAIN].shuffled_importance
        return max((values[layer] for values in shuffled.values()), key=abs)

    columns: dict[str, Number] = {
        "ρ": lambda encoder: encoder.distances[MAIN].correlation[layer],
        "ceiling": lambda encoder: encoder.distances[MAIN].ceiling[layer],
        "ρ, shuffled features": lambda encoder: encoder.distances[MAIN].shuffled_correlation[layer],
        "largest importance, shuffled": largest,
        "importance of the random feature": importance_of(MAIN, RANDOM, layer),
        f"importance of {TOGETHER}": importance_of(MAIN, TOGETHER, layer),
        f"importance of {CONTENT}": importance_of(MAIN, CONTENT, layer),
    }
    lines = [
        Line(point["on"], tuple(numbers.entry(point, number) for number in columns.values()))
        for point in points
    ]
    bare = next((point for point in points if point["on"] == "none"), None)
    if bare is not None:
        entries = tuple(numbers.random_weights(bare, number) for number in columns.values())
        lines.append(Line("random weights", entries))
    return Table(
        f"controls-{file_label(points)}",
        f"Controls at layer {layer} of {record.layers}, {MAIN}",
        "encoder",
        tuple(columns),
        tuple(lines),
        (
            UNITS,
            "shuffled: every feature was given to other units before anything was fitted; random"
            " weights: encoders of the backbone's sizes that were never trained",
        ),
    )


def language_against_retrieval(
    numbers: Numbers, points: Sequence[Mapping[str, str]], record: RepresentationRecord
) -> Figure:
    """The change of language's importance against that of retrieval, a dot for each layer."""
    series = []
    for comparison in comparisons_of(points):
        dots = []
        for layer in range(record.layers + 1):
            language = numbers.difference(comparison, importance_of(MAIN, TOGETHER, layer))
            retrieval = numbers.difference(
                comparison,
                lambda encoder, layer=layer: encoder.retrieval[layer],  # type: ignore[misc]
            )
            if language is not None and retrieval is not None:
                bounds = retrieval.interval
                low, high = (bounds.low, bounds.high) if bounds else (None, None)
                dots.append(
                    Point(language.mean, retrieval.mean, low, high, retrieval.verdict, str(layer))
                )
        if dots:
            series.append(Series(comparison.name, tuple(dots)))
    return Figure(
        f"language-against-retrieval-{file_label(points)}",
        "scatter",
        f"Language against retrieval, by layer · {group_title(points)}",
        f"change of the importance of {TOGETHER}",
        "change of retrieval, %",
        series=tuple(series),
        caption=(
            "Both changes in points, means over seeds; a dot for each layer, numbered. Layers of"
            f" one encoder are no independent observations. {CORRECTED[0].upper()}{CORRECTED[1:]}."
        ),
    )
