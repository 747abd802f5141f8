"""The engine on Slurm: a Slurm of one node that the tests start, with jobs that are cancelled, fail,
and go on when nobody follows them.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from adapters_xtl import engines
from adapters_xtl.base.errors import RequestError, RunError
from adapters_xtl.engines.failures import Failures
from adapters_xtl.engines.job import Event
from adapters_xtl.engines.slurm import Submitted
from adapters_xtl.runs.records import read_record
from tests.engines.jobs import LONG, Reports, broken, job, request, step, trained, with_parent
from tests.engines.one_node_slurm import one_node_slurm

OPTIONS = {"cpus": "1", "poll": "1", "memory": "900M"}


@pytest.fixture(scope="module")
def slurm() -> Iterator[None]:
    pytest.importorskip(
        "submitit", reason="submitit is not installed: pip install 'adapters-xtl[slurm]'"
    )
    with one_node_slurm():
        yield


@dataclass
class Call:
    """What one call of the engine did."""

    runs: Path
    study: Path
    reports: Reports


def _number(study: Path, key: str) -> str:
    return read_record(Submitted, study / "slurm" / f"{key}.json").number


def _queue() -> dict[str, str]:
    """Number → state, of all jobs that Slurm remembers."""
    command = ["squeue", "-h", "--states=all", "-o", "%i %T"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(line.split() for line in done.stdout.splitlines())


@pytest.fixture(scope="module")
def call(slurm: None, tmp_path_factory: pytest.TempPathFactory) -> Call:
    """A job that fails and those that wait for it, and a long one that is cancelled while it
    trains.
    """
    folder = tmp_path_factory.mktemp("slurm")
    runs, study, reports = folder / "runs", folder / "study", Reports()
    wrong = job(broken(request("qqp", runs)), key="wrong", title="the wrong one")
    needs = job(request("csqa", runs), key="needs", after=("wrong",))
    needs_that = job(request("csqa", runs, seed=2), key="needs-that", after=("needs",))
    # it fails too, but only once it is its turn
    awaits = job(broken(request("pawsx", runs)), key="awaits", awaits=("wrong", "needs-that"))
    long = job(request("pawsx", runs, max_steps=LONG, seed=2), key="long")
    jobs = [needs_that, needs, awaits, wrong, long]
    cancelled: list[str] = []

    def cancel(event: Event) -> None:
        reports(event)
        if event.key == "long" and step(event) > 2 and not cancelled:
            cancelled.append(_number(study, "long"))
            subprocess.run(["scancel", cancelled[0]], check=True)

    engines.load("slurm", 0, OPTIONS).carry_out(jobs, study, cancel)
    return Call(runs, study, reports)


def test_what_needs_a_failed_job_is_skipped_and_leaves_the_queue(call: Call) -> None:
    assert "train.lr=-1" in call.reports.last("wrong").message
    for key in ("needs", "needs-that"):
        assert call.reports.last(key).state == "skipped"
        assert call.reports.last(key).message == "the wrong one"
    ended = [event.key for event in call.reports.events if event.state in ("failed", "skipped")]
    assert ended.index("wrong") < ended.index("awaits")
    assert call.reports.last("awaits").state == "failed"
    names = ["squeue", "-h", "--states=all", "-o", "%j %T"]
    listed = subprocess.run(names, capture_output=True, text=True, check=True).stdout.splitlines()
    states = {line.split()[0].split("-", 2)[2]: line.split()[1] for line in listed}
    assert states["needs"] == states["needs-that"] == "CANCELLED"


def test_a_cancelled_job_is_a_failure_that_says_so_with_its_log(call: Call) -> None:
    error = Failures(call.study).all()["long"].error
    assert "was cancelled" in error
    log = Path(error.partition("its log: ")[2])
    assert "training pawsx" in log.read_text()


def test_a_failed_job_is_submitted_again_when_it_is_asked_for_again(call: Call) -> None:
    reports = Reports()
    mended = job(request("qqp", call.runs), key="wrong", title="the wrong one")
    engines.load("slurm", 0, OPTIONS).carry_out([mended], call.study, reports)
    assert reports.states("wrong") == ["queued", "running", "done"]
    assert sorted(Failures(call.study).all()) == ["awaits", "long"]
    assert trained(call.runs) == ["qqp"]


def test_jobs_go_on_when_nobody_follows_and_the_next_call_finds_them(
    slurm: None, tmp_path: Path
) -> None:
    runs, lines = tmp_path / "runs", list[str]()
    first, second = with_parent(request("qqp", runs, on="pawsx"))

    def interrupt(event: Event) -> None:
        if event.state == "running":
            raise KeyboardInterrupt

    engine = engines.load("slurm", 0, OPTIONS, lines.append)
    with pytest.raises(KeyboardInterrupt):
        engine.carry_out([first, second], tmp_path, interrupt)
    numbers = [_number(tmp_path, work.key) for work in (first, second)]
    assert "2 jobs stay in Slurm's queue" in lines[0] and " ".join(numbers) in lines[0]
    before = set(_queue())
    reports = Reports()
    engine.carry_out([first, second], tmp_path, reports)
    assert set(_queue()) == before  # nothing was submitted again
    assert [event.key for event in reports.events if event.state == "done"] == [
        first.key,
        second.key,
    ]
    assert trained(runs) == ["pawsx", "qqp"]


def test_what_slurm_refuses_is_said_in_its_words(slurm: None, tmp_path: Path) -> None:
    engine = engines.load("slurm", 0, {**OPTIONS, "partition": "nowhere"})
    with pytest.raises(RunError, match=r"sbatch.*nvalid partition"):
        engine.carry_out([job(request("qqp", tmp_path))], tmp_path, Reports())


def test_without_submitit_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(RequestError, match=r"pip install 'adapters-xtl\[slurm\]'"):
        engines.load("slurm")


def test_a_wrong_option_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(RequestError, match=r"partitoin.*did you mean 'partition'"):
        engines.load("slurm", 0, {"partitoin": "gpu"})
    with pytest.raises(RequestError, match="--jobs 4: Slurm decides"):
        engines.load("slurm", 4)
