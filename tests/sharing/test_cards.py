"""What a card claims: a licence that follows, results that a hub can read, public places alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import ModelCardData, model_index_to_eval_results

from adapters_xtl.base import hub as hub_client
from adapters_xtl.base.files import cache_dir, read_json
from adapters_xtl.base.typed_json import from_json
from adapters_xtl.runs.records import BackboneRecord, RowsCount, RowsRecord
from adapters_xtl.runs.stored_runs import StoredRun, read_run
from adapters_xtl.sharing import bundle, bundle_cache, publish
from adapters_xtl.sharing.bundle_card import bundle_card
from adapters_xtl.sharing.bundle_record import BundleRecord
from adapters_xtl.sharing.licences import ORDER, Source, combined, hub_name, sources_of
from tests.bundles import pack_run, stack, train

SHA = "b" * 40


def sources(*licences: str) -> list[Source]:
    return [Source(f"part {n}", licence or "?", licence) for n, licence in enumerate(licences)]


@pytest.mark.parametrize(
    ("licences", "expected"),
    [
        (("mit", "apache-2.0"), "apache-2.0"),
        (("mit", "mit"), "mit"),
        (("cc0-1.0", "mit"), "mit"),
        (("apache-2.0", "cc-by-4.0"), "cc-by-4.0"),
        (("mit", "cc-by-sa-4.0", "cc-by-4.0"), "cc-by-sa-4.0"),
        (("cc-by-sa-3.0", "cc-by-sa-4.0"), "cc-by-sa-4.0"),
        (("mit", "cc-by-nc-4.0", "apache-2.0"), "cc-by-nc-4.0"),
        (("cc-by-nc-4.0", "cc-by-nc-sa-4.0"), "cc-by-nc-sa-4.0"),
    ],
)
def test_the_licence_is_the_most_restrictive(licences: tuple[str, ...], expected: str) -> None:
    assert combined(sources(*licences)) == (expected, ())
    assert combined(sources(*reversed(licences))) == (expected, ())


@pytest.mark.parametrize(
    ("licences", "reasons"),
    [
        (("mit", ""), 1),
        ((), 1),
        (("cc-by-sa-4.0", "cc-by-nc-4.0"), 1),
        (("cc-by-sa-4.0", "cc-by-nc-sa-4.0"), 1),
        (("cc-by-sa-4.0", "cc-by-nc-4.0", ""), 2),
    ],
)
def test_what_has_no_single_licence_is_other_and_says_why(
    licences: tuple[str, ...], reasons: int
) -> None:
    licence, why = combined(sources(*licences))
    assert licence == "other" and len(why) == reasons
    for number, name in enumerate(licences):
        if not name or "nc" in name:
            assert any(f"part {number}" in reason for reason in why)


def test_licences_in_words_are_known_only_where_they_are_one() -> None:
    assert hub_name("CC BY-SA 4.0") == "cc-by-sa-4.0" and hub_name("Apache-2.0") == "apache-2.0"
    for text in ("not stated", "CC BY-SA 4.0 and others", "CC BY 4.0 (XCOPA), BSD-2 (COPA)", ""):
        assert hub_name(text) == ""
    every = [name for names in ORDER.values() for name in names]
    assert len(every) == len(set(every))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """bundle.json of a module on the tiny backbone."""
    run = stack(tmp_path_factory, "mnli", method="lora")
    folder = pack_run(run, tmp_path_factory.mktemp("cards") / "lora")
    value: dict[str, Any] = read_json(folder / "bundle.json")
    return value


def card(made: dict[str, Any], **changes: Any) -> str:
    """The card of an XNLI module trained on the hub's rows, with changes to its record."""
    scores = {
        "en": {"accuracy": 80.125, "n": 2490},
        "sw": {"accuracy": 61.5, "n": 2490},
    }
    task = {"split": "validation", "metric": "accuracy", "score": 70.8, "protocol": "clean"}
    data = {
        "source": "hub",
        "revisions": {"google/xtreme": SHA},
        "train": {
            "xnli": {"rows": 9, "examples": 9, "forms": ["nyu-mll/multi_nli [default] train"]}
        },
        "select": {},
        "report": {"xnli": ["google/xtreme [XNLI] validation"]},
        "mirror": "",
        "stated": {},
        "rows": "",
    }
    backbone = {
        **made["backbone"],
        "name": "xlmr-large",
        "location": "FacebookAI/xlm-roberta-large",
    }
    record = {
        **made,
        "task": "xnli",
        "labels": {"xnli": ["entailment", "neutral", "contradiction"]},
        "backbone": backbone,
        "metrics": {"xnli": {**task, "languages": scores}},
        "data": data,
    }
    for key, change in changes.items():
        record[key] = change(record[key])
    return bundle_card(from_json(BundleRecord, record), ["xnli"])


