"""A method is one file: tests/dropped_in/methods/bitfit.py, dropped into the folder, goes through
every command.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file, save_file

from adapters_xtl import cli, methods
from adapters_xtl.backbones.registry import TINY_CONFIG
from adapters_xtl.base.untrusted import Refusal, tensors
from adapters_xtl.methods import check_tensors, expected_tensors
from tests.command_line import Running

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "tests" / "dropped_in" / "methods"
QUICK = ("--set", "train.max_steps=4", "--set", "train.eval_every=2")
PARENT = ("--set-parents", "train.max_steps=4", "--set-parents", "train.eval_every=2")
TINY = ("--method", "bitfit", "--backbone", "tiny", "--data", "embedded", "--device", "cpu")

Command = Callable[..., Any]


def drop_in() -> None:
    methods.__path__.append(str(FOLDER))


@pytest.fixture
def xtl(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Iterator[Command]:
    """Runs `xtl …` in this process, in a directory of its own, with the method dropped in. Returns
    the object that `--json` prints.
    """
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(FOLDER)])
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object, as_json: bool = True) -> Any:
        words = [*map(str, arguments), *(["--json"] if as_json else [])]
        monkeypatch.setattr(sys, "argv", ["xtl", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        shown = capsys.readouterr()
        assert not ended.value.code, shown.err
        return json.loads(shown.out) if as_json else shown.out

    yield run
    methods.load.cache_clear()


def test_a_dropped_in_method_is_trained_stacked_scored_and_shared(
    xtl: Command, tmp_path: Path
) -> None:
    biases = 4 * (7 * 32 + 64) + 32

    planned = {device: xtl("plan", "mnli", *TINY[:-1], device) for device in ("cpu", "cuda")}
    for device, plan in planned.items():
        assert plan["lines"]["module"] == biases * 4, device
        assert any("upper estimate" in note for note in plan["notes"]), device

    child = xtl("recipe", "xnli", "--on", "mnli", "--languages", "de", *TINY, *QUICK, *PARENT)
    train = child["metrics"]["train"]
    assert train["trainable_parameters"] - train["head_parameters"] == biases
    assert child["metrics"]["tasks"]["xnli"]["languages"]["de"]["n"] == 120
    spec = json.loads((Path(child["path"]) / "spec.json").read_text())
    assert (spec["run"]["method"], spec["run"]["compose"]) == ("bitfit", "init")

    again = xtl("evaluate", child["path"], "--task", "xnli", "--languages", "de,es")
    own, fresh = (each["metrics"]["tasks"]["xnli"]["languages"] for each in (child, again))
    assert fresh["de"] == own["de"], "the saved module scores as the trained one did"
    rows = tmp_path / "in.jsonl"
    rows.write_text('{"premise": "A dog runs.", "hypothesis": "An animal moves."}\n')
    xtl("predict", child["path"], rows, "-o", tmp_path / "out.jsonl", as_json=False)
    answer = json.loads((tmp_path / "out.jsonl").read_text())
    assert answer["prediction"] in ("entailment", "neutral", "contradiction")

    hub = f"file:{tmp_path / 'hub'}"
    xtl("hub", "push", child["path"], f"{hub}/xnli-bitfit", "--with-parents")
    pulled = xtl("hub", "pull", f"{hub}/xnli-bitfit", "-o", tmp_path / "pulled")
    (bundle,) = [path.parent for path in (tmp_path / "pulled").rglob("bundle.json")][:1]
    xtl("hub", "verify", bundle)
    assert pulled
    card = (bundle / "README.md").read_text()
    assert "A set of bias terms" in card and "adapters_xtl.load" in card
    assert "adapters_xtl alone" not in card, "no library but ours loads it"
    scored = xtl("evaluate", bundle, "--task", "xnli", "--languages", "de")
    assert scored["metrics"]["tasks"]["xnli"]["languages"]["de"] == own["de"]


def test_a_dropped_in_method_is_compared(tmp_path: Path) -> None:
    """The trainings of a comparison are processes of their own, which know the method too."""
    dropped_in = ROOT / "tests" / "dropped_in"
    command = [sys.executable, str(dropped_in / "command_line.py"), "compare"]
    command += ["mnli", "--methods", "full,bitfit", "--seeds", "1", *TINY[2:], *QUICK, "--json"]
    site = str(dropped_in / "site")  # the processes of the runs find the files by it
    paths = os.pathsep.join([str(ROOT), site, os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert '"bitfit"' in done.stdout and '"full"' in done.stdout


def test_a_killed_training_with_it_resumes_to_the_same_weights(
    xtl: Command, tmp_path: Path
) -> None:
    recipe = ["recipe", "mnli", *TINY, "--set", "train.max_steps=40"]
    recipe += ["--set", "train.eval_every=4"]

    def run(runs: Path) -> Path:
        return Path(xtl(*recipe, "--runs", runs)["path"]) / "module" / "module.safetensors"

    whole = run(tmp_path / "whole").read_bytes()
    runs = tmp_path / "killed"
    process = Running(*recipe, "--runs", runs, before=drop_in)
    while process.poll() is None and not any(runs.rglob("checkpoint-*")):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert run(runs).read_bytes() == whole


def test_a_bundle_with_other_numbers_of_weights_is_refused(xtl: Command, tmp_path: Path) -> None:
    made = xtl("recipe", "mnli", *TINY, *QUICK)
    weights = Path(made["path"]) / "module" / "module.safetensors"
    held = load_file(str(weights))
    expected = expected_tensors(
        methods.load("bitfit"),
        {},
        TINY_CONFIG,
        tensors(weights),
        options={},
        from_layer=0,
        compose="",
    )
    check_tensors(tensors(weights), expected)
    held.pop(next(iter(held)))
    save_file(held, str(tmp_path / "short.safetensors"))
    with pytest.raises(Refusal, match=r"\d+ numbers"):
        check_tensors(tensors(tmp_path / "short.safetensors"), expected)


def test_contributing_shows_the_file_as_it_is() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    shown = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert (FOLDER / "bitfit.py").read_text(encoding="utf-8") in shown
