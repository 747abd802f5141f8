"""The model card of a bundle, from its bundle.json: the hub's metadata block and what a reader must
know.

It says only what the record holds. Rows are called what they are known to be: a mirror's rows have
a data set's columns, which does not make them that data set. "Zero-shot" stands only where the
backbone is known to have seen no labels.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from adapters_xtl import methods, tasks
from adapters_xtl.backbones.registry import NAMED
from adapters_xtl.base.typed_json import to_json
from adapters_xtl.runs.records import BackboneRecord
from adapters_xtl.runs.run_card import score_table
from adapters_xtl.runs.trained_languages import trained_languages
from adapters_xtl.sharing.bundle_record import BundleBackbone, BundleRecord, TrainedRows
from adapters_xtl.sharing.card_usage import usage
from adapters_xtl.sharing.hub_repository import module_tag
from adapters_xtl.sharing.licences import OTHER
from adapters_xtl.sharing.mirror_rows import data_set_of
from adapters_xtl.sharing.model_index import model_index, pipeline_tag
from adapters_xtl.tasks import BACK_TRANSLATED, Task

__all__ = ["base_model", "bundle_card", "claimed", "inherited_sections", "languages_of"]

# pretrained on text alone, or not at all: no task's labels
UNLABELLED = ("FacebookAI/xlm-roberta-large", "FacebookAI/xlm-roberta-base", NAMED["tiny"].location)
BASES = {"mini": "intfloat/multilingual-e5-small"}
VERSIONS = ("adapters-xtl", "adapters", "peft", "transformers", "torch")


def bundle_card(record: BundleRecord, stack: Sequence[str], fused: Sequence[str] = ()) -> str:
    """Markdown. `stack`: tasks of the modules that are loaded together, the bundle's own last;
    `fused`: the names by which a fusion layer knows its parents.
    """
    heading = f"# {record.chain} · {record.method} on {record.backbone.name}"
    sections = (
        (
            "",
            [
                heading,
                "",
                *_summary(record),
                "",
                "| | |",
                "|---|---|",
                *(f"| {name} | {value} |" for name, value in _facts(record)),
            ],
        ),
        ("## Training data", _data(record)),
        ("## Scores", _scores(record)),
        ("## Use", usage(record, stack, fused)),
        ("## Parents", _parents(record)),
        (
            "## Verification",
            [
                f"Module sha256 `{record.module_sha256}`, backbone fingerprint"
                f" `{record.backbone.fingerprint}`, run `{record.id}`. `manifest.json`"
                " holds every file's sha256; `xtl hub verify DIR` checks them, and that every"
                " tensor fits the backbone. The bundle holds safetensors and JSON only."
            ],
        ),
        ("## Licence", _licence(record)),
    )
    parts = [
        "\n".join([title, "", *lines] if title else lines) for title, lines in sections if lines
    ]
    return _metadata(record) + "\n" + "\n\n".join(parts) + "\n"


def base_model(backbone: BundleBackbone | BackboneRecord) -> list[str]:
    """The hub's name of the backbone, in a list; [] where the hub does not have it."""
    base = BASES.get(backbone.name, backbone.location)
    return [base] if re.fullmatch(r"[\w.-]+/[\w.-]+", base) else []


def languages_of(record: BundleRecord) -> list[str]:
    """The languages of the train rows and of the scores."""
    languages = dict.fromkeys(_train_languages(record)) | {
        code: None for scores in record.metrics.values() for code in scores.languages
    }
    return list(languages)


def inherited_sections(record: BundleRecord) -> list[tuple[str, list[str]]]:
    """What the card of anything that is made of a module repeats of the module's own: (heading,
    lines of Markdown).
    """
    return [
        ("## Training data", _data(record)),
        ("## Scores", _scores(record)),
        ("## Licence", _licence(record)),
    ]


def _metadata(record: BundleRecord) -> str:
    """The YAML block that the hub reads."""
    import yaml

    relation = "finetune" if methods.load(record.method).whole_encoder else "adapter"
    index, tag = model_index(record, _name(record)), pipeline_tag(record)
    published = base_model(record.backbone)
    named = {"license_name": "terms-of-the-training-data"} if record.licence == "other" else {}
    block: dict[str, Any] = {
        "language": languages_of(record),
        "license": record.licence,
        **named,
        "library_name": methods.load(record.method).library,
        **({"pipeline_tag": tag} if tag else {}),
        "base_model": published,
        **({"base_model_relation": relation} if published else {}),
        "datasets": sorted({data_set_of(form) for form in claimed(record.data)}),
        "metrics": sorted({scores.metric for scores in record.metrics.values()}),
        "tags": [
            "adapters_xtl",
            record.method,
            record.task,
            "cross-lingual",
            module_tag(record.module_sha256),
        ],
        **({"model-index": index} if index else {}),
    }
    text: str = yaml.safe_dump(block, sort_keys=False, allow_unicode=True)
    return f"---\n{text}---\n"


