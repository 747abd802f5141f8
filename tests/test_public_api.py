"""The declared interface: its names, that they are described, cheap to import, and do what the
commands do.
"""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import adapters_xtl as xtl
from adapters_xtl.backbones import embedded
from adapters_xtl.base.files import read_json
from tests.command_line import xtl_json

NAMES = {
    *("load", "recipe", "evaluate", "push", "pull", "study", "Predictor"),
    *("StudyResult", "Run", "PushedBundle", "PulledBundle"),
    *("XtlError", "RunError", "RequestError", "DataError", "MismatchError"),
    "__version__",
}


def test_the_names_are_these_and_each_is_described() -> None:
    assert set(xtl.__all__) == NAMES <= set(dir(xtl))
    for name in NAMES - {"__version__"}:
        text = inspect.getdoc(getattr(xtl, name))
        assert text and not text.startswith(f"{name}("), f"{name} has no docstring"
    for name in ("predict", "embed", "labels", "task"):
        assert inspect.getdoc(getattr(xtl.Predictor, name)), f"Predictor.{name} has no docstring"
    for name in ("answer", "failed", "tables"):
        assert inspect.getdoc(getattr(xtl.StudyResult, name)), f"{name} has no docstring"
    for name in ("score", "module", "table", "plot"):
        assert inspect.getdoc(getattr(xtl.Run, name)), f"Run.{name} has no docstring"
    assert xtl.__version__[0].isdigit()
    with pytest.raises(AttributeError, match="studies_of"):
        _ = xtl.studies_of


def test_the_errors_are_one_tree() -> None:
    assert issubclass(xtl.RunError, xtl.XtlError) and issubclass(xtl.RequestError, xtl.XtlError)
    assert issubclass(xtl.DataError, xtl.RequestError)
    assert issubclass(xtl.MismatchError, xtl.RequestError)
    assert (xtl.RunError.exit_code, xtl.RequestError.exit_code) == (1, 2)


def test_importing_the_package_imports_no_library() -> None:
    code = (
        "import sys, time; before = set(sys.modules); start = time.process_time();"
        "import adapters_xtl; took = time.process_time() - start;"
        "heavy = {'torch', 'transformers', 'numpy', 'pyarrow', 'typer'} & (set(sys.modules) - before);"
        "assert not heavy, heavy; print(took)"
    )
    times = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
        for _ in range(3)
    ]
    assert min(times) < 0.1


@pytest.mark.parametrize("function", ["recipe", "evaluate"])
def test_keyword_arguments_are_named_as_the_flags(function: str) -> None:
    from adapters_xtl.cli import modules, recipe

    flags = set(
        inspect.signature(
            getattr({"recipe": recipe, "evaluate": modules}[function], function)
        ).parameters
    )
    flags = {name.rstrip("_") for name in flags}
    keywords = set(inspect.signature(getattr(xtl, function)).parameters)
    assert keywords - flags == {"notify"}
    assert flags - keywords <= {"as_json", "baseline", "seeds", "dry_run", "zero_shot"}, (
        "of the terminal alone"
    )


