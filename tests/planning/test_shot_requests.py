"""Requests for trainings on shots: the runs that they come to, and what is wrong with them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from adapters_xtl.base.errors import Problems, RequestError
from adapters_xtl.planning.evaluations import scopes_of
from adapters_xtl.planning.plan import Planner
from adapters_xtl.planning.shots import reported_scopes
from adapters_xtl.runs.hyper import Hyper
from adapters_xtl.runs.request import Plan, Request
from adapters_xtl.runs.run import Run
from adapters_xtl.runs.store import Store

SHOTS = (("train.shots", 2), ("train.shot_language", "de"))


def plan(runs: Path, *overrides: tuple[str, object], task: str = "panx", **more: object) -> Plan:
    request = Request(
        task,
        backbone="tiny",
        **{"data": "embedded", **more},  # type: ignore[arg-type]
        device="cpu",
        runs=str(runs),
        overrides=overrides,
    )
    return Planner(Store(runs)).plan(request)


def run_of(planned: Plan) -> Run:
    assert planned.target is not None
    return planned.target.run


def test_shots_after_english_go_on_from_the_run_without_shots(runs: Path) -> None:
    english = plan(runs, on=("mnli",))
    shots = plan(runs, *SHOTS, ("train.shot_steps", 7), on=("mnli",))
    assert [module.task for module in shots.modules] == ["mnli", "panx", "panx"]
    assert run_of(shots).parents == (*run_of(english).parents, run_of(english).id)
    assert run_of(shots).compose == "init" and run_of(shots).hyper.max_steps == 7
    assert shots.target is not None
    assert [module.task for module in shots.target.below] == ["mnli"]


@pytest.mark.parametrize("regime", ["joint", "target-only"])
def test_other_regimes_are_one_training(runs: Path, regime: str) -> None:
    english = plan(runs, on=("mnli",))
    shots = plan(runs, *SHOTS, ("train.shot_regime", regime), on=("mnli",))
    assert run_of(shots).parents == run_of(english).parents
    assert run_of(shots).id != run_of(english).id
    assert run_of(shots).data["train"][:-1] == run_of(english).data["train"]


def test_every_bucket_language_and_number_is_another_run(runs: Path) -> None:
    ids = {
        run_of(plan(runs, *SHOTS, *more)).id
        for more in ((), (("train.shot_bucket", 1),), (("train.shots", 3),))
    }
    assert len(ids) == 3
    # what cannot change the training is no part of it
    alone = (*SHOTS, ("train.shot_regime", "target-only"))
    assert run_of(plan(runs, *alone)) == run_of(plan(runs, *alone, ("train.max_examples", 3)))


def test_a_run_without_shots_has_none_in_its_identity(runs: Path) -> None:
    identity = run_of(plan(runs)).identity()
    assert not [name for name in identity["hyper"] if name.startswith("shot")]
    assert Hyper().shots == 0 and not Hyper().after_english


@pytest.mark.parametrize(
    ("overrides", "task", "complaint"),
    [
        ((("train.shots", 2),), "panx", "train.shot_language says"),
        ((("train.shots", 2), ("train.shot_language", "en")), "panx", "trains in English anyway"),
        ((("train.shots", 2), ("train.shot_language", "xx")), "panx", "has no such language"),
        ((("train.shots", 2), ("train.shot_language", "sw")), "panx", "shots of de"),
        ((("train.shot_language", "de"),), "panx", "means nothing without train.shots"),
        ((*SHOTS, ("train.shot_bucket", 10)), "panx", "outside 0..9"),
        ((*SHOTS, ("train.shot_regime", "joined")), "panx", "sequential, joint, target-only"),
        (
            (*SHOTS, ("train.shot_regime", "joint"), ("train.shot_steps", 3)),
            "panx",
            "means nothing for train.shot_regime=joint",
        ),
        (SHOTS, "mnli", "no rows in other languages"),
        (SHOTS, "multi", "no rows in other languages"),
        (SHOTS, "xquad", "'squad1' has no rows in other languages"),
    ],
)
def test_what_is_wrong_with_shots_costs_one_line(
    runs: Path, overrides: tuple[tuple[str, object], ...], task: str, complaint: str
) -> None:
    with pytest.raises(RequestError) as raised:
        plan(runs, *overrides, task=task)
    assert complaint in str(raised.value)
    assert len(str(raised.value).split("\n")) == 1, raised.value


def test_rows_that_shots_are_drawn_from_are_not_reported(mirror: Path, runs: Path) -> None:
    """XCOPA's shots are validation rows: its training reports test rows, also of English alone."""
    overrides = (("train.shots", 4), ("train.shot_language", "id"))
    planned = plan(runs, *overrides, task="xcopa", data=str(mirror), languages="id")
    assert planned.evaluation.splits == {"xcopa": "test"}
    reported = [module.evaluation for module in planned.modules if module.evaluation]
    assert {splits for each in reported for splits in each.splits.values()} == {"test"}
    with pytest.raises(RequestError, match=r"--split validation: the shots of .* it reports test"):
        plan(runs, *overrides, task="xcopa", data=str(mirror), split="validation")


