"""`xtl export results`: others' JSON, and whose rows it names."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adapters_xtl.base.errors import RequestError
from adapters_xtl.base.files import file_digest, read_json, write_json
from adapters_xtl.export import mteb_results
from adapters_xtl.export.every_eval_ever import SCHEMA_VERSION
from adapters_xtl.export.results import export_results
from adapters_xtl.tasks import load, names
from tests import bundles
from tests.command_line import xtl as command

REVISION = "0ab1" * 10
# what release 0.3.0 of Every Eval Ever's schema requires of each object that is written here
REQUIRED = {
    "": {
        "schema_version", "evaluation_id", "retrieved_timestamp", "source_metadata", "model_info",
        "eval_library", "evaluation_results",
    },
    "source_metadata": {"source_type", "source_organization_name", "evaluator_relationship"},
    "eval_library": {"name", "version"},
    "model_info": {"name", "id", "additional_details"},
}  # fmt: skip
RESULT = {"evaluation_name", "source_data", "metric_config", "score_details"}


@pytest.fixture
def run(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of PAN-X on sample rows, in a store of its own."""
    trained = bundles.stack(tmp_path_factory, "panx", method="lora")
    return Path(shutil.copytree(trained, tmp_path / "runs" / "panx" / trained.name))


def edit(run: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Changes the record of what a run read, as a run on other rows would have written it."""
    record = read_json(run / "provenance.json")
    change(record["data"])
    write_json(run / "provenance.json", record)
    manifest = read_json(run / "manifest.json")
    manifest["files"]["provenance.json"] = file_digest(run / "provenance.json")
    write_json(run / "manifest.json", manifest)
    return run


def of_source(kind: str) -> Callable[[dict[str, Any]], None]:
    def change(data: dict[str, Any]) -> None:
        data["source"] = kind
        data["revisions"] = {"google/xtreme": REVISION} if kind == "hub" else {}
        for language, count in data["report"]["panx"].items():
            count["forms"] = [f"google/xtreme [PAN-X.{language}] validation"]

    return change


def exported(run: Path, out: Path, **options: Any) -> tuple[list[dict[str, Any]], list[str]]:
    """(Every Eval Ever's files, lines that were said)."""
    said: list[str] = []
    export_results([str(run)], out, store=run.parent.parent, notify=said.append, **options)
    files = sorted((out / "every_eval_ever").rglob("*.json"))
    for path in files:
        assert re.fullmatch(
            r"data/[\w.-]+/[\w.-]+/[\w.-]+/[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\.json",
            path.relative_to(out / "every_eval_ever").as_posix(),
        )
    return [json.loads(path.read_text()) for path in files], said


def check_every_eval_ever(value: dict[str, Any]) -> None:
    assert set(value) == REQUIRED[""] and value["schema_version"] == "0.3.0"
    for name in ("source_metadata", "eval_library", "model_info"):
        assert set(value[name]) >= REQUIRED[name]
    details = value["model_info"]["additional_details"]
    assert {details["deployment_type"], details["model_availability"]} == {
        "self_deployed", "unknown"
    }  # fmt: skip
    assert all(isinstance(detail, str) for detail in details.values())
    assert value["source_metadata"]["source_type"] == "evaluation_run"
    for result in value["evaluation_results"]:
        assert set(result) >= RESULT
        metric = result["metric_config"]
        assert metric["score_type"] == "continuous" and metric["lower_is_better"] is False
        assert metric["min_score"] <= result["score_details"]["score"] <= metric["max_score"]
        assert all(isinstance(each, str) for each in result["score_details"]["details"].values())
        assert result["source_data"]["source_type"] in ("hf_dataset", "other")


def test_rows_of_the_hub_stand_under_their_data_sets_name_and_revision(
    run: Path, tmp_path: Path
) -> None:
    edit(run, of_source("hub"))
    (value,), said = exported(run, tmp_path / "out", organisation="University of Somewhere")
    check_every_eval_ever(value)
    (result,) = value["evaluation_results"]
    own = read_json(run / "metrics.json")["tasks"]["panx"]["languages"]["en"]
    assert result["score_details"]["score"] == own["f1"]
    assert result["source_data"]["hf_repo"] == "google/xtreme"
    assert result["source_data"]["hf_config"] == "PAN-X.en"
    assert result["source_data"]["hf_revision"] == REVISION
    assert value["source_metadata"]["source_organization_name"] == "University of Somewhere"
    folder = tmp_path / "out/mteb/results/adapters_xtl__panx-lora-tiny" / run.name
    task = read_json(folder / "adapters_xtl-panx.json")
    assert task["dataset_revision"] == REVISION and task["mteb_version"] is None
    (score,) = task["scores"]["validation"]
    assert score["main_score"] == pytest.approx(own["f1"] / 100, abs=1e-6)
    assert (score["hf_subset"], score["languages"], score["n"]) == ("en", ["eng-Latn"], own["n"])
    assert said == [] and (folder / "model_meta.json").is_file()


def slice_of_train(data: dict[str, Any]) -> None:
    of_source("hub")(data)
    data["train"]["panx"]["forms"] = ["google/xtreme [PAN-X.en] train"]
    data["report"]["panx"]["en"]["forms"] = ["slice of train"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda data: None, "sample rows that adapters_xtl ships"),
        (of_source("mirror"), "rows of the mirror"),
        (of_source("files"), "rows of the evaluator's own files"),
        (slice_of_train, "slice of train of google/xtreme [PAN-X.en] train"),
    ],
    ids=["embedded", "mirror", "files", "slice"],
)
def test_other_rows_are_named_by_what_they_are_or_left_out(
    change: Callable[[dict[str, Any]], None], named: str, run: Path, tmp_path: Path
) -> None:
    edit(run, change)
    (value,), said = exported(run, tmp_path / "out")
    check_every_eval_ever(value)
    source = value["evaluation_results"][0]["source_data"]
    assert source["source_type"] == "other" and source["dataset_name"].startswith(named)
    assert "hf_repo" not in source
    assert not (tmp_path / "out" / "mteb").exists()
    assert len(said) == 1 and named in said[0] and "left out" in said[0]