def test_what_python_and_the_command_line_do_is_the_same(tmp_path: Path) -> None:
    embedded.prepare(lambda text: None)
    lines: list[str] = []
    options = {"backbone": "tiny", "runs": tmp_path / "runs", "notify": lines.append}
    settings = {"train.max_steps": 2, "eval.max_examples": 20}
    run = xtl.recipe("mnli", set=settings, **options)
    assert not run.reused and run.path.is_dir() and run.metrics["train"]["steps"] == 2
    assert any("training" in line for line in lines)
    again = xtl_json(
        *("recipe", "mnli", "--backbone", "tiny", "--set", "train.max_steps=2"),
        *("--set", "eval.max_examples=20", "--runs", tmp_path / "runs", "--json"),
    )
    assert again["reused"] and (again["id"], Path(again["path"])) == (run.id, run.path)
    assert again["metrics"] == run.metrics and again["metrics"]["score"] == run.score

    scored = xtl.evaluate(
        run, task="xnli", languages=["de", "fr"], set=["eval.max_examples=10"], **options
    )
    assert set(scored.metrics["tasks"]["xnli"]["languages"]) == {"de", "fr"}
    assert Path(run.module) == Path(scored.module) == run.path, "the run that was scored"
    _is_shown(scored)

    child = xtl.recipe("pawsx", on=[run], set=settings, languages="de", **options)
    parents = [parent["id"] for parent in read_json(Path(child.module) / "spec.json")["parents"]]
    assert parents == [run.id]

    model = xtl.load(run)
    assert isinstance(model, xtl.Predictor) and model.task == "mnli"
    (answer,) = model.predict([("A dog sleeps.", "An animal rests.")])
    assert answer["prediction"] in model.labels

    pushed = xtl.push(run, f"file:{tmp_path / 'hub'}/mnli", runs=tmp_path / "runs")
    assert pushed.new and pushed.task == "mnli"
    pulled = xtl.pull(pushed.place, out=tmp_path / "copy", notify=lines.append)
    assert pulled.digest == pushed.digest and (tmp_path / "copy").is_dir()
    again_scored = xtl.evaluate(
        pulled, task="xnli", languages="de", set={"eval.max_examples": 10}, **options
    )
    assert again_scored.module == str(tmp_path / "copy"), "a bundle's module is the bundle"
    assert again_scored.score == pytest.approx(
        scored.metrics["tasks"]["xnli"]["languages"]["de"]["accuracy"]
    )


def _is_shown(run: xtl.Run) -> None:
    """Its scores as a table and a plot, in a terminal and in a notebook."""
    table = run.table()
    assert [row["language"] for row in table.rows] == ["de", "fr"] and table.rows[0]["n"] == 10
    value = f"{table.rows[0]['accuracy']:.2f}"
    assert value in str(table)
    shown = run._repr_mimebundle_([], [])
    assert value in shown["text/plain"] and "<pre" in shown["text/html"]
    plot = run.plot()
    assert plot._repr_png_().startswith(b"\x89PNG")
    heights = [patch.get_height() for patch in plot.figure.axes[0].patches]
    assert heights == [row["accuracy"] for row in table.rows]
    with pytest.raises(xtl.RunError, match=r"\.bmp"):
        plot.save("scores.bmp")


def test_a_wrong_request_is_an_exception() -> None:
    with pytest.raises(xtl.RequestError, match="did you mean 'mnli'"):
        xtl.recipe("mnil", backbone="tiny")
    with pytest.raises(xtl.RequestError, match=r"train\.max_steps"):
        xtl.recipe("mnli", backbone="tiny", set={"train.max_steps": -1})
    with pytest.raises(xtl.RequestError, match="no-such-run"):
        xtl.evaluate("no-such-run")


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: xtl.recipe("mnli", backbone="tiny", seed="1"), "seed='1'"),
        (lambda: xtl.recipe("mnli", backbone=3), "backbone=3"),
        (lambda: xtl.recipe("mnli", on=[7], backbone="tiny"), "on=7"),
        (lambda: xtl.recipe(None, backbone="tiny"), "unknown task ''"),
        (lambda: xtl.recipe("mnli", backbone="tiny", force=1), "force=1"),
        (lambda: xtl.recipe("mnli", backbone="tiny", memory=float("nan")), "memory=nan"),
        (lambda: xtl.recipe("mnli", backbone="tiny", set=3), "set=3"),
        (lambda: xtl.recipe("mnli", backbone="tiny", set={3: 1}), "set: 3"),
        (lambda: xtl.evaluate(object()), "module=<object"),
        (lambda: xtl.evaluate("x", layer=1.5), "layer=1.5"),
        (lambda: xtl.evaluate("x", export="xtreme"), "export='xtreme'"),
        (lambda: xtl.load(3), "module=3"),
        (lambda: xtl.push("run", 3), "dest=3"),
        (lambda: xtl.pull(None), "''"),
    ],
)
def test_an_argument_of_another_type_is_refused_by_its_name(
    call: Callable[[], object], named: str
) -> None:
    with pytest.raises(xtl.RequestError) as refused:
        call()
    lines = str(refused.value).splitlines()
    assert any(line.startswith(named) for line in lines), lines
    assert not any("Traceback" in line for line in lines)
