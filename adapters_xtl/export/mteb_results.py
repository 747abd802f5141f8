"""Results in the JSON that mteb reads: `results/<model>/<revision>/<task>.json`, a file a task, and
`model_meta.json`.

The form is that of mteb's `TaskResult` and `ModelMeta` (release 2.26). Scores are 0 to 1 there.
`mteb_version` is null, since mteb did not run the evaluation, and a task's name begins with
`adapters_xtl-`: mteb has tasks of its own on some of the same data sets, scored by other rules.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from adapters_xtl.base.files import write_json
from adapters_xtl.export.scored_runs import LanguageScore, ScoredRun
from adapters_xtl.sharing.bundle_card import base_model

__all__ = ["PREFIX", "write_mteb_results"]

PREFIX = "adapters_xtl"
# ISO 639-1 code → ISO 639-3 code and the script that it is usually written in (ISO 15924)
LANGUAGES = {
    "af": "afr-Latn", "ar": "ara-Arab", "az": "aze-Latn", "bg": "bul-Cyrl", "bn": "ben-Beng",
    "de": "deu-Latn", "el": "ell-Grek", "en": "eng-Latn", "es": "spa-Latn", "et": "est-Latn",
    "eu": "eus-Latn", "fa": "fas-Arab", "fi": "fin-Latn", "fr": "fra-Latn", "gu": "guj-Gujr",
    "he": "heb-Hebr", "hi": "hin-Deva", "ht": "hat-Latn", "hu": "hun-Latn", "id": "ind-Latn",
    "it": "ita-Latn", "ja": "jpn-Jpan", "jv": "jav-Latn", "ka": "kat-Geor", "kk": "kaz-Cyrl",
    "ko": "kor-Hang", "lt": "lit-Latn", "ml": "mal-Mlym", "mr": "mar-Deva", "ms": "msa-Latn",
    "my": "mya-Mymr", "nl": "nld-Latn", "pa": "pan-Guru", "pl": "pol-Latn", "pt": "por-Latn",
    "qu": "que-Latn", "ro": "ron-Latn", "ru": "rus-Cyrl", "sw": "swa-Latn", "ta": "tam-Taml",
    "te": "tel-Telu", "th": "tha-Thai", "tl": "tgl-Latn", "tr": "tur-Latn", "uk": "ukr-Cyrl",
    "ur": "urd-Arab", "vi": "vie-Latn", "wo": "wol-Latn", "yo": "yor-Latn", "zh": "zho-Hans",
    # the languages of AmericasNLI
    "aym": "aym-Latn", "bzd": "bzd-Latn", "cni": "cni-Latn", "gn": "grn-Latn", "hch": "hch-Latn",
    "nah": "nah-Latn", "oto": "oto-Latn", "quy": "quy-Latn", "shp": "shp-Latn", "tar": "tar-Latn",
}  # fmt: skip


def write_mteb_results(into: Path, runs: Sequence[ScoredRun], notify: Callable[[str], None]) -> int:
    """Writes the scores whose rows are known to be a data set's own; the number of task files.

    What is left out is said. A language that several runs scored alike for one model stands once.
    """
    scores: dict[tuple[str, str, str], dict[tuple[str, str], LanguageScore]] = {}
    metas: dict[tuple[str, str], ScoredRun] = {}
    for scored in runs:
        left_out: dict[str, list[str]] = {}
        for score in scored.scores:
            if not score.rows.official:
                left_out.setdefault(f"{score.task}: {score.rows.content}", []).append(
                    score.language
                )
                continue
            metas[scored.model, scored.revision] = scored
            kept = scores.setdefault((scored.model, scored.revision, score.task), {})
            first = kept.setdefault((score.split, score.language), score)
            if (first.score, first.rows) != (score.score, score.rows):
                notify(
                    f"mteb: {scored.run.path}: {score.task} {score.language} was scored by another"
                    f" of these runs too, {first.score:.2f} against {score.score:.2f}: left out"
                )
        for reason, languages in left_out.items():
            notify(
                f"mteb: {scored.run.path}: {reason} ({', '.join(languages)}): left out, as they"
                " are not known to be the data set's own rows"
            )
    for (model, revision, task), by_language in scores.items():
        folder = into / "results" / f"{PREFIX}__{model}" / revision
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / f"{PREFIX}-{task}.json", _task_result(task, list(by_language.values())))
    for (model, revision), scored in metas.items():
        folder = into / "results" / f"{PREFIX}__{model}" / revision
        write_json(folder / "model_meta.json", _model_meta(scored, model, revision))
    return len(scores)


def _task_result(task: str, scores: Sequence[LanguageScore]) -> dict[str, Any]:
    """A `TaskResult`. Of several data sets the revisions are named together."""
    revisions: dict[str, str] = {}
    for score in scores:
        revisions |= {name: score.rows.revisions.get(name, "") for name in score.rows.data_sets}
    alone = len(revisions) == 1
    splits: dict[str, list[dict[str, Any]]] = {}
    for score in scores:
        value = round(score.score / 100, 6)
        entry: dict[str, Any] = {
            "main_score": value,
            score.metric: value,
            "n": score.n,
            "hf_subset": score.language,
            "languages": [LANGUAGES.get(score.language, score.language)],
        }
        if score.selected_on:
            entry["rows_that_chose_the_checkpoint"] = score.selected_on
        splits.setdefault(score.split, []).append(entry)
    seconds = [score.seconds for score in scores]
    measured = [value for value in seconds if value is not None]
    return {
        "dataset_revision": "; ".join(
            revision if alone else f"{name}@{revision}" for name, revision in revisions.items()
        ),
        "task_name": f"{PREFIX}-{task}",
        "mteb_version": None,
        "scores": splits,
        "evaluation_time": round(sum(measured), 3) if len(measured) == len(seconds) else None,
        "kg_co2_emissions": None,
    }


def _model_meta(scored: ScoredRun, model: str, revision: str) -> dict[str, Any]:
    """A `ModelMeta`: name, revision and what the module stands on; the rest is not known."""
    backbone = scored.run.spec.backbone
    cost = scored.run.metrics.train
    return {
        "loader": None,
        "name": f"{PREFIX}/{model}",
        "revision": revision,
        "release_date": None,
        "languages": None,
        "n_parameters": cost.total_parameters if cost is not None else None,
        "memory_usage_mb": None,
        "max_tokens": None,
        "embed_dim": None,
        "license": None,
        "open_weights": None,
        "public_training_code": None,
        "public_training_data": None,
        "framework": ["PyTorch"],
        "similarity_fn_name": None,
        "use_instructions": None,
        "training_datasets": None,
        "adapted_from": next(iter(base_model(backbone)), None),
    }
