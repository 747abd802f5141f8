"""Small jobs on the random backbone `tiny`, and what the engines report of them."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from adapters_xtl.engines.job import Event, Job
from adapters_xtl.planning.plan import Planner
from adapters_xtl.runs.request import Request
from adapters_xtl.runs.store import Store

SETTINGS = (
    ("train.max_steps", 4),
    ("train.eval_every", 2),
    ("train.select_examples", 8),
    ("train.patience", 0),
    ("train.max_examples", 64),
)
LONG = 4000  # steps: minutes, with a checkpoint after every other one


def request(task: str, runs: Path, *, on: str = "", seed: int = 1, **settings: Any) -> Request:
    """A request for a few steps. `settings`: of its training, `max_steps=…`."""
    own = {**dict(SETTINGS), **{f"train.{key}": value for key, value in settings.items()}}
    return Request(
        task=task,
        on=(on,) if on else (),
        method="lora",
        backbone="tiny",
        data="embedded",
        device="cpu",
        languages="en",
        seed=seed,
        overrides=(*own.items(), ("eval.max_examples", 8)),
        parent_overrides=SETTINGS if on and on != "random" else (),
        runs=str(runs),
    )


def job(wanted: Request, **values: Any) -> Job:
    """A job of this request; its title and key say its task, parent and seed."""
    title = f"{'>'.join((*wanted.on, wanted.task))} seed {wanted.seed}"
    key = title.replace(">", "_").replace(" ", "-")
    return Job(**{"key": key, "title": title, "request": wanted} | values)


def with_parent(child: Request) -> tuple[Job, Job]:
    """The job that trains the parent of a request, and the request's own, which waits for it."""
    parent = Planner(Store(Path(child.runs))).plan(child).modules[0]
    first = job(child, key=f"parent-{parent.task}", title=f"parent {parent}", module=parent.id)
    return first, job(child, after=(first.key,))


def three_jobs(runs: Path, steps: int) -> list[Job]:
    """A parent's, its child's, and that of a third task; the last two train for so many steps."""
    child = request("qqp", runs, on="mnli", max_steps=steps)
    return [*with_parent(child), job(request("pawsx", runs, max_steps=steps), key="other")]


def broken(wanted: Request) -> Request:
    """The request with a setting that the planner refuses."""
    return replace(wanted, overrides=(*wanted.overrides, ("train.lr", -1)))


@dataclass
class Reports:
    """The events of one call, in order."""

    events: list[Event] = field(default_factory=list)

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    def states(self, key: str) -> list[str]:
        """The states that a job went through."""
        states = (event.state for event in self.events if event.key == key)
        return [state for state, _ in itertools.groupby(states)]

    def last(self, key: str) -> Event:
        return [event for event in self.events if event.key == key][-1]

    def messages(self, key: str) -> list[str]:
        return [event.message for event in self.events if event.key == key and event.message]


def trained(runs: Path) -> list[str]:
    """The task of every finished run, sorted."""
    return sorted(path.parent.name for path in Store(runs).all())


def step(event: Event) -> int:
    """The step that a training has come to by its message; 0 for any other message."""
    found = re.match(r"step (\d+)", event.message)
    return int(found[1]) if found else 0
