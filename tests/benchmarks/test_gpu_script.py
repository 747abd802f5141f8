"""`benchmarks/gpu.py`: its steps, its pack, its answer where there is no device."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path

import pytest

from benchmarks import gpu, train_speed


def test_the_steps_fit_the_time_and_say_what_they_run(tmp_path: Path) -> None:
    every = gpu.steps("DIR", tmp_path, on_cpu=False)
    assert [step.name for step in every[:2]] == ["smoke", "tests"]
    assert all(step.seconds <= 300 for step in every)
    (train,) = (step for step in every if step.name == "train")
    given = train_speed.parse(train.command[1:])
    assert (given.device, given.backbone) == ("cuda", "xlmr-large-random")
    for step in every:
        command = gpu.command_of(step)
        module = command[2].replace("benchmarks.", "")
        assert module == "pytest" or (gpu.ROOT / "benchmarks" / f"{module}.py").is_file()


def test_a_step_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    program = "import sys, time; print('begun'); time.sleep(float(sys.argv[1])); sys.exit(3)"
    monkeypatch.setattr(gpu, "command_of", lambda step: [sys.executable, "-c", program, step.name])
    found = gpu.take(gpu.Step("30", (), 9), 0.2, gpu.environment(""))
    assert found["exit_code"] == "out of time" and found["seconds"] < 20
    found = gpu.take(gpu.Step("0", (), 9), 60, gpu.environment(""))
    assert (found["exit_code"], found["end"]) == (3, ["begun"])


def test_without_a_device_nothing_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "card", lambda: "")
    assert gpu.main(["embedded", "--out", str(tmp_path / "gpu")]) == 2
    assert "CUDA" in capsys.readouterr().err and not (tmp_path / "gpu").exists()
    monkeypatch.setattr(
        gpu,
        "take",
        lambda step, limit, env: {"name": step.name, "exit_code": 0, "seconds": 9.0, "end": []},
    )
    monkeypatch.setattr(gpu, "card", lambda: "a card")
    given = ["embedded", "--out", str(tmp_path / "gpu"), "--steps", "smoke,encode"]
    assert gpu.main(given) == 0
    record = json.loads((tmp_path / "gpu" / "steps.json").read_text())
    assert record["card"] == "a card"
    assert [step["name"] for step in record["steps"]] == ["smoke", "encode"]


def test_the_pack_has_pinned_versions_and_one_kernel_library(tmp_path: Path) -> None:
    pinned = gpu.pinned([*gpu.PACKED, gpu.KERNELS[0]])
    assert "transformers==4.57.6" in pinned and len(pinned) == len(gpu.PACKED) + 1
    with pytest.raises(ValueError, match="nothing-of-ours"):
        gpu.pinned(["nothing-of-ours"])
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    names = [f"bitsandbytes/libbitsandbytes_{kind}.so" for kind in ("cpu", "cuda128", "cuda130")]
    with zipfile.ZipFile(wheels / "bitsandbytes-0-py3-none-any.whl", "w") as wheel:
        for name in (*names, "bitsandbytes/__init__.py", "bitsandbytes-0.dist-info/METADATA"):
            wheel.writestr(name, "")
    with zipfile.ZipFile(wheels / "tokenizers-0-cp39-abi3-any.whl", "w") as wheel:
        wheel.writestr("tokenizers/tokenizers.abi3.so", "")
    gpu.unpack(wheels, tmp_path / "site")
    site = tmp_path / "site"
    kept = {path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file()}
    assert kept == {
        "bitsandbytes-0.dist-info/METADATA",
        "bitsandbytes/__init__.py",
        "bitsandbytes/libbitsandbytes_cuda130.so",
        "tokenizers/tokenizers.abi3.so",
    }
