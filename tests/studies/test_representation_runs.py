"""The study of representations carried out on a tiny random XLM-R: what the store keeps of it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from adapters_xtl import studies
from adapters_xtl.backbones import embedded, loading, registry
from adapters_xtl.base.files import read_json
from adapters_xtl.cli.commands.runs import check_runs
from adapters_xtl.engines.worker import Worker
from adapters_xtl.grid.cell_plans import CellPlans
from adapters_xtl.grid.jobs import jobs_of
from adapters_xtl.grid.study_file import make_grid, read_study_file
from adapters_xtl.representation import encoder_results
from adapters_xtl.runs.leftovers import find_leftovers
from adapters_xtl.runs.store import Store
from tests.studies.carry_out import carry_out

SMALL = ("seeds=1,2", "on=none,mnli>pawsx")  # what the shipped file asks, with fewer cells
NAME = "representation-smoke"


@pytest.fixture(scope="module")
def carried_out(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    embedded.prepare(lambda text: None)
    runs = tmp_path_factory.mktemp("carried_out") / "runs"
    return runs, carry_out(NAME, runs, *SMALL)


def analyses(runs: Path) -> list[Path]:
    return sorted((runs / "analyses").glob("*/analysis.json"))


def test_every_encoder_is_analysed_once_and_the_tables_come_from_the_store(
    carried_out: tuple[Path, dict[str, Any]],
) -> None:
    runs, record = carried_out
    assert not record["failed"] and {cell["state"] for cell in record["cells"]} == {"done"}
    assert len(analyses(runs)) == 3  # the bare backbone, and a stack under two seeds
    written = {path: path.stat().st_mtime_ns for path in analyses(runs)}
    again = carry_out(NAME, runs, *SMALL)
    assert {path: path.stat().st_mtime_ns for path in analyses(runs)} == written
    assert again["tables"] == record["tables"] and again["figures"] == record["figures"]
    assert again["answer"] == record["answer"] and len(record["answer"]["limits"]) == 3
    folder = Path(record["path"])
    assert all((folder / f"{table['name']}.csv").is_file() for table in record["tables"])
    assert all((folder / f"{figure['name']}.svg").is_file() for figure in record["figures"])


def test_an_analysis_says_what_it_is_of_and_what_it_found(
    carried_out: tuple[Path, dict[str, Any]],
) -> None:
    runs, record = carried_out
    kinds = []
    for path in analyses(runs):
        found, identity = read_json(path), read_json(path.parent / "identity.json")
        assert found["languages"] == ["ar", "de", "en", "ru", "zh"] and found["layers"] == 4
        assert found["items"] == 120 and found["groups"] == 40
        assert set(found["parts"]) == {"train", "select", "held-out"}
        assert identity["task"][0] == "xnli" and identity["encoder"]
        kinds.append([encoder["kind"] for encoder in found["encoders"]])
        for encoder in found["encoders"]:
            assert len(encoder["retrieval"]) == 5
            assert set(encoder["distances"]) == {"euclidean", "cosine"}
    # random weights stand beside the bare backbone
    assert sorted(map(len, kinds)) == [1, 1, 4]
    table = next(table for table in record["tables"] if table["name"] == "rho-euclidean-xnli-lora")
    assert "random weights" in [line["label"] for line in table["lines"]]
    bare = next(
        found for path in analyses(runs) if len((found := read_json(path))["encoders"]) == 4
    )
    line = next(line for line in table["lines"] if line["label"] == "none")
    correlations = bare["encoders"][0]["distances"]["euclidean"]["correlation"]
    assert [entry["value"] for entry in line["entries"]] == pytest.approx(correlations)
    assert bare["encoders"][0]["cka_backbone"] == pytest.approx([100.0] * 5)


def test_a_damaged_analysis_fails_its_cell_by_name_and_is_not_overwritten(
    carried_out: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(carried_out[0], runs)
    path = next(path for path in analyses(runs) if len(read_json(path)["encoders"]) == 1)
    damaged = path.read_bytes().replace(b'"units": ', b'"units": 1', 1)
    path.write_bytes(damaged)
    record = carry_out(NAME, runs, *SMALL)
    (failure,) = record["failed"]
    assert failure["point"]["on"] != "none" and str(path) in failure["error"]
    assert path.read_bytes() == damaged
    assert f"delete {path.parent} to have" in failure["error"]
    checked, shown = check_runs([], str(runs))
    assert [one["path"] for one in checked["damaged_analyses"]] == [str(path.parent)]
    assert not checked["damaged"]
    assert any("analysis.json" in str(line) for line in shown)
    intact = next(cell for cell in record["cells"] if cell["point"]["on"] == "none")
    assert not intact["failures"]


def test_an_interrupted_analysis_goes_on_with_the_vectors_that_it_has(
    carried_out: tuple[Path, dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(carried_out[0], runs)
    path = next(path for path in analyses(runs) if len(read_json(path)["encoders"]) == 1)
    before = read_json(path)
    shutil.rmtree(path.parent)
    whole = encoder_results.encoder_result

    def interrupted(*args: Any, **options: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(encoder_results, "encoder_result", interrupted)
    with pytest.raises(KeyboardInterrupt):
        _analyse_here(runs)
    partial = runs / "analyses" / f"{path.parent.name}.partial"
    vectors = sorted(partial.rglob("vectors-*.npy"))
    assert [each.name for each in vectors] == ["vectors-backbone.npy", "vectors-model.npy"]
    assert len(analyses(runs)) == 2
    # what an interruption leaves can be cleared away, once it is old enough
    old = [each.path for each in find_leftovers(Store(runs), 0.0)[0]]
    assert partial in old
    monkeypatch.setattr(encoder_results, "encoder_result", whole)

    def no_vectors(*args: Any, **options: Any) -> Any:
        raise AssertionError("the vectors are there")

    monkeypatch.setattr(encoder_results, "unit_vectors", no_vectors)
    _analyse_here(runs)
    assert read_json(path) == before and not partial.exists()


def _analyse_here(runs: Path) -> None:
    """Carries out in this process what the store lacks of the study."""
    axes = {"representation": [axis.name for axis in studies.load("representation").axes]}
    file = read_study_file(NAME, ("representation",), axes, SMALL)
    plans = CellPlans(make_grid(studies.load("representation"), file, runs=str(runs)))
    worker = Worker(runs / "studies" / "here", lambda text: None)
    for job in jobs_of(plans).jobs.values():
        assert worker.carry_out(job) is None


def test_random_weights_follow_from_the_seed_alone() -> None:
    backbone = registry.resolve("tiny")
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first, _ = loading.random_encoder(backbone, 1)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    again, _ = loading.random_encoder(backbone, 1)
    other, _ = loading.random_encoder(backbone, 2)
    digests = [loading.weights_digest(encoder) for encoder in (first, again, other)]
    assert digests[0] == digests[1] != digests[2]
