"""Study files: what they may say, in which forms, and what a wrong one costs."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from adapters_xtl import engines, studies
from adapters_xtl.base.errors import RequestError
from adapters_xtl.cli import app
from adapters_xtl.grid.cell_plans import CellPlans
from adapters_xtl.grid.cells import Grid
from adapters_xtl.grid.study_file import make_grid, read_study_file, shipped_files

AXES = {name: [axis.name for axis in studies.load(name).axes] for name in studies.names()}


def grid_of(lines: str, folder: Path, *set_: str) -> Grid:
    path = folder / "study.toml"
    path.write_text(f"study = 'transfer'\nbackbone = 'tiny'\ndata = 'embedded'\n{lines}\n")
    file = read_study_file(str(path), studies.names(), AXES, set_)
    return make_grid(studies.load(file.study), file, runs=str(folder / "runs"))


def test_lists_and_texts_with_commas_are_one(tmp_path: Path) -> None:
    axes = "axes.task = 'pawsx, xnli'\naxes.on = ['none', 'mnli>squad1', 'mnli,squad1']\n"
    grid = grid_of(f"{axes}bits = '16,8'\naxes.method = ['lora', 'full']", tmp_path)
    values = {axis.name: axis.values for axis in grid.axes}
    assert values == {
        "task": ("pawsx", "xnli"),
        "on": ("none", "mnli>squad1"),
        "method": ("lora@16", "lora@8", "full"),
    }
    assert len(grid.cells) == 2 * 2 * 3
    by_flags = grid_of("", tmp_path, "on=none,mnli>squad1", 'task=["pawsx", "xnli"]', "bits=16,8")
    assert len(by_flags.cells) == 2 * 2 * 2


def test_tasks_and_parents_without_rows_are_left_out_where_that_is_wanted(
    mirror: Path, tmp_path: Path
) -> None:
    """The mirror has no rows of ANLI."""
    axes = "axes.task = 'pawsx'\naxes.on = 'none,mnli,anli'\n"
    with pytest.raises(RequestError, match="no data set"):
        _ = CellPlans(grid_of(axes, tmp_path, f"data={mirror}")).cells
    plans = CellPlans(grid_of(f"{axes}skip-lacking = true", tmp_path, f"data={mirror}"))
    assert [cell.chain for cell in plans.cells] == [(), ("mnli",)]
    assert plans.left_out.keys() == {"anli"} and "no data set" in plans.left_out["anli"]
    wrong = grid_of(f"{axes}skip-lacking = true\nset.train.lrr = 1", tmp_path, f"data={mirror}")
    with pytest.raises(RequestError, match="did you mean 'lr'"):
        _ = CellPlans(wrong).cells


def test_a_file_for_a_mirror_asks_for_its_directory() -> None:
    file = read_study_file("mini", studies.names(), AXES, ())
    with pytest.raises(RequestError, match="--set data=DIR"):
        make_grid(studies.load(file.study), file, runs="runs")


@pytest.mark.parametrize("name", sorted(shipped_files()))
def test_every_shipped_file_is_a_study(name: str) -> None:
    file = read_study_file(name, studies.names(), AXES, ("seeds=1", "data=embedded"))
    grid = make_grid(studies.load(file.study), file, runs="runs")
    assert len(grid.cells) >= 4 and grid.seeds == (1,) and file.title


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("studdy = 'x'", "unknown key 'studdy'; did you mean 'study'"),
        ("bakbone = 'x'", "did you mean 'backbone'"),
        ("seeds = true", "seeds takes a text"),
        ("seeds = 'one'", "seeds one"),
        ("seeds = [1, 1, 1]", "takes different whole numbers"),
        ("axes = 3", "axes takes a table"),
        ("set-parents = 3", "set-parents takes a table"),
        ("axes.on = ['']", "one of its values is empty"),
        ("set.train.lr = 2020-01-01", "train.lr takes a number"),
        ("bits = 8\naxes.method = ['full']", "full take no other bits"),
        ("axes.tusk = ['xnli']", "unknown axis 'tusk'; did you mean 'task'"),
        ("axes.task = ['xnly']", "unknown task 'xnly'; did you mean 'xnli'"),
        ("axes.method = ['lorra']", "unknown method 'lorra'; did you mean 'lora'"),
        ("axes.task = [[1]]", "takes a list of values"),
        ("set.train.lrr = 1", "did you mean 'lr'"),
        ("tasks.mnlj.train.lr = 1", "tasks.mnlj: unknown task; did you mean 'mnli'"),
        ("tasks.udpos.train.cap = 1", "tasks.udpos.train.cap: means nothing"),
        ("tasks = 3", "tasks takes a table"),
        ("tune.lrr = [1]", "did you mean 'train.lr'"),
        ("memory = 'much'", "memory takes a number"),
        ("strict = 1", "strict takes true or false"),
        ("split = ''", "split: is empty"),
        ("from_layer = 1\nfrom-layer = 2", "from-layer: is given twice"),
        ("axes.on = ['mnli>']", "[axes] on: mnli>: expected names"),
    ],
)
def test_a_wrong_study_file_costs_one_line(line: str, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(f"study = 'transfer'\nbackbone = 'tiny'\ndata = 'embedded'\n{line}\n")
    with pytest.raises(RequestError) as raised:
        file = read_study_file(str(path), studies.names(), AXES, ())
        grid = make_grid(studies.load(file.study), file, runs=str(tmp_path / "runs"))
        _ = CellPlans(grid).cells
    assert complaint in str(raised.value), raised.value
    assert not (tmp_path / "runs").exists()


def test_a_grid_that_would_take_hours_to_plan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"\[axes\]: \d+,\d{3} points; a grid has at most"):
        grid_of(f"axes.on = {[f'run{number}' for number in range(20_000)]}", tmp_path)


@pytest.mark.parametrize(
    ("set_", "complaint"),
    [
        ("taks=xnli", "did you mean 'task'"),
        ("train.lrr=1", "did you mean 'lr'"),
        ("axes.tusk=1", "did you mean 'task'"),
        ("seeds", "expected key=value"),
        ("study=methods", "the study is the one that the command names"),
        ("set=1", "unknown key"),
    ],
)
def test_a_wrong_setting_costs_one_line(set_: str, complaint: str) -> None:
    with pytest.raises(RequestError) as raised:
        file = read_study_file("smoke", studies.names(), AXES, (set_,))
        _ = CellPlans(make_grid(studies.load(file.study), file, runs="runs")).cells
    assert complaint in str(raised.value), raised.value


def test_unknown_names_have_their_nearest() -> None:
    with pytest.raises(RequestError, match="did you mean 'transfer'"):
        read_study_file("transfr", studies.names(), AXES, ())
    with pytest.raises(RequestError, match="did you mean 'local'"):
        engines.load("locl")


@pytest.mark.parametrize(
    ("texts", "complaint"),
    [(("partition",), "partition: expected key=value"), (("a=1", "a=2"), "a=2: is given twice")],
)
def test_no_setting_of_an_engine_is_swallowed(texts: tuple[str, ...], complaint: str) -> None:
    words = [word for text in texts for word in ("--engine-set", text)]
    with pytest.raises(RequestError, match=complaint):
        CliRunner().invoke(app, ["study", "smoke", *words], catch_exceptions=False)


@pytest.mark.parametrize("text", ["\u0663", "1_0", "+5", "-1", "9" * 400, "", "08"])
def test_the_count_of_jobs_is_a_whole_number(text: str) -> None:
    with pytest.raises(RequestError, match=r"--jobs .*(takes a whole number from 0 on|is empty)"):
        CliRunner().invoke(app, ["study", "smoke", f"--jobs={text}"], catch_exceptions=False)
