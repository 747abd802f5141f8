"""Results in the JSON of Every Eval Ever (evalevalai.com): `data/<collection>/<developer>/<model>/
<uuid>.json`, a file a run, by release 0.3.0 of its schema.

Rows that are not known to be a data set's own are a source of type "other", named by what they are.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adapters_xtl.base.files import digest, write_json
from adapters_xtl.export.scored_runs import LanguageScore, ScoredRun, config_of

__all__ = ["SCHEMA_VERSION", "write_every_eval_ever"]

SCHEMA_VERSION = "0.3.0"
COLLECTION = DEVELOPER = "adapters_xtl"


def write_every_eval_ever(into: Path, runs: Sequence[ScoredRun], organisation: str) -> int:
    """Writes a file a run; their number. `organisation`: who provides the results."""
    for scored in runs:
        # a run has the same name whenever it is exported
        name = uuid.UUID(digest(["every eval ever", scored.run.spec.id])[:32], version=4)
        folder = into / "data" / COLLECTION / DEVELOPER / scored.model
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / f"{name}.json", _evaluation(scored, organisation))
    return len(runs)


def _evaluation(scored: ScoredRun, organisation: str) -> dict[str, Any]:
    spec, provenance = scored.run.spec, scored.run.provenance
    now = str(int(time.time()))
    model = f"{DEVELOPER}/{scored.model}"
    trained_here = provenance.data.source != "foreign"
    return {
        "schema_version": SCHEMA_VERSION,
        "evaluation_id": f"{spec.task}/{DEVELOPER}_{scored.model}/{now}",
        "retrieved_timestamp": now,
        "source_metadata": {
            "source_name": f"adapters_xtl run {spec.id}",
            "source_type": "evaluation_run",
            "source_organization_name": organisation,
            "evaluator_relationship": "first_party" if trained_here else "other",
            "additional_details": {"protocol": provenance.data.protocol or "not on record"},
        },
        "eval_library": {
            "name": "adapters_xtl",
            "version": provenance.versions.get("adapters-xtl", "unknown"),
        },
        "model_info": {
            "name": scored.model,
            "id": model,
            "developer": DEVELOPER,
            "inference_engine": {
                "name": "torch",
                "version": provenance.versions.get("torch", "unknown"),
            },
            "additional_details": {
                "deployment_type": "self_deployed",
                "model_availability": "unknown",
                **_model_details(scored),
            },
        },
        "evaluation_results": [_result(scored, score) for score in scored.scores],
    }


def _model_details(scored: ScoredRun) -> dict[str, str]:
    spec = scored.run.spec
    backbone = spec.backbone
    details = {
        "stack": spec.stack or "the backbone alone",
        "backbone": backbone.name,
        "backbone_fingerprint": backbone.fingerprint,
        "weight_bits": str(spec.bits),
        "compute_dtype": spec.dtype,
        "run": scored.revision,
    }
    if backbone.revision:
        details["backbone_revision"] = backbone.revision
    if spec.run is not None:
        details |= {"method": spec.run.method, "seed": str(spec.run.seed)}
    return details


def _result(scored: ScoredRun, score: LanguageScore) -> dict[str, Any]:
    details = {"n": str(score.n), "language": score.language}
    details |= {name: f"{value:g}" for name, value in score.others.items()}
    if score.selected_on:
        details["rows_that_chose_the_checkpoint"] = str(score.selected_on)
    return {
        "evaluation_result_id": (
            f"{scored.run.spec.id}/{score.task}/{score.language}/{score.metric}"
        ),
        "evaluation_name": f"{score.task} {score.language}",
        "source_data": _source(score),
        "metric_config": {
            "evaluation_description": (
                f"{score.metric} of {score.task} in {score.language}, split {score.split}"
            ),
            "metric_id": score.metric,
            "metric_name": score.metric,
            "metric_unit": "percent",
            "lower_is_better": False,
            "score_type": "continuous",
            "min_score": 0,
            "max_score": 100,
        },
        "score_details": {"score": score.score, "details": details},
    }


def _source(score: LanguageScore) -> dict[str, Any]:
    rows = score.rows
    if not rows.official:
        return {
            "dataset_name": rows.content,
            "source_type": "other",
            "additional_details": {"rows": str(score.n), "language": score.language},
        }
    first = rows.data_sets[0]
    details = {"forms": "; ".join(rows.forms), "language": score.language}
    source = {
        "dataset_name": first,
        "source_type": "hf_dataset",
        "hf_repo": first,
        "hf_split": score.split,
        "samples_number": score.n,
        "additional_details": details,
    }
    if len(rows.forms) == 1:
        source["hf_config"] = config_of(rows.forms[0])
    if len(rows.data_sets) == 1 and first in rows.revisions:
        source["hf_revision"] = rows.revisions[first]
    elif rows.revisions:  # of several data sets: the schema has room for one
        details["revisions"] = "; ".join(
            f"{name}@{revision}" for name, revision in rows.revisions.items()
        )
    return source
