"""SIGTERM, SIGHUP and SIGINT: one line, the shell's exit code, and the next call goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from adapters_xtl.base.locks import locked
from adapters_xtl.runs.store import Store
from tests.command_line import Running, xtl_json

TRAIN = [
    *("recipe", "qqp", "--backbone", "tiny", "--data", "embedded", "--device", "cpu"),
    *("--set", "train.max_steps=3000", "--set", "train.eval_every=4"),
    *("--set", "train.patience=0", "--set", "train.select_examples=20"),
]


def _signalled(
    arguments: list[str], number: signal.Signals, ready: Callable[[int], bool]
) -> tuple[int, list[str]]:
    """Sends a signal to the command as soon as `ready(pid)`; its exit code and the lines it said."""
    process = Running(*arguments)
    while process.poll() is None and not ready(process.pid):
        time.sleep(0.01)
    process.send_signal(number)
    code, lines = process.wait(), process.said()
    assert not any("Traceback" in line for line in lines)
    return code, [line for line in lines if line.startswith("xtl: ")]


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=["term", "hup"]
)
def test_a_signal_ends_a_training_that_can_go_on(
    number: signal.Signals, code: int, runs: Path
) -> None:
    def checkpoint(pid: int = 0) -> bool:
        return bool(list(runs.glob("qqp/*.partial/work/checkpoint-*/complete.json")))

    returned, lines = _signalled([*TRAIN, "--runs", str(runs)], number, checkpoint)
    assert returned == code
    assert len(lines) == 1 and "interrupted" in lines[0]
    assert checkpoint() and not Store(runs).all()


def test_a_signal_ends_the_imports(runs: Path) -> None:
    def importing(pid: int) -> bool:
        return "libtorch" in Path(f"/proc/{pid}/maps").read_text()

    process = subprocess.Popen(
        [sys.executable, "-m", "adapters_xtl", *TRAIN, "--runs", str(runs)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None and not importing(process.pid):
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    lines = process.communicate(timeout=300)[1].splitlines()
    complaints = [line for line in lines if line.startswith("xtl: ")]
    assert process.returncode == 143 and len(complaints) == 1 and "interrupted" in complaints[0]


def test_a_signal_ends_the_waiting_for_another_process(runs: Path) -> None:
    (runs / "qqp").mkdir(parents=True)
    store = Store(runs)
    run_id = xtl_json(*TRAIN, "--runs", runs, "--dry-run")["id"]
    with store.work("qqp", run_id, lambda text: None):
        process = Running(*TRAIN, "--runs", runs)
        while process.poll() is None and not any("waiting" in line for line in process.said()):
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 143
    assert "interrupted" in process.said()[-1]


def test_a_signal_ends_a_comparison_and_the_process_of_its_run(runs: Path) -> None:
    def training(pid: int) -> bool:
        return bool(list(runs.glob("qqp/*.partial/work/checkpoint-*/complete.json")))

    compare = ["compare", *TRAIN[1:], "--methods", "lora", "--seeds", "1", "--runs", str(runs)]
    returned, lines = _signalled(compare, signal.SIGTERM, training)
    assert returned == 143 and len(lines) == 1 and "interrupted" in lines[0]
    (partial,) = runs.glob("qqp/*.partial")
    # the child has let go of the run: the lock is free for the next call
    with locked(partial.with_name(f".{partial.stem}.lock"), pytest.fail):
        pass


def test_an_ignored_signal_stays_ignored() -> None:
    code = (
        "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN);"
        "from adapters_xtl.base.signals import interrupt_on_signals; interrupt_on_signals();"
        "import os; os.kill(os.getpid(), signal.SIGHUP); print('alive')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert done.stdout == "alive\n"


OBEYED = """
import os, signal, time
from adapters_xtl.base.signals import interrupt_on_signals, obey_interrupt
interrupt_on_signals()
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(300)
except KeyboardInterrupt:
    obey_interrupt()
    os.kill(os.getpid(), signal.SIGINT)  # the same key press, passed on by another program
    print("stopping", flush=True)
    time.sleep(1.1)
    os.kill(os.getpid(), signal.SIGINT)
    print("not reached")
"""


def test_a_second_interrupt_ends_what_is_being_stopped_at_once() -> None:
    done = subprocess.run(
        [sys.executable, "-c", OBEYED], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.stdout == "stopping\n" and done.returncode == 130


LOST = """
import os, signal, time
from adapters_xtl.base.signals import acknowledge_interrupt, interrupt_on_signals
interrupt_on_signals()
class Careless:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.1)  # the exception is raised here, where Python drops it
try:
    Careless()
    print("dropped", flush=True)
    time.sleep(300)
except KeyboardInterrupt:
    os._exit(acknowledge_interrupt())
"""


def test_an_interrupt_that_python_drops_comes_again() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOST], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.stdout == "dropped\n" and done.returncode == 143