def test_a_part_of_the_rows_is_not_the_data_sets_score(run: Path, tmp_path: Path) -> None:
    edit(run, of_source("hub"))
    spec = read_json(run / "spec.json")
    spec["evaluation"]["max_examples"] = 5
    write_json(run / "spec.json", spec)
    manifest = read_json(run / "manifest.json")
    manifest["files"]["spec.json"] = file_digest(run / "spec.json")
    write_json(run / "manifest.json", manifest)
    (value,), said = exported(run, tmp_path / "out")
    source = value["evaluation_results"][0]["source_data"]
    assert source["source_type"] == "other" and "5 of the rows" in source["dataset_name"]
    assert "5 of the rows" in said[0]


@pytest.mark.parametrize("source", ["hub", "mirror", "files"])
def test_the_published_schema_of_every_eval_ever_holds(
    source: str, run: Path, tmp_path: Path
) -> None:
    """The schema is the one that the package `every-eval-ever` ships; see the workflow `tests`."""
    published = pytest.importorskip(
        "every_eval_ever", reason="not installed: pip install every-eval-ever"
    )
    import jsonschema

    path = Path(published.__file__).parent / "schemas" / "eval.schema.json"
    schema = json.loads(path.read_text(encoding="utf-8"))
    assert schema["version"] == SCHEMA_VERSION
    edit(run, of_source(source))
    (value,), _ = exported(run, tmp_path / "out")
    jsonschema.Draft7Validator(schema).validate(value)


def test_mtebs_own_classes_read_the_files(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("mteb", reason="not installed: pip install mteb")
    from mteb.models.model_meta import ModelMeta
    from mteb.results import TaskResult

    edit(run, of_source("hub"))
    exported(run, tmp_path / "out")
    (task,) = (tmp_path / "out" / "mteb").rglob("adapters_xtl-*.json")
    result = TaskResult.from_disk(task, load_historic_data=False)
    assert result.languages == ["eng"] and result.eval_splits == ["validation"]
    assert ModelMeta.model_validate(read_json(task.parent / "model_meta.json")).revision == run.name


def test_every_language_of_every_task_has_mtebs_name() -> None:
    codes = {code for name in names() for code in load(name).all_languages}
    assert codes <= set(mteb_results.LANGUAGES)
    assert all(re.fullmatch(r"[a-z]{3}-[A-Z][a-z]{3}", n) for n in mteb_results.LANGUAGES.values())


def test_what_is_no_run_is_refused_before_anything_is_written(run: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"panx9.*no run"):
        export_results([str(run), "panx9"], tmp_path / "out", store=run.parent.parent)
    (run / "manifest.json").unlink()
    with pytest.raises(RequestError, match="not a finished run"):
        export_results([str(run)], tmp_path / "out", store=run.parent.parent)
    assert not (tmp_path / "out").exists()
    done = command("export", "results", "nothing", "-o", tmp_path / "out", code=2)
    assert "nothing" in done.stderr and len(done.stderr.strip().splitlines()) == 1
