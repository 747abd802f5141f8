"""One job in this process: what it trains, which trial it takes, what is kept of its failure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from adapters_xtl.base.errors import RunError
from adapters_xtl.engines.failures import Failures, failure
from adapters_xtl.engines.job import Job, Trial
from adapters_xtl.engines.schedule import Schedule
from adapters_xtl.engines.trials import resolved_request
from adapters_xtl.engines.worker import RunsElsewhere, Worker
from adapters_xtl.planning.plan import Planner
from adapters_xtl.runs.request import Request
from adapters_xtl.runs.store import Store
from adapters_xtl.runs.stored_runs import read_run
from tests.engines.jobs import Reports, broken, job, request, trained, with_parent


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("worker") / "runs"


@pytest.fixture(scope="module")
def worker(runs: Path) -> Worker:
    return Worker(runs.parent / "study", lambda text: None)


def _trial(base: Request, **values: float) -> Trial:
    pairs = tuple((f"train.{key}", value) for key, value in values.items())
    tried = tuple(
        replace(base, seed=seed, overrides=(*base.overrides, *pairs)) for seed in (11, 12)
    )
    return Trial(pairs, tried)


def _select_scores(trial: Trial, runs: Path) -> list[float]:
    planner, scores = Planner(Store(runs)), []
    for tried in trial.requests:
        target = planner.plan(tried).target
        assert target is not None
        train = read_run(Store(runs).path(target.task, target.id)).metrics.train
        assert train is not None
        scores.append(train.select.score)
    return scores


def test_the_best_of_the_complete_trials_is_taken_and_of_equals_the_first(
    runs: Path, worker: Worker
) -> None:
    base = request("qqp", runs, select_examples=40, max_steps=8, eval_every=8)
    poor, good = _trial(base, lr=1e-6), _trial(base, lr=3e-3)
    incomplete = Trial((("train.lr", 0.5),), (good.requests[0], request("qqp", runs, seed=13)))
    same_as_good = Trial((("train.lr", 0.25),), good.requests)
    for trial in (poor, good):
        for tried in trial.requests:
            assert worker.carry_out(job(tried)) is None
    means = {trial: sum(_select_scores(trial, runs)) / 2 for trial in (poor, good)}
    assert means[good] > means[poor]
    tuned = job(base, trials=(incomplete, poor, good, same_as_good))
    resolved = resolved_request(tuned, Planner(Store(runs)))
    assert resolved == replace(base, overrides=(*base.overrides, *good.values))
    assert resolved_request(job(base), Planner(Store(runs))) == base


def test_a_job_none_of_whose_trials_is_finished_fails(runs: Path, worker: Worker) -> None:
    base = request("csqa", runs)
    tuned = job(base, key="tuned", title="the tuned one", trials=(_trial(base, lr=1e-3),))
    failed = worker.carry_out(tuned)
    assert failed is not None and not failed.wrong_request
    assert "the tuned one: none of its 1 tuning trials" in failed.error
    assert worker.failures.get("tuned") == failed


def test_a_job_of_a_module_trains_it_alone_with_its_own_scores(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    worker = Worker(tmp_path, lambda text: None)
    parent, child = with_parent(request("pawsx", runs, on="qqp"))
    assert worker.carry_out(parent) is None
    assert trained(runs) == ["qqp"]
    alone = request("qqp", runs)
    own = Planner(Store(runs)).plan(alone)
    (path,) = Store(runs).all()
    assert own.target is not None and path.name == own.target.id == parent.module
    scored = read_run(path).spec.evaluation
    assert scored is not None and set(scored.languages) == {"qqp"}
    assert scored.id == worker.plan(child).part(parent.module).evaluation.id
    drawn, _ = with_parent(request("pawsx", runs, on="random"))
    assert worker.carry_out(drawn) is None and worker.carry_out(drawn) is None
    assert trained(runs) == ["qqp", "random"]
    unknown = worker.carry_out(replace(child, module="0123456789ab"))
    assert unknown is not None
    assert "no module 0123456789ab" in unknown.error and parent.module in unknown.error


def test_a_run_that_another_process_makes_is_waited_for_only_where_asked(tmp_path: Path) -> None:
    runs, began = tmp_path / "runs", list[str]()
    work = job(request("qqp", runs))
    worker = Worker(tmp_path, lambda text: None)
    target = worker.plan(work).target
    assert target is not None
    with (
        Store(runs).work(target.task, target.id, pytest.fail),
        pytest.raises(RunsElsewhere, match=f"qqp/{target.id}"),
    ):
        worker.carry_out(work, lambda: began.append("began"), wait=False)
    assert not began and not Failures(tmp_path).all()


def test_errors_are_kept_in_one_line(tmp_path: Path) -> None:
    work = job(request("qqp", tmp_path))
    assert failure(work, MemoryError()).error.startswith("out of memory; ")
    assert failure(work, ValueError("a\nb")).error == "ValueError: a"
    assert failure(work, RunError("a\nb")).error == "a; b"
    failures = Failures(tmp_path)
    failures.record(failure(work, "lost"))
    assert failures.all() == {work.key: failures.get(work.key)}
    failures.path(work.key).write_text("{")
    failures.path("of a kind").mkdir()  # a stranger's directory under such a name
    damaged = failures.all()  # that it failed is known all the same, and the others' errors too
    assert set(damaged) == {work.key, "of a kind"}
    for key, failed in damaged.items():
        assert failures.path(key).name in failed.error and not failed.wrong_request


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ([{"key": "a"}, {"key": "a"}], "same key"),
        ([{"key": "a", "after": ("b",)}, {"key": "b", "awaits": ("a",)}], "wait for each other"),
        ([{"key": "../a"}], "names files"),
    ],
)
def test_jobs_that_make_no_sense_are_refused(
    changes: list[dict[str, str]], word: str, tmp_path: Path
) -> None:
    jobs: list[Job] = [job(broken(request("qqp", tmp_path)), **values) for values in changes]
    with pytest.raises(ValueError, match=word):
        Schedule(jobs, Failures(tmp_path), Reports())
