"""An analysis carried out: rows, vectors of each encoder, features, and what was found in them.

Vectors and the results of each encoder are kept in the analysis' work directory as they are made,
so that an interrupted analysis goes on from there.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adapters_xtl import tasks
from adapters_xtl.backbones.shape import retrieval_layer
from adapters_xtl.base.errors import DataError
from adapters_xtl.base.files import atomic_write, digest
from adapters_xtl.data.reading import Reader, read_report
from adapters_xtl.models.assembly import trained_model
from adapters_xtl.models.context import Context
from adapters_xtl.models.network import Model
from adapters_xtl.representation.analysis import (
    RANDOM_SEEDS,
    ParallelRows,
    RepresentationAnalysis,
)
from adapters_xtl.representation.encoders import random_model, token_ids, unit_vectors
from adapters_xtl.representation.features import FeatureDistances, feature_distances
from adapters_xtl.representation.fitted_distances import (
    Pairs,
    corrected,
    fitted_distance,
    sample_pairs,
)
from adapters_xtl.representation.metric_learning import FitOptions
from adapters_xtl.representation.parallel_items import (
    ENGLISH,
    Part,
    Unit,
    parallel_units,
    parts_of,
)
from adapters_xtl.representation.record import (
    MODEL,
    RANDOM_WEIGHTS,
    EncoderResult,
    RepresentationRecord,
)
from adapters_xtl.representation.similarity import (
    DISTANCES,
    anisotropy,
    linear_cka,
    nearest_is_translation,
)
from adapters_xtl.runs.records import read_record, write_record

__all__ = ["Material", "analyse", "encoder_result"]

Array = np.ndarray[Any, Any]
DIGITS = 4  # of what is recorded


@dataclass(frozen=True)
class Material:
    """What every encoder's vectors are held against: the units, their features, pairs of them."""

    units: Sequence[Unit]
    features: FeatureDistances
    pairs: Mapping[Part, Pairs]
    options: FitOptions

    @property
    def parts(self) -> Array:
        """(units,): the part of each."""
        return np.array(parts_of(self.units))


def analyse(
    analysis: RepresentationAnalysis, context: Context, rows: ParallelRows, work: Path
) -> RepresentationRecord:
    """The analysis of the encoder that the context's plan scores. DataError where the rows cannot
    be aligned.
    """
    plan = context.plan
    task = tasks.load(analysis.task)
    reader = Reader(strict=plan.request.strict)
    splits, lacking = read_report(reader, task, rows.files.files)
    units = parallel_units(task, splits, analysis.items)
    languages = tuple(sorted({unit.language for unit in units}))
    if ENGLISH not in languages:
        raise DataError(f"{task.name}: none of its parallel rows is English")
    too_few = {
        language: "too few of its rows have translations"
        for language in splits
        if language not in languages
    }
    scored = plan.target or "the bare backbone"
    context.notify(
        f"comparing {len(units)} representations by {scored}: {task.name} in {', '.join(languages)}"
    )
    bare = trained_model(context, None)
    layers = bare.layers
    tokens = token_ids(bare, units)
    generator = np.random.default_rng(0)
    features = feature_distances(units, tokens, generator)
    options = FitOptions(interactions=analysis.form == "interactions")
    material = Material(units, features, sample_pairs(units), options)

    def vectors(name: str, model: Callable[[], Model]) -> Array:
        path = work / f"vectors-{name}.npy"
        if not path.is_file():
            buffer = io.BytesIO()
            made = unit_vectors(model(), units, plan.device, plan.dtype)
            np.save(buffer, made, allow_pickle=False)
            atomic_write(path, buffer.getvalue())
        loaded: Array = np.load(path, allow_pickle=False)
        return loaded

    def result(kind: str, seed: int, of_encoder: Callable[[], Array]) -> EncoderResult:
        path = work / f"{kind.replace(' ', '-')}-{seed}.json"
        if not path.is_file():
            computed = encoder_result(
                kind, seed, of_encoder(), backbone, material, replicates=kind == MODEL
            )
            write_record(path, computed)
        return read_record(EncoderResult, path)

    backbone = vectors("backbone", lambda: bare)
    if plan.target is None:
        encoders = [result(MODEL, 0, lambda: backbone)]
        for seed in RANDOM_SEEDS:
            fresh = _random_vectors(vectors, context, seed)
            encoders.append(result(RANDOM_WEIGHTS, seed, fresh))
    else:
        encoders = [
            result(MODEL, 0, lambda: vectors("model", lambda: trained_model(context, plan.target)))
        ]
    clusters = {unit.cluster for unit in units}
    return RepresentationRecord(
        task=task.name,
        split=rows.split,
        languages=languages,
        left_out_languages={**rows.files.lacking, **lacking, **too_few},
        units=len(units),
        items=len({unit.item for unit in units}),
        groups=len(clusters),
        parts=dict(Counter(parts_of(units))),
        pairs={part: len(pairs.first) for part, pairs in material.pairs.items()},
        rows_digest=digest([[unit.language, unit.item, *unit.texts] for unit in units]),
        features=features.names,
        left_out=features.left_out,
        layers=layers,
        retrieval_layer=retrieval_layer(layers),
        encoders=tuple(encoders),
    )


