"""What only a GPU can show, as one command: each step's JSON goes to benchmarks/results/gpu/.

    make gpu DATA=DIR                  DIR: a mirror directory, or "embedded"
    .venv/bin/python benchmarks/gpu.py DIR --steps smoke,train

A machine with a stack of its own (another Python, a newer transformers) needs the pinned libraries
beside the checkout; a pack holds them, the tokenizer and the rows, below 64 MiB:

    .venv/bin/python benchmarks/gpu.py DIR --pack build/gpu                  here; fetches wheels
    PYTHONPATH=.:build/gpu/site python3 benchmarks/gpu.py build/gpu/rows --tokenizer \
build/gpu/tokenizer                                                          there

Steps, in this order, each with a limit of its own, all of them within --seconds (14 minutes). What
a step had written when its time was up stays, and the next one begins.

    smoke     every kind of training at XLM-R Large's true size (gpu_smoke.py)
    tests     `make test-gpu`
    goals     gpu_memory.py, the cases of the memory goals
    memory    gpu_memory.py, as many of the other cases as fit
    train     train_speed.py --device cuda on XLM-R Large's size
    score     score_speed.py --device cuda
    encode    encode_speed.py --device cuda

`steps.json` says how each ended, with the card's name. `--on-cpu` runs the same on `tiny` with few
rows, to see that the scripts work.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "gpu"
# of constraints.txt: what such a machine lacks, or has in versions that do not fit each other
PACKED = (
    *("transformers", "tokenizers", "huggingface_hub", "adapters", "datasets", "evaluate", "dill"),
    *("multiprocess", "peft", "accelerate", "typer", "rich", "jinja2", "markdown-it-py", "mdurl"),
    *("shellingham", "pygments", "annotated-doc", "filelock", "xxhash", "hf-xet"),
)
KERNELS = ("bitsandbytes", "libbitsandbytes_cuda130")  # of its libraries only the one for CUDA 13
ROWS = (
    *("nyu-mll/multi_nli", "rajpurkar/squad", "google/xtreme/PAN-X.*", "google/xtreme/tatoeba.*"),
    "google/xtreme/XNLI",
)


@dataclass(frozen=True)
class Step:
    """A script with its arguments, and the seconds that it may take."""

    name: str
    command: tuple[str, ...]
    seconds: float


def steps(data: str, out: Path, on_cpu: bool) -> list[Step]:
    """The steps in order."""
    device, large = ("cpu", "tiny") if on_cpu else ("cuda", "xlmr-large-random")
    common = ("--device", device, "--backbone", large, "--out", str(out))
    few = ("--rows", "40", "--dev-rows", "20") if on_cpu else ()
    memory = ("--out", str(out), *(("--smoke",) if on_cpu else ()))
    rows = ("--rows", "4", "--languages", "3", "--train-rows", "32") if on_cpu else ()
    theirs = importlib.util.find_spec("sentence_transformers") is not None
    only = () if theirs else ("--only", "ours")
    # each contender is a process that loads the encoder: what fits into its seconds
    chosen = ("--works", "tags-lora" if on_cpu else "pairs-lora,tags-lora,tags-bottleneck")
    chosen += ("--only", "stock,tuned,no-techniques,+lora,+compiled,all")
    return [
        Step("smoke", ("gpu_smoke", data, *common), 300),
        Step("tests", ("pytest",), 120),
        Step("goals", ("gpu_memory", "--only", "goal", *memory), 90),
        Step("memory", ("gpu_memory", "--seconds", "0" if on_cpu else "110", *memory), 150),
        Step(
            "train",
            ("train_speed", data, *common, *chosen, "--rounds", "1", *few),
            240,
        ),
        Step("score", ("score_speed", data, *common, "--rounds", "1", *rows), 90),
        Step("encode", ("encode_speed", data, *common, "--rounds", "1", *only), 60),
    ]


def command_of(step: Step) -> list[str]:
    if step.command == ("pytest",):
        # the stack's own warnings are not ours to raise
        flags = ["-o", "filterwarnings=default", "-p", "no:cacheprovider", "-q"]
        return [sys.executable, "-m", "pytest", str(ROOT / "tests" / "gpu"), *flags]
    name, *arguments = step.command
    return [sys.executable, "-m", f"benchmarks.{name}", *arguments]


def environment(tokenizer: str) -> dict[str, str]:
    """For every step: the checkout on the path, no hub, the GPU's tests on."""
    variables = dict(os.environ)
    variables["PYTHONPATH"] = os.pathsep.join(
        [str(ROOT), *filter(None, [variables.get("PYTHONPATH")])]
    )
    variables |= {"HF_HUB_OFFLINE": "1", "XTL_GPU": "1"}
    if tokenizer:
        variables["XTL_TOKENIZER"] = str(Path(tokenizer).resolve())
    return variables


