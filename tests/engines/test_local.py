"""The engine of this machine: real processes that train, die, are interrupted and share a store."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from adapters_xtl import engines
from adapters_xtl.base.errors import RequestError
from adapters_xtl.base.locks import locked
from adapters_xtl.engines import local
from adapters_xtl.engines.failures import Failures
from adapters_xtl.engines.job import Event
from adapters_xtl.runs.store import Store
from adapters_xtl.runs.stored_runs import StoredRun, read_run
from tests.conftest import ROOT
from tests.engines.jobs import (
    LONG,
    Reports,
    broken,
    job,
    request,
    step,
    three_jobs,
    trained,
    with_parent,
)


@dataclass
class Call:
    """What one call of the engine did."""

    runs: Path
    study: Path
    reports: Reports


@pytest.fixture(scope="module")
def call(tmp_path_factory: pytest.TempPathFactory) -> Call:
    """Two processes carry out a parent and its child, an untrained parent and its child, and a
    wrong request that two others need.
    """
    folder = tmp_path_factory.mktemp("local")
    runs, reports = folder / "runs", Reports()
    wrong = job(broken(request("xcopa", runs)), key="wrong", title="the wrong one")
    needs = job(request("csqa", runs), key="needs", after=("wrong",))
    needs_that = job(request("csqa", runs, seed=2), key="needs-that", after=("needs",))
    awaits = job(request("pawsx", runs), key="awaits", awaits=("wrong", "needs"))
    jobs = [
        *(needs_that, needs, wrong, awaits),
        *reversed(with_parent(request("qqp", runs, on="mnli"))),
        *reversed(with_parent(request("pawsx", runs, on="random"))),
    ]
    engines.load("local", 2).carry_out(jobs, folder / "study", reports)
    return Call(runs, folder / "study", reports)


def test_jobs_run_after_those_they_need(call: Call) -> None:
    order = [event.key for event in call.reports.events if event.state == "done"]
    assert order.index("parent-mnli") < order.index("mnli_qqp-seed-1")
    assert order.index("parent-random") < order.index("random_pawsx-seed-1")
    assert trained(call.runs) == ["mnli", "pawsx", "pawsx", "qqp", "random"]


def test_a_failed_job_skips_those_that_need_it_and_no_others(call: Call) -> None:
    assert call.reports.last("wrong").state == "failed"
    assert "train.lr=-1" in call.reports.last("wrong").message
    for key in ("needs", "needs-that"):
        assert call.reports.states(key) == ["skipped"]
        assert call.reports.last(key).message == "the wrong one"
    assert call.reports.last("awaits").state == "done"


def test_a_failure_is_kept_and_found_by_the_next_call(call: Call) -> None:
    ((key, failed),) = Failures(call.study).all().items()
    assert (key, failed.title, failed.wrong_request) == ("wrong", "the wrong one", True)
    assert "train.lr=-1" in failed.error and "\n" not in failed.error
    again = Reports()
    needs = job(request("csqa", call.runs), key="needs", after=("wrong",))
    engines.load("local").carry_out([needs], call.study, again)
    assert again.states("needs") == ["skipped"]


def test_a_run_says_what_it_does(call: Call) -> None:
    messages = call.reports.messages("mnli_qqp-seed-1")
    assert any(message.startswith("training mnli>qqp") for message in messages)
    assert any(message.startswith("step 4/4 · loss ") for message in messages)
    seconds = [event.seconds for event in call.reports.events if event.key == "mnli_qqp-seed-1"]
    assert seconds == sorted(seconds) and seconds[-1] > 0


def test_a_job_that_ends_well_has_its_failure_removed_and_trains_nothing_twice(call: Call) -> None:
    failures, reports = Failures(call.study), Reports()
    failures.folder.joinpath("awaits.json").write_text(
        (failures.folder / "wrong.json").read_text().replace('"wrong"', '"awaits"')
    )
    engines.load("local").carry_out(
        [job(request("pawsx", call.runs), key="awaits")], call.study, reports
    )
    assert reports.states("awaits") == ["running", "done"]
    assert not any("training" in message for message in reports.messages("awaits"))
    assert list(failures.all()) == ["wrong"]


def test_the_backbone_stays_loaded_and_each_run_has_its_own_peak(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    # one pass at a time: not all that the threads of several held goes back to the system
    at_once = {"batch_size": 256, "max_examples": 256, "max_steps": 1, "token_budget": 0}
    large = job(request("qqp", runs, **at_once, parallel_passes=1), key="large")
    small = [
        job(request("qqp", runs, seed=seed, batch_size=2, parallel_passes=1)) for seed in (2, 3)
    ]
    reports = Reports()
    engines.load("local").carry_out([small[0], large, small[1]], tmp_path, reports)
    done = {event.key: event for event in reports.events if event.state == "done"}
    assert len(done) == 3 and done["qqp-seed-3"].seconds < done["qqp-seed-2"].seconds
    peaks = {
        run.spec.run.hyper.batch_size * 10
        + run.spec.run.seed: run.metrics.train.measured_peak_bytes
        for run in map(_read, Store(runs).all())
    }
    assert peaks[2561] > peaks[22] + 2**26
    # some of the larger run's memory stays with the process
    assert peaks[23] < peaks[2561] and peaks[23] == pytest.approx(peaks[22], rel=0.15)


def _read(path: Path) -> StoredRun:
    run = read_run(path)
    assert run.spec.run is not None and run.metrics.train is not None
    return run


def test_a_worker_that_is_killed_fails_its_job_and_is_replaced(tmp_path: Path) -> None:
    runs, reports = tmp_path / "runs", Reports()
    long = job(request("qqp", runs, max_steps=LONG), key="long", title="the long one")
    killed: list[int] = []

    def kill(event: Event) -> None:
        reports(event)
        if event.key == "long" and step(event) > 4 and not killed:
            ((pid, _),) = _workers().items()
            killed.append(pid)
            os.kill(pid, signal.SIGKILL)

    after = job(request("pawsx", runs), key="after", after=("long",))
    other = job(request("pawsx", runs), key="other")
    engines.load("local").carry_out([long, after, other], tmp_path, kill)
    assert reports.last("long").state == "failed"
    assert "killed by signal 9; it may have needed more memory" in reports.last("long").message
    assert reports.last("after").state == "skipped" and reports.last("other").state == "done"
    assert Failures(tmp_path).all()["long"].error == reports.last("long").message
    assert killed and not _workers()
    # nothing of it is lost: the next call goes on from the checkpoint
    again, went_on = Reports(), []

    def stop(event: Event) -> None:
        again(event)
        if event.message.startswith("resuming from step"):
            went_on.append(event.message)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engines.load("local").carry_out([long], tmp_path, stop)
    assert went_on and not _workers()
    assert again.last("long").state == "waiting"


def _workers() -> dict[int, object]:
    """pid → process, of the worker processes of this one."""
    return {
        child.pid: child
        for child in multiprocessing.active_children()
        if child.pid and type(child).__name__ != "Process"
    }


def _start(steps: int, runs: Path, study: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.engines.carry_out", "local", str(steps), runs, study],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _events(process: subprocess.Popen[str]) -> Iterator[Event]:
    assert process.stdout is not None
    for line in process.stdout:
        yield Event(**json.loads(line))


def test_an_interrupt_says_what_runs_and_the_next_call_goes_on(tmp_path: Path) -> None:
    runs, study = tmp_path / "runs", tmp_path / "study"
    process = _start(LONG, runs, study)
    for event in _events(process):
        if event.key == "mnli_qqp-seed-1" and step(event) > 4:
            break
    process.send_signal(signal.SIGINT)
    left, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert re.search(r"stopping mnli>qqp seed 1 \(step \d+(/4000)?\).*goes on", errors), errors
    assert "Traceback" not in errors
    assert Event(**json.loads(left.splitlines()[-1])).state == "waiting"
    (partial,) = runs.glob("qqp/*.partial")
    with locked(partial.with_name(f".{partial.stem}.lock"), pytest.fail):
        pass  # the worker has let go of the run


def test_two_processes_on_one_store_train_each_run_once(tmp_path: Path) -> None:
    runs, reports = tmp_path / "runs", Reports()
    process = _start(12, runs, tmp_path / "study")
    other_events = _events(process)
    first = next(event for event in other_events if event.message.startswith("training "))
    jobs = three_jobs(runs, 12)
    engines.load("local").carry_out(jobs, tmp_path / "other-study", reports)
    events = [first, *other_events]
    process.communicate(timeout=300)
    assert process.returncode == 0
    assert {event.key for event in events if event.state == "done"} >= {jobs[1].key, jobs[2].key}
    assert all(reports.last(each.key).state == "done" for each in jobs)
    # it took another job while the other process trained the first
    assert any("another process works on" in text for text in reports.messages(jobs[0].key))
    messages = [event.message for event in (*events, *reports.events)]
    started = [message for message in messages if message.startswith("training ")]
    assert len(started) == len(set(started)) == 3
    assert trained(runs) == ["mnli", "pawsx", "qqp"]
    assert not list(runs.glob("failed/*")) and not list(runs.glob("*/*.partial"))


def test_jobs_that_do_not_fit_together_run_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, reports, said = tmp_path / "runs", Reports(), list[str]()
    monkeypatch.setattr(local, "usable_memory", lambda: 3 * 2**30)
    monkeypatch.setattr(local, "usable_cores", lambda: 2)
    jobs = [job(request("qqp", runs, seed=seed, max_steps=2), memory=2**31) for seed in (1, 2)]
    engines.load("local", 2, {}, said.append).carry_out(jobs, tmp_path, reports)
    assert [reports.last(each.key).state for each in jobs] == ["done"] * 2
    most = 0
    running: set[str] = set()
    for event in reports.events:
        running = running | {event.key} if event.state == "running" else running - {event.key}
        most = max(most, len(running))
    assert most == 1
    assert {read_run(path).provenance.threads for path in Store(runs).all()} == {1}
    (line,) = said
    assert "qqp seed 2 waits" in line and "2.6 GiB" in line and "3.0 GiB" in line


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("locl", {}, ("locl", "did you mean 'local'?")),
        ("analysis", {}, ("analysis", "known: local, ray, slurm")),
        ("local", {"partition": "gpu"}, ("partition", "has none")),
    ],
)
def test_an_unknown_engine_or_option_is_refused(
    name: str, options: dict[str, str], words: tuple[str, ...]
) -> None:
    with pytest.raises(RequestError) as error:
        engines.load(name, 1, options)
    assert all(word in str(error.value) for word in words)
