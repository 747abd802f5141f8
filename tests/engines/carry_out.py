"""A process that carries out jobs as a command does: python -m tests.engines.carry_out ENGINE STEPS
RUNS STUDY [OPTION=VALUE…]. It prints one event a line, as JSON, and exits like `xtl`.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from adapters_xtl import engines
from adapters_xtl.base.signals import interrupt_on_signals
from adapters_xtl.cli.failures import report
from adapters_xtl.engines.job import Event
from tests.engines.jobs import three_jobs


def _show(event: Event) -> None:
    print(json.dumps(asdict(event)), flush=True)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    engine, steps, runs, study, *options = sys.argv[1:]
    interrupt_on_signals()
    jobs = three_jobs(Path(runs), int(steps))
    pairs = dict(option.split("=", 1) for option in options)
    try:
        engines.load(engine, 1, pairs, _say).carry_out(jobs, Path(study), _show)
    except BaseException as error:
        sys.exit(report(error, "compare", _say))


main()