def take(step: Step, limit: float, env: dict[str, str]) -> dict[str, Any]:
    """Runs a step; how it ended. What it says goes to stderr, its last lines to the record."""
    started, lines = time.monotonic(), ""
    try:
        done = subprocess.run(
            command_of(step),
            env=env,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=limit,
            check=False,
        )
        code: int | str = done.returncode
        lines = done.stdout.decode(errors="replace")
    except subprocess.TimeoutExpired as error:
        code, lines = "out of time", (error.stdout or b"").decode(errors="replace")
    sys.stderr.write(lines)
    return {
        "name": step.name,
        "exit_code": code,
        "seconds": round(time.monotonic() - started, 1),
        "end": lines.strip().splitlines()[-12:],
    }


def card() -> str:
    """The card's name; "" where there is none."""
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip().splitlines()[0] if done.stdout.strip() else ""


# ---------------------------------------------------------------------- the pack


def pinned(names: Sequence[str]) -> list[str]:
    """`name==version` of each, as constraints.txt has it. ValueError for one that it lacks."""
    versions = dict(
        line.strip().split("==")
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line and not line.startswith("#")
    )
    plain = {_plain(name): version for name, version in versions.items()}
    if lacking := [name for name in names if _plain(name) not in plain]:
        raise ValueError(f"constraints.txt has no {lacking[0]}")
    return [f"{name}=={plain[_plain(name)]}" for name in names]


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def unpack(wheels: Path, site: Path) -> None:
    """Every wheel's files, of bitsandbytes' libraries only the one for KERNELS."""
    package, kept = KERNELS
    for wheel in sorted(wheels.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                library = name.startswith(f"{package}/") and name.endswith((".so", ".dll"))
                if not library or Path(name).name.startswith(kept):
                    archive.extract(name, site)


def pack(data: str, folder: Path, python: str) -> int:
    """Writes wheels' contents, tokenizer and rows below `folder`; the bytes of all of it."""
    from adapters_xtl.backbones import embedded, registry

    wheels = folder / "wheels"
    download = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    download += ["--platform", "manylinux2014_x86_64", "--platform", "manylinux_2_28_x86_64"]
    download += ["--python-version", python, "--dest", str(wheels)]
    subprocess.run([*download, *pinned([*PACKED, KERNELS[0]])], check=True)
    unpack(wheels, folder / "site")
    shutil.rmtree(wheels)
    tokenizer = folder / "tokenizer"
    tokenizer.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", *registry.tokenizer_files(embedded.prepare())):
        shutil.copy(embedded.prepare() / name, tokenizer)
    if data != "embedded":
        for pattern in ROWS:
            for path in sorted(Path(data).glob(pattern)):
                into = folder / "rows" / path.relative_to(data)
                shutil.copytree(path, into, dirs_exist_ok=True)
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", metavar="DIR", help='a mirror directory, or "embedded"')
    parser.add_argument("--steps", default="", help="some of the steps")
    parser.add_argument("--seconds", type=float, default=840, help="for all of them")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--tokenizer", default="", help="a directory with XLM-R's tokenizer")
    parser.add_argument("--pack", type=Path, help="write what another machine needs; run nothing")
    parser.add_argument("--python", default="3.12", help="the other machine's, for --pack")
    parser.add_argument("--on-cpu", action="store_true", help="a smoke test of the scripts")
    options = parser.parse_args(arguments)
    if options.pack:
        print(f"{options.pack}: {pack(options.data, options.pack, options.python):,} bytes")
        return 0
    name = card()
    if not name and not options.on_cpu:
        print(
            "gpu.py needs a CUDA device and found none (--on-cpu tries its code)", file=sys.stderr
        )
        return 2
    every = steps(options.data, options.out.resolve(), options.on_cpu)
    chosen = options.steps.split(",") if options.steps else [step.name for step in every]
    if wrong := [
        step_name for step_name in chosen if step_name not in [step.name for step in every]
    ]:
        parser.error(f"--steps: no '{wrong[0]}'; there are {', '.join(s.name for s in every)}")
    deadline, taken = time.monotonic() + options.seconds, []
    options.out.mkdir(parents=True, exist_ok=True)
    for step in every:
        left = deadline - time.monotonic()
        if step.name not in chosen:
            continue
        entry = {"name": step.name, "exit_code": "no time left", "seconds": 0.0, "end": []}
        if left > 5:
            entry = take(step, min(step.seconds, left), environment(options.tokenizer))
        taken.append(entry)
        record = {"kind": "gpu-steps", "card": name, "steps": taken}
        text = json.dumps(record, indent=1) + "\n"
        (options.out / "steps.json").write_text(text, encoding="utf-8")
        print(f"{step.name}: {entry['exit_code']} after {entry['seconds']} s", flush=True)
    return int(any(entry["exit_code"] != 0 for entry in taken))


if __name__ == "__main__":
    sys.exit(main())
