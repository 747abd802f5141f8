"""Records: written and read as the same, refused by the key that is wrong."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters_xtl.base.errors import MismatchError
from adapters_xtl.base.typed_json import from_json, to_json
from adapters_xtl.base.untrusted import Refusal
from adapters_xtl.runs.hyper import Hyper
from adapters_xtl.runs.records import (
    BackboneRecord,
    Lineage,
    Manifest,
    Metrics,
    ModuleReference,
    ParentRecord,
    Provenance,
    RowsCount,
    RowsRecord,
    SelectedStep,
    Spec,
    TaskScores,
    TrainingCost,
    read_record,
    write_record,
)
from adapters_xtl.runs.run import Run

SHA = "0123456789abcdef" * 4
RUN = Run(
    tasks=(("xnli", 2),),
    data={"train": (SHA,), "select": ()},
    backbone=SHA,
    method="lora",
    options={"r": 8, "target_modules": "all-linear"},
    compose="stack",
    bits=8,
    dtype="bfloat16",
    from_layer=3,
    hyper=Hyper(lr=2e-4, epochs=3, tasks=("xnli",)),
    seed=7,
    protocol="clean",
    parents=("ab" * 6,),
)
SPEC = Spec(
    id=RUN.id,
    kind="training",
    task="xnli",
    request={"task": "xnli", "memory": None},
    backbone=BackboneRecord("mini", "intfloat/e5", SHA),
    data="hub",
    bits=8,
    dtype="bfloat16",
    run=RUN,
    module=ModuleReference("xnli", RUN.id),
    parents=(ModuleReference("mnli", "ab" * 6),),
    evaluation=None,
)
METRICS = Metrics(
    tasks={"xnli": TaskScores("validation", "accuracy", 71.5, {"de": {"accuracy": 71.5, "n": 9}})},
    score=71.5,
    train=TrainingCost(1.5, 64, 900, 2, 10**9, 32, 10, 4, 99, 800, SelectedStep(2, 70.0)),
)
PROVENANCE = Provenance(
    versions={"torch": "2.13.0"},
    git=None,
    hardware=None,
    data=RowsRecord("hub", train={"xnli": RowsCount(9, 8, {"no gold": 1}, {}, ("xnli [de]",))}),
    lineage=Lineage(SHA, (ParentRecord("mnli", "ab" * 6, SHA),)),
    threads=2,
)


@pytest.mark.parametrize("record", [SPEC, METRICS, PROVENANCE, Manifest({"module/a.json": SHA})])
def test_what_is_written_is_read_again(record: Any, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    write_record(path, record)
    assert read_record(type(record), path) == record


def test_the_id_of_a_run_is_the_digest_of_what_is_written() -> None:
    written = json.loads(json.dumps(to_json(RUN)))
    assert from_json(Run, written).id == RUN.id
    names = {field.name for field in dataclasses.fields(Run)}
    assert set(written) == names, "a default that is left out would change the digest"


def test_a_setting_that_is_younger_than_a_record_has_its_default() -> None:
    written = to_json(RUN)
    del written["hyper"]["patience"]
    assert from_json(Run, written).hyper.patience == Hyper().patience


def _changed(value: Any, path: str, change: Callable[[dict[str, Any], str], None]) -> Any:
    value = json.loads(json.dumps(value))
    *above, last = path.split(".")
    inner = value
    for name in above:
        inner = inner[int(name)] if isinstance(inner, list) else inner[name]
    change(inner, last)
    return value


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        ("run.hyper.lr", "0.1"),
        ("run.hyper.lr", 2.5),
        ("run.hyper.batch_size", True),
        ("run.hyper.batch_size", 0),
        ("run.hyper.optimizer", "sgd"),
        ("run.seed", 10**30),
        ("run.seed", -1),
        ("run.bits", 7),
        ("run.bits", 8.0),
        ("run.compose", "average"),
        ("run.data.train.0", SHA[:-1]),
        ("run.tasks.0", ["xnli"]),
        ("run.method", "../lora"),
        ("kind", "scoring"),
        ("parents.0.id", "ABC"),
        ("backbone", None),
        ("run.hyper", []),
    ],
)
def test_a_wrong_value_is_refused_by_its_key(path: str, wrong: Any) -> None:
    def set_wrong(inner: Any, name: str) -> None:
        inner[int(name) if isinstance(inner, list) else name] = wrong

    with pytest.raises(Refusal, match=path.replace(".", r"\.")) as refused:
        from_json(Spec, _changed(to_json(SPEC), path, set_wrong))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("path", ["unheard", "run.unheard", "run.hyper.unheard"])
def test_an_unknown_key_is_named_and_may_be_newer(path: str) -> None:
    value = _changed(to_json(SPEC), path, lambda inner, name: inner.update({name: 1}))
    with pytest.raises(Refusal, match=rf"{path}.*newer"):
        from_json(Spec, value)


@pytest.mark.parametrize("path", ["run.seed", "backbone.fingerprint", "kind"])
def test_a_missing_key_is_named(path: str) -> None:
    value = _changed(to_json(SPEC), path, lambda inner, name: inner.pop(name) and None)
    with pytest.raises(Refusal, match=path.replace(".", r"\.")):
        from_json(Spec, value)


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=8,
    )
)
def test_any_json_in_any_place_is_read_or_refused(value: Any) -> None:
    for name in to_json(SPEC):
        with_value = {**to_json(SPEC), name: value}
        try:
            record = from_json(Spec, with_value)
        except Refusal as refusal:
            assert "\n" not in str(refusal)
        else:
            assert to_json(record).keys() >= {"id", "run"}


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"tasks": {}}', '{"score": NaN}', "\xff", "[" * 10_000]
)
def test_a_damaged_record_is_one_line_that_names_the_file(text: str, tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(MismatchError, match=r"metrics\.json") as refused:
        read_record(Metrics, path)
    assert "\n" not in str(refused.value)


def test_a_run_of_an_older_version_says_so(tmp_path: Path) -> None:
    value = to_json(SPEC)
    del value["format"]
    (tmp_path / "spec.json").write_text(json.dumps(value))
    with pytest.raises(MismatchError, match="another version"):
        read_record(Spec, tmp_path / "spec.json")