def _name(record: BundleRecord) -> str:
    """The module's name in its own results."""
    below = f"-on-{'-'.join(parent.task for parent in record.parents)}" if record.parents else ""
    backbone = record.backbone.name.rpartition("/")[2]
    return f"{record.task}{below}-{record.method}-{backbone}"


def _train_languages(record: BundleRecord) -> list[str]:
    """Languages of the train rows: those that were chosen, else English, but for somebody's own,
    whose files name them.
    """
    if record.data.source != "files":
        chosen = record.run.hyper.languages or ("en",)
        return ["en" if code == BACK_TRANSLATED else code for code in chosen]
    forms = [form for rows in record.data.train.values() for form in rows.forms]
    return [match[1] for form in forms if (match := re.search(r"\[(.+)\]", form))]


def claimed(data: TrainedRows) -> list[str]:
    """The forms of train rows that are known to be the data set they are named after: the hub's."""
    if data.source != "hub":
        return []
    return list(dict.fromkeys(form for rows in data.train.values() for form in rows.forms))


def _task(name: str) -> Task | None:
    return tasks.load(name) if tasks.exists(name) else None


def _summary(record: BundleRecord) -> list[str]:
    task, name = _task(record.task), record.backbone.name
    title = task.title if task else record.task
    method = methods.load(record.method)
    kind = method.fused_title if record.compose == "fuse" else method.title
    start = (
        f"{kind or f'A module of method {method.name}'} for {title} on the frozen encoder {name}"
    )
    if method.whole_encoder:
        start = f"All weights of {name}, fine-tuned for {title}"
    parents = " and ".join(parent.task for parent in record.parents)
    how = f" ({record.composition})" if record.composition else ""
    above = f" above {parents}{how}" if parents else ""
    above = f", started as a copy of {parents}" if record.compose == "init" else above
    above = f", the sum of {parents}, which it holds" if record.compose == "sum" else above
    alone = f", or with {method.library} alone" if method.has_own_library else ""
    lines = [f"{start}{above}. It is loaded with adapters_xtl{alone}."]
    note = NAMED[name].note if name in NAMED else ""
    return [*lines, "", f"The encoder: {note}"] if note else lines


def _facts(record: BundleRecord) -> list[tuple[str, str]]:
    backbone, hyper, trained = record.backbone, record.run.hyper, record.trained
    revision = f", revision `{backbone.revision[:12]}`" if backbone.revision else ""
    options = ", ".join(f"{key} {value}" for key, value in record.options.items())
    facts = [
        (
            "backbone",
            (
                f"{backbone.name} ({backbone.location}{revision}), {backbone.bits}-bit"
                f" weights, {backbone.dtype} compute"
            ),
        ),
        ("method", record.method + (f" ({options})" if options else "")),
    ]
    for task, labels in record.labels.items():
        more = f", … ({len(labels)} in all)" if len(labels) > 12 else ""
        facts += [(f"labels of {task}", ", ".join(labels[:12]) + more)] if labels else []
    if trained:
        facts.append(
            (
                "trainable parameters",
                (
                    f"{trained.trainable_parameters:,} of {trained.total_parameters:,} "
                    f"({trained.head_parameters:,} of them in the head)"
                ),
            )
        )
        cost = (
            f"{trained.steps} steps, {trained.examples:,} examples, learning rate"
            f" {hyper.lr:g}, batch {hyper.batch_size}, at most {hyper.max_length} tokens"
        )
        facts.append(("training", f"{cost}, seed {record.seed}, protocol {record.protocol}"))
    if languages := trained_languages(record.run):
        facts.append(("trained in", languages))
    if backbone.bits < 32:
        facts.append(
            ("precision", "its own results are those on a backbone loaded with the same bits")
        )
    versions = ", ".join(
        f"{name} {record.versions[name]}" for name in VERSIONS if name in record.versions
    )
    return [*facts, ("versions", versions)] if versions else facts


def _data(record: BundleRecord) -> list[str]:
    data, library = record.data, methods.load(record.method).library
    if data.source == "foreign":
        return [
            "Not on record: adapters_xtl did not train it, it was taken in from a module that"
            f" {library} had saved."
        ]
    if not data.train:
        return ["None: it is as it was drawn, before any training."]
    limit = record.run.hyper.max_examples
    drawn = {
        task: ", drawn by its seed" * (part.examples == limit) for task, part in data.train.items()
    }
    lines = [
        f"- {task}: {part.examples:,} of {part.rows:,} rows{drawn[task]}, {_what(data, part.forms)}"
        for task, part in data.train.items()
    ]
    shas = record.run.data.get("train", ())
    if data.source != "embedded" and shas:
        more = f" and {len(shas) - 6} more" if len(shas) > 6 else ""
        lines += [
            "",
            f"sha256 of the files: {', '.join(f'`{sha[:16]}…`' for sha in shas[:6])}{more}.",
        ]
    return lines


