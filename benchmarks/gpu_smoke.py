"""Does everything run at XLM-R Large's true size? Random weights, a few steps of each kind.

    .venv/bin/python benchmarks/gpu_smoke.py DIR --device cuda
    .venv/bin/python benchmarks/gpu_smoke.py embedded --backbone tiny        the same on a CPU

Commands of `xtl` one after the other, each a process of its own: a LoRA is trained, killed,
resumed, evaluated and stacked on; bottlenecks, weights of 8 and 4 bits, `init` and full
fine-tuning. A command that fails costs the ones that stand on it, not the others. `smoke.json` in
--out holds each command, its seconds, exit code, memory and what it said when it failed. Their
scores say nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adapters_xtl.base import machine
from adapters_xtl.base.files import write_json
from adapters_xtl.base.typed_json import to_json
from adapters_xtl.runs.store import WORK
from benchmarks import speed_tools as tools

FEW = {
    "train.max_steps": 8,
    "train.eval_every": 2,
    "train.batch_size": 8,
    "train.max_length": 64,
    "train.select_examples": 16,
    "eval.max_examples": 16,
}
# name → (task, flags). PARENT-<name> stands for the run of an earlier one
RECIPES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "lora": ("mnli", ("--method", "lora")),
    "lora-stack": ("panx", ("--method", "lora", "--on", "PARENT-lora")),
    "bottleneck": ("mnli", ("--method", "bottleneck")),
    "bottleneck-stack": ("panx", ("--method", "bottleneck", "--on", "PARENT-bottleneck")),
    "bottleneck-init": (
        "panx",
        ("--method", "bottleneck", "--on", "PARENT-bottleneck", "--compose", "init"),
    ),
    "lora-8bit": ("panx", ("--method", "lora", "--bits", "8")),
    "bottleneck-4bit": ("panx", ("--method", "bottleneck", "--bits", "4")),
    "lora-upper": ("panx", ("--method", "lora", "--from-layer", "UPPER")),
    "full": ("panx", ("--method", "full")),
}
KILLED = "lora"  # the recipe that is killed first
WAIT = 300  # seconds for its checkpoints


class Smoke:
    """The commands and what came of them."""

    def __init__(self, options: argparse.Namespace, aside: Path) -> None:
        self.options, self.runs = options, aside / "runs"
        self.encoder = tools.encoder_folder(options.backbone, aside)
        self.env = tools.environment(aside / "cache")
        self.paths: dict[str, str] = {}
        self.done: list[dict[str, Any]] = []

    def recipe(self, name: str) -> list[str] | None:
        """The flags of a recipe; None where what it stands on failed."""
        task, flags = RECIPES[name]
        config = json.loads((self.encoder / "config.json").read_text(encoding="utf-8"))
        filled = []
        for flag in flags:
            if flag.startswith("PARENT-"):
                if flag.removeprefix("PARENT-") not in self.paths:
                    return None
                flag = self.paths[flag.removeprefix("PARENT-")]
            filled.append(str(config["num_hidden_layers"] // 2) if flag == "UPPER" else flag)
        return [
            *("recipe", task, *filled, "--backbone", str(self.encoder), "--languages", "en"),
            *("--data", self.options.data, "--device", self.options.device, "--json"),
            *("--runs", str(self.runs), *(["--no-zero-shot"] if task == "mnli" else [])),
            *(part for key, value in FEW.items() for part in ("--set", f"{key}={value}")),
        ]

    def take(self, name: str, flags: Sequence[str] | None, expected: str = "") -> None:
        """Runs a command and notes what came of it; `expected`: words that it has to say."""
        if flags is None:
            self.note(name, [], error="what it stands on failed")
            return
        started = time.monotonic()
        errors = tempfile.TemporaryFile()  # noqa: SIM115
        with errors:
            done = subprocess.run(
                [sys.executable, "-m", "adapters_xtl", *flags],
                env=self.env,
                stdout=subprocess.PIPE,
                stderr=errors,
                check=False,
            )
            errors.seek(0)
            lines = errors.read().decode(errors="replace")
        seconds = round(time.monotonic() - started, 1)
        if done.returncode:
            self.note(
                name, flags, seconds=seconds, error=f"exit code {done.returncode}: {_end(lines)}"
            )
            return
        answer = json.loads(done.stdout)
        self.paths.setdefault(name, answer["path"])
        cost = answer["metrics"].get("train") or {}
        lacking = f"did not say '{expected}'" if expected and expected not in lines else None
        self.note(
            name,
            flags,
            seconds=seconds,
            error=lacking,
            training_seconds=cost.get("seconds"),
            measured_peak_bytes=cost.get("measured_peak_bytes"),
        )

    def kill(self, name: str) -> None:
        """Starts a recipe and kills it when its second checkpoint appears: then one is complete."""
        flags, started = self.recipe(name), time.monotonic()
        assert flags is not None
        with tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "adapters_xtl", *flags],
                env=self.env,
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )
            pattern, seen = f"{RECIPES[name][0]}/*.partial/{WORK}/checkpoint-*", set()
            while process.poll() is None and time.monotonic() - started < WAIT and len(seen) < 2:
                seen |= {path.name for path in self.runs.glob(pattern)}
                time.sleep(0.01)
            running = process.poll() is None
            process.kill()
            process.wait()
            errors.seek(0)
            end = _end(errors.read().decode(errors="replace"))
        seconds = round(time.monotonic() - started, 1)
        ended = None if running else f"ended before it could be killed: {end}"
        self.note(f"{name}, killed", flags, seconds=seconds, error=ended)

    def note(self, name: str, flags: Sequence[str], **found: Any) -> None:
        shown = [str(flag).replace(str(self.runs.parent), "ASIDE") for flag in flags]
        shown = ["DIR" if flag == self.options.data != "embedded" else flag for flag in shown]
        self.done.append({"name": name, "command": " ".join(["xtl", *shown]), **found})
        print(json.dumps(self.done[-1]), file=sys.stderr, flush=True)
        record = {
            "kind": "gpu-smoke",
            "backbone": self.options.backbone,
            "device": self.options.device,
            "provenance": to_json(machine.describe()),
            "commands": self.done,
        }
        self.options.out.mkdir(parents=True, exist_ok=True)
        write_json(self.options.out / "smoke.json", record)

    def run(self, names: Sequence[str]) -> bool:
        """Whether every command did what it should."""
        for name in names:
            if name == KILLED:
                self.kill(name)
                self.take(name, self.recipe(name), "resuming from step")
                module = [self.paths[name]] if name in self.paths else None
                evaluated = module and [
                    *("evaluate", *module, "--data", self.options.data, "--languages", "en"),
                    *("--task", "xnli", "--device", self.options.device, "--json"),
                    *("--set", "eval.max_examples=16", "--runs", str(self.runs)),
                ]
                self.take(f"{name}, evaluated", evaluated)
            else:
                self.take(name, self.recipe(name))
        return not any(entry["error"] for entry in self.done)


def _end(text: str) -> str:
    return " | ".join(text.strip().splitlines()[-4:])[-600:]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", metavar="DIR", help='a mirror directory, or "embedded"')
    parser.add_argument("--backbone", default=tools.LARGE)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--only", default=",".join(RECIPES), help="some of the recipes")
    parser.add_argument("--out", type=Path, default=tools.RESULTS / "gpu")
    options = parser.parse_args(arguments)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    names = options.only.split(",")
    if wrong := [name for name in names if name not in RECIPES]:
        parser.error(f"--only: no '{wrong[0]}'; there are {', '.join(RECIPES)}")
    with tempfile.TemporaryDirectory() as aside:
        return int(not Smoke(options, Path(aside)).run(names))


if __name__ == "__main__":
    sys.exit(main())