def test_where_a_source_has_validation_rows_alone_one_half_of_them_is_reported(
    mirror: Path, runs: Path
) -> None:
    """The same half with shots and without."""
    shots = (("train.shots", 4), ("train.shot_language", "sw"))
    with_shots = plan(runs, *shots, task="panx", data=str(mirror), languages="sw")
    assert with_shots.evaluation.splits == {"panx": "validation-without-shots"}
    without = plan(runs, task="panx", data=str(mirror), languages="sw", split="beside-shots")
    assert without.evaluation.splits == with_shots.evaluation.splits
    (rows,) = without.evaluation.files["panx"]["sw"]
    assert str(rows.rows).endswith("validation, the half without shots")
    with pytest.raises(RequestError, match=r"--split validation: .* reports validation-without"):
        plan(runs, *shots, task="panx", data=str(mirror), split="validation")
    with pytest.raises(RequestError, match=r"no rows of 'th' to draw from: .* of af, ar") as raised:
        plan(runs, ("train.shots", 4), ("train.shot_language", "th"), task="udpos",
             data=str(mirror), languages="th")  # fmt: skip
    assert "\n" not in str(raised.value)


def test_shots_stay_unreported_on_a_source_that_would_draw_others(
    mirror: Path, runs: Path, tmp_path: Path
) -> None:
    """Validation rows were shots; the other source has the same rows, and train rows besides."""
    shots = (("train.shots", 4), ("train.shot_language", "sw"))
    module = plan(runs, *shots, task="panx", data=str(mirror), languages="sw").target
    assert module is not None
    richer = tmp_path / "mirror"
    for config in ("PAN-X.en", "PAN-X.sw"):
        shutil.copytree(mirror / "google/xtreme" / config, richer / "google/xtreme" / config)
    (train,) = (richer / "google/xtreme/PAN-X.en").glob("train-*.parquet")
    shutil.copy(train, richer / "google/xtreme/PAN-X.sw" / train.name)
    planned = plan(runs, task="panx", data=str(richer), languages="sw")
    assert planned.evaluation.splits == {"panx": "validation"}, "the usual one"
    source, problems = planned.source_of("panx"), Problems()
    scopes = scopes_of(("panx",), source, "sw", None, problems)
    found = reported_scopes(scopes, source, module, None, problems)
    assert found["panx"].split == "validation-without-shots" and not problems.messages
    reported_scopes(scopes, source, module, "validation", problems)
    assert "reports validation-without-shots" in problems.messages[0]
    drawn_here = plan(runs, *shots, task="panx", data=str(richer), languages="sw").target
    assert reported_scopes(scopes, source, drawn_here, None, Problems()) == scopes


def test_many_languages_that_a_source_lacks_cost_one_line(mirror: Path, runs: Path) -> None:
    with pytest.raises(RequestError, match=r"PAN-X\.he.*; nor are there rows of eu, ml, te, .*"
                       r"there are of de$") as raised:  # fmt: skip
        plan(runs, task="panx", data=str(mirror), languages="he,eu,ml,te,ka,de")
    assert "\n" not in str(raised.value)
    with pytest.raises(RequestError) as raised:
        plan(runs, task="panx", data=str(mirror), languages="he,eu,de")
    assert len(str(raised.value).split("\n")) == 2