def _what(data: TrainedRows, forms: Iterable[str]) -> str:
    """What rows are, as far as it is known."""
    if data.source == "embedded":
        return (
            "the sample rows that ship with adapters_xtl, written for it (not the data set that the"
            " task is named after)"
        )
    if data.source == "files":
        languages = {match[1] for form in forms if (match := re.search(r"\[(.+)\]", form))}
        named = ", ".join(sorted(languages))
        return (
            f"{data.rows or 'rows of whoever trained it, which are not shared with it'}"
            f"{f' (languages of the files: {named})' if named else ''}"
        )
    # forms of which the same is said are named together
    grouped: dict[tuple[str, str, str, str], list[str]] = {}
    for form in forms:
        parts = re.fullmatch(r"(.+) \[(.+)\] (.+)", form)
        repo, name, split = parts.groups() if parts else (form, "", "")
        before, after = _around(data, form)
        grouped.setdefault((before, repo, split, after), []).append(name)
    lines = []
    for (before, repo, split, after), names in grouped.items():
        configs = f" [{', '.join(names)}] {split}" if split else ""
        lines.append(f"{before}{repo}{configs}{after}")
    return "; ".join(lines)


def _around(data: TrainedRows, form: str) -> tuple[str, str]:
    """What is said before and after the name of a form."""
    if data.source == "hub":
        revision = data.revisions.get(data_set_of(form), "")
        return "", f" at revision `{revision[:12]}`" if revision else ""
    if data.rows:
        return f"{data.rows}, in the columns of ", ""
    rows = f"rows of `{data.mirror}`, which carry the columns of "
    stated = data.stated.get(form, "")
    return rows, f" (the mirror's README states: {stated})" if stated else ""


def _scores(record: BundleRecord) -> list[str]:
    if not record.metrics:
        embedded = record.data.source == "embedded"
        return [
            (
                "None. It was trained and scored on sample rows, which show that the pipeline works"
                " and measure nothing."
                if embedded
                else "None are on its record."
            )
        ]
    lines: list[str] = []
    for name, scores in record.metrics.items():
        task = _task(name)
        forms = record.data.report.get(name, ())
        notes = [f"- {note}" for note in (task.notes if task else ())]
        lines += [
            (
                f"### {name}{f': {task.title}' if task else ''}, split {scores.split}, protocol"
                f" {scores.protocol}"
            ),
            "",
        ]
        lines += [f"Rows: {_what(record.data, forms)}.", ""] if forms else []
        lines += (
            ["The same rows chose the checkpoint, so the score is optimistic.", ""]
            if scores.selected_on
            else []
        )
        lines += (
            [f"Of each language, the first {scores.max_examples:,} rows at most were scored.", ""]
            if scores.max_examples
            else []
        )
        trained_in = _train_languages(record)
        others = [language for language in scores.languages if language not in trained_in]
        others = [] if record.data.source == "files" else others
        lines += [_transfer(record.backbone, trained_in, others), ""] if others else []
        lines += [*score_table(to_json(scores)), *notes, *[""] * bool(notes)]
    return lines[:-1]


def _transfer(backbone: BundleBackbone, trained_in: Sequence[str], others: Sequence[str]) -> str:
    """What may be said of languages other than those that were trained in."""
    rows = "English rows only" if trained_in == ["en"] else f"rows in {', '.join(trained_in)} only"
    start = f"Module and head were trained on {rows}, and scored in {', '.join(others)}"
    if backbone.location in UNLABELLED:
        return f"{start} zero-shot: the backbone has seen no labels of any task."
    if backbone.name == "mini":
        return (
            f"{start}. The backbone has had labelled data in its own training, so this is no"
            " transfer without labels."
        )
    return f"{start}. Whether the backbone has seen labels of this task is not on record."


def _parents(record: BundleRecord) -> list[str]:
    if not record.parents:
        return []
    rows = [
        f"| {parent.task} | `{parent.sha256}` | {', '.join(parent.where) or 'beside this bundle'} |"
        for parent in record.parents
    ]
    sentence = (
        "It gives its own results only above exactly these modules, which `xtl hub pull` finds and"
        " verifies:"
    )
    if record.compose == "init":
        sentence = (
            "It started as a copy of this module and takes its place; `xtl hub pull` finds and"
            " verifies it:"
        )
    if record.compose == "sum":
        sentence = "It is the sum of these modules and takes their place:"
    return [sentence, "", "| task | sha256 of the module | where |", "|---|---|---|", *rows]


def _licence(record: BundleRecord) -> list[str]:
    """The licence, where it comes from, and why it is no single one."""
    chosen = record.licence != OTHER and bool(record.licence_reasons)
    if record.licence == OTHER:
        lines = [
            "These weights have no single licence; the terms of everything they were made from"
            " apply:"
        ]
    else:
        lines = [f"These weights: {record.licence}. They were made from:"]
    lines += ["", *(f"- {source}" for source in record.made_from)]
    if record.licence_reasons:
        why = "Chosen by whoever shared it, although" if chosen else "Why no single licence holds"
        lines += ["", f"{why}:", "", *(f"- {reason}" for reason in record.licence_reasons)]
    return lines
