"""The engine on Ray: a local cluster of two workers, one of which is killed while it trains."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from adapters_xtl import engines
from adapters_xtl.base.errors import RequestError
from adapters_xtl.engines.failures import Failures
from adapters_xtl.engines.job import Event
from adapters_xtl.engines.remote import read_progress
from adapters_xtl.runs.store import Store
from adapters_xtl.runs.stored_runs import read_run
from tests.engines.jobs import LONG, Reports, broken, job, request, step, trained


def _need_ray() -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'adapters-xtl[ray]'")


@dataclass
class Call:
    """What one call of the engine did."""

    runs: Path
    study: Path
    reports: Reports


@pytest.fixture(scope="module")
def call(tmp_path_factory: pytest.TempPathFactory) -> Call:
    """Two trainings, the worker of one of which is killed at its sixth step, and wrong requests."""
    _need_ray()
    folder = tmp_path_factory.mktemp("ray")
    runs, study, reports, killed = folder / "runs", folder / "study", Reports(), list[int]()
    wrong = job(broken(request("qqp", runs)), key="wrong", title="the wrong one")
    needs = job(request("csqa", runs), key="needs", after=("wrong",))
    long = job(request("pawsx", runs, max_steps=24), key="long")
    other = job(request("qqp", runs), key="other")
    late = job(broken(request("csqa", runs)), key="late", after=("long",))
    jobs = [late, long, other, wrong, needs]

    def kill(event: Event) -> None:
        reports(event)
        if event.key == "long" and step(event) > 4 and not killed:
            said = read_progress(study, "long")
            assert said is not None
            os.kill(said.pid, signal.SIGKILL)
            killed.append(said.pid)

    before = signal.getsignal(signal.SIGTERM)
    engines.load("ray", 2, {"cpus": "1"}).carry_out(jobs, study, kill)
    assert signal.getsignal(signal.SIGTERM) is before  # Ray had taken it
    assert killed
    return Call(runs, study, reports)


def test_jobs_end_and_those_that_need_a_failed_one_are_skipped(call: Call) -> None:
    reports = call.reports
    for key in ("long", "other"):
        assert reports.states(key) == ["queued", "running", "done"]
    order = [event.key for event in reports.events if event.state in ("done", "failed")]
    assert order.index("long") < order.index("late")
    assert reports.last("wrong").state == "failed"
    assert (reports.last("needs").state, reports.last("needs").message) == (
        "skipped",
        "the wrong one",
    )
    assert list(Failures(call.study).all()) == ["late", "wrong"]
    assert trained(call.runs) == ["pawsx", "qqp"]


def test_a_training_whose_worker_was_killed_goes_on_in_another(call: Call) -> None:
    assert any("worker was lost" in text for text in call.reports.messages("long"))
    (path,) = (path for path in Store(call.runs).all() if path.parent.name == "pawsx")
    metrics = read_run(path).metrics
    assert metrics.train is not None and metrics.train.steps == 24
    assert not list((call.study / "progress").iterdir())


def test_an_interrupt_ends_the_tasks_and_their_runs_go_on(tmp_path: Path) -> None:
    _need_ray()
    lines: list[str] = []
    reports = Reports()

    def interrupt(event: Event) -> None:
        reports(event)
        if step(event) > 2:
            raise KeyboardInterrupt

    long = job(
        request("pawsx", tmp_path / "runs", max_steps=LONG), key="long", title="the long one"
    )
    with pytest.raises(KeyboardInterrupt):
        engines.load("ray", 1, {}, lines.append).carry_out([long], tmp_path, interrupt)
    assert len(lines) == 1 and "the long one" in lines[0] and "goes on from the last" in lines[0]
    assert reports.last("long").state == "waiting"
    said = read_progress(tmp_path, "long")
    assert said is not None
    for _ in range(300):  # Ray's processes end a moment after it has let go of them
        if not Path(f"/proc/{said.pid}").exists():
            break
        time.sleep(0.1)
    else:
        pytest.fail(f"process {said.pid} still trains")
    (partial,) = (tmp_path / "runs").glob("pawsx/*.partial")
    assert not Store(tmp_path / "runs").in_progress("pawsx", partial.stem)


def test_without_ray_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RequestError, match=r"pip install 'adapters-xtl\[ray\]'"):
        engines.load("ray")


def test_a_wrong_option_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(RequestError, match=r"adress.*did you mean 'address'"):
        engines.load("ray", 1, {"adress": "auto"})
    with pytest.raises(RequestError, match="retries=many: takes a whole number"):
        engines.load("ray", 1, {"retries": "many"})