def results(text: str) -> list[Any]:
    """The results that huggingface_hub reads in a card; its own classes check their form."""
    data = ModelCard(text).data
    assert isinstance(data, ModelCardData)
    return list(data.eval_results or ())


def test_results_are_read_by_the_hubs_own_classes(made: dict[str, Any]) -> None:
    text = card(made)
    english, swahili = results(text)
    assert (english.dataset_type, english.dataset_config) == ("google/xtreme", "XNLI")
    assert (english.dataset_split, english.dataset_revision) == ("validation", SHA)
    assert english.dataset_args == {"language": "en", "protocol": "clean"}
    assert (english.metric_type, english.metric_value) == ("accuracy", 80.125)
    assert swahili.dataset_args["language"] == "sw" and swahili.metric_value == 61.5
    block = yaml.safe_load(text.split("---\n", 2)[1])
    assert block["pipeline_tag"] == english.task_type == "text-classification"
    assert block["base_model"] == ["FacebookAI/xlm-roberta-large"]
    assert block["base_model_relation"] == "adapter"
    assert len(block["model-index"]) == 1 and len(block["model-index"][0]["results"]) == 2
    name, again = model_index_to_eval_results(block["model-index"])
    assert name == "xnli-lora-xlmr-large" and again == [english, swahili]


def test_rows_that_chose_the_checkpoint_are_marked(made: dict[str, Any]) -> None:
    def selected(metrics: dict[str, Any]) -> dict[str, Any]:
        return {"xnli": {**metrics["xnli"], "selected_on": 5}}

    assert all(
        "chose the checkpoint" in each.metric_name for each in results(card(made, metrics=selected))
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"data": lambda data: {**data, "source": "mirror", "mirror": "rows"}},
        {"data": lambda data: {**data, "source": "files"}},
        {"data": lambda data: {**data, "source": "embedded"}},
        {"data": lambda data: {**data, "report": {"xnli": ["somebody/else [XNLI] validation"]}}},
        {"metrics": lambda metrics: {"xnli": {**metrics["xnli"], "max_examples": 100}}},
        {"metrics": lambda metrics: {}},
    ],
    ids=["mirror", "own files", "samples", "other rows", "first rows", "nothing scored"],
)
def test_other_rows_are_never_a_data_sets_result(
    made: dict[str, Any], changes: dict[str, Any]
) -> None:
    assert "model-index" not in card(made, **changes)


def test_a_real_card_names_where_its_licence_comes_from(made: dict[str, Any]) -> None:
    assert made["licence"] == "apache-2.0" and "licence_reasons" not in made
    text = "\n".join(made["made_from"])
    assert "backbone tiny" in text and "sample rows of this package" in text


@pytest.mark.parametrize(
    ("task", "backbone", "licence", "reason"),
    [
        ("squad1", "FacebookAI/xlm-roberta-large", "cc-by-sa-4.0", ""),
        ("csqa", "FacebookAI/xlm-roberta-large", "mit", ""),
        ("csqa", "google-bert/bert-base-multilingual-cased", "apache-2.0", ""),
        ("csqa", "somebody/encoder", "other", "backbone encoder"),
        ("mnli", "FacebookAI/xlm-roberta-large", "other", "rows of mnli"),
        ("qqp", "FacebookAI/xlm-roberta-large", "other", "not stated"),
        ("xnli", "FacebookAI/xlm-roberta-large", "other", "rows of mnli"),
    ],
)
def test_rows_of_the_hub_have_the_licence_that_their_task_states(
    tmp_path_factory: pytest.TempPathFactory, task: str, backbone: str, licence: str, reason: str
) -> None:
    path = stack(tmp_path_factory, "mnli", method="lora")
    run = read_run(path)
    spec = replace(run.spec, backbone=BackboneRecord(backbone, backbone, "a" * 64))
    on_hub = StoredRun(path, spec)
    data = RowsRecord(source="hub", train={task: RowsCount(9, 9, forms=("some/rows [a] train",))})
    # as its record would be, had it been trained on the hub's rows
    on_hub.__dict__["provenance"] = replace(run.provenance, data=data)
    found, reasons = combined(sources_of(on_hub, lambda module, record: None))
    assert found == licence and (reason in "\n".join(reasons) if reason else not reasons)