def _random_vectors(
    vectors: Callable[[str, Callable[[], Model]], Array], context: Context, seed: int
) -> Callable[[], Array]:
    return lambda: vectors(f"random-{seed}", lambda: random_model(context, seed))


def encoder_result(
    kind: str,
    seed: int,
    vectors: Array,
    backbone: Array,
    material: Material,
    *,
    replicates: bool,
) -> EncoderResult:
    """What was found in one encoder's vectors (units, layers + 1, hidden).

    backbone    those of the bare backbone, for CKA
    replicates  whether importances of bootstrap samples are kept
    """
    units = material.units
    layers = range(vectors.shape[1])
    held = material.pairs["held-out"]
    even = corrected(vectors, units)
    even_backbone = even if vectors is backbone else corrected(backbone, units)
    translations = _translations(units)
    return EncoderResult(
        kind=kind,
        seed=seed,
        distances={
            distance: fitted_distance(
                even,
                material.features,
                material.pairs,
                distance,
                parts=material.parts,
                options=material.options,
                replicates=replicates,
            )
            for distance in DISTANCES
        },
        retrieval=_percent(
            _mean_over_languages(translations, even[:, layer], _retrieved) for layer in layers
        ),
        cka_backbone=_percent(
            linear_cka(even[:, layer], even_backbone[:, layer]) for layer in layers
        ),
        cka_english=_percent(
            _mean_over_languages(translations, even[:, layer], linear_cka) for layer in layers
        ),
        anisotropy=_percent(
            anisotropy(vectors[:, layer], held.first, held.second) for layer in layers
        ),
    )


def _translations(units: Sequence[Unit]) -> list[tuple[Array, Array]]:
    """For each language but English: the numbers of its units and of their English translations."""
    number_of = {(unit.language, unit.item): number for number, unit in enumerate(units)}
    pairs: dict[str, list[tuple[int, int]]] = {}
    for (language, item), number in number_of.items():
        english = number_of.get((ENGLISH, item))
        if language != ENGLISH and english is not None:
            pairs.setdefault(language, []).append((number, english))
    columns = [np.array(numbers).T for numbers in pairs.values() if len(numbers) > 1]
    return [(source, english) for source, english in columns]


def _retrieved(source: Array, english: Array) -> float:
    return float(nearest_is_translation(source, english).mean())


def _mean_over_languages(
    translations: Sequence[tuple[Array, Array]],
    vectors: Array,
    measure: Callable[[Array, Array], float],
) -> float:
    values = [measure(vectors[source], vectors[english]) for source, english in translations]
    return float(np.mean(values)) if values else 0.0


def _percent(values: Any) -> tuple[float, ...]:
    return tuple(round(100 * float(value), DIGITS) for value in values)