@pytest.fixture(scope="module")
def on_a_mirror(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(a run on a mirror's rows, a child of it on sample rows)."""
    root = tmp_path_factory.mktemp("private-mirror")
    folder = root / "rajpurkar/squad/plain_text"
    folder.mkdir(parents=True)
    rows = [
        {
            "id": f"{n:024x}",
            "context": f"River {n} is {n + 2} km long.",
            "question": f"How long is river {n}?",
            "answers": {"text": [f"{n + 2} km"], "answer_start": [len(f"River {n} is ")]},
        }
        for n in range(24)
    ]
    for split in ("train", "validation"):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{split}.jsonl").write_text(text)
    runs = tmp_path_factory.mktemp("mirror-runs")
    parent = train(runs, "squad1", method="lora", data=str(root))
    return parent, train(runs, "pawsx", method="lora", on=str(parent))


def test_rows_of_unknown_licence_and_what_stands_on_them_are_other(
    on_a_mirror: tuple[Path, Path], tmp_path: Path
) -> None:
    for run, reason in zip(on_a_mirror, ("a mirror's rows", "parent squad1"), strict=True):
        record = read_json(pack_run(run, tmp_path / run.name) / "bundle.json")
        assert record["licence"] == "other"
        assert any(reason in why for why in record["licence_reasons"])
    text = (tmp_path / on_a_mirror[1].name / "README.md").read_text()
    assert "license: other" in text and "parent squad1" in text
    chosen = pack_run(on_a_mirror[0], tmp_path / "chosen", licence="cc-by-4.0")
    card_text = (chosen / "README.md").read_text()
    assert "license: cc-by-4.0" in card_text and "although" in card_text


def test_a_bundle_names_no_path_of_this_machine(
    on_a_mirror: tuple[Path, Path], tmp_path: Path
) -> None:
    """Neither the cache, nor the store, nor the mirror, nor a folder that a parent was pushed to."""
    drive = tmp_path / "drive"
    parent, child = on_a_mirror
    share = {"with_parents": True, "notify": lambda text: None}
    publish.share(read_run(parent), f"file:{drive}", **share)  # type: ignore[arg-type]
    pushed = publish.share(read_run(child), f"file:{drive}", **share)  # type: ignore[arg-type]
    folder = pushed[-1].bundle.record
    assert all(not above.where for above in folder.parents)
    texts = [path for path in drive.rglob("*") if path.suffix in (".json", ".md")]
    private = [
        str(tmp_path),
        str(parent.parent.parent),
        str(cache_dir()),
        "private-mirror/",
        "file:",
    ]
    for path in texts:
        held = [text for text in private if text in path.read_text(errors="replace")]
        assert not held, f"{path} holds {held}"


def test_places_of_another_hub_are_not_published(
    made: dict[str, Any], tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A repository that was seen on a test's hub is none of the hub that is pushed to now."""
    folder = pack_run(
        stack(tmp_path_factory, "mnli", method="lora"), tmp_path_factory.mktemp("p") / "m"
    )
    shared = bundle.read(folder)
    monkeypatch.setenv("XTL_CACHE", str(tmp_path_factory.mktemp("places")))
    monkeypatch.setattr(bundle_cache, "endpoint", lambda: "http://127.0.0.1:1")
    bundle_cache.note(shared, f"tests/mnli@{'a' * 40}")
    bundle_cache.note(shared, "file:/srv/drive/mnli@aaaaaaaaaaaa")
    assert publish.places_of_parent(shared.module_sha256, "ann/xnli") == [f"tests/mnli@{'a' * 40}"]
    monkeypatch.setattr(bundle_cache, "endpoint", hub_client.endpoint)
    assert publish.places_of_parent(shared.module_sha256, "ann/xnli") == []
    assert [note["place"] for note in bundle_cache.notes(shared.module_sha256)] == [
        "file:/srv/drive/mnli@aaaaaaaaaaaa"
    ], "a folder is looked into by a pull of this machine"


def test_tests_use_a_cache_of_their_own() -> None:
    import os

    assert os.environ["XTL_CACHE"] == str(cache_dir()) and "xtl-test-cache" in str(cache_dir())
