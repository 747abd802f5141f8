"""What all tests share: no network but loopback, no files of the user, outside data where it is.

Tests that start processes or read the outside data are marked `slow`: `make test-fast` leaves them
out.
"""

from __future__ import annotations

import atexit
import gc
import os
import shutil
import signal
import socket
import sys
import tempfile
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis  # noqa: F401  (it asks the collector what refers to its random generators)
import pytest

from adapters_xtl.base.files import cache_dir

os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
os.environ.setdefault(
    "GOMP_SPINCOUNT", "10000"
)  # as the command line has it; read by OpenMP at load
if not os.environ.get("XTL_GPU"):  # on the CPU, whatever is here; `make test-gpu` is for the GPU
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
if "PYTEST_XDIST_WORKER" in os.environ:  # several at once: each keeps to a core of its own
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# started by `nohup` or in the background of a script, the runner ignores these, and so would every
# process that a test starts and signals
for _name in ("SIGHUP", "SIGINT", "SIGTERM"):
    _number = getattr(signal, _name, None)  # Windows has no SIGHUP
    if _number is None:
        continue
    if signal.getsignal(_number) is signal.SIG_IGN:
        _handler = signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL
        signal.signal(_number, _handler)

ROOT = Path(__file__).parent.parent
_imported = 0  # how many modules were imported when the collector last left them alone


def _use_a_cache_of_ones_own() -> None:
    """Points XTL_CACHE at a temporary directory, in which only the prepared encoder is the user's.

    Bundles that tests push and pull are noted in the cache by their digests, and later pushes of
    the user would name those places.
    """
    encoder = cache_dir() / "mini"
    encoder.mkdir(parents=True, exist_ok=True)
    home = Path(tempfile.mkdtemp(prefix="xtl-test-cache-"))
    (home / "mini").symlink_to(encoder)
    os.environ["XTL_CACHE"] = str(home)
    os.environ["XTL_TEST_RUNS"] = str(home / "finished-runs")  # see tests/finished_runs.py
    atexit.register(shutil.rmtree, home, ignore_errors=True)


if "XTL_TEST_CACHE" not in os.environ:  # the workers of one session inherit the first one's
    _use_a_cache_of_ones_own()
    os.environ["XTL_TEST_CACHE"] = "1"
STARTS_PROCESSES = {"subprocess", "multiprocessing"}
# these train real networks many times over, count every tensor of many trainings, or carry out
# studies, whose runs are processes
SLOW_PLACES = {
    ROOT / "tests" / name
    for name in (
        "engines",
        "examples",
        "export/test_merged_models.py",
        "export/test_onnx_models.py",
        "grid/test_compare.py",
        "grid/test_compare_failures.py",
        "memory",
        "methods/test_one_id_one_result.py",
        "models/test_stacks.py",
        "pages/test_page.py",
        "runs/test_kills.py",
        "sharing/test_hub.py",
        "studies/test_representation_runs.py",
        "studies/test_few_shot.py",
        "studies/test_source_language.py",
        "studies/test_transfer.py",
        "tasks/test_every_task.py",
        "test_dropped_in.py",
        "test_modules.py",
        "test_pipeline.py",
        "training/test_fit.py",
        "training/test_optimizer.py",
        "training/test_out_of_memory.py",
        "training/test_techniques.py",
    )
}


def shared_dir() -> Path:
    """The outside test data: $XTL_SHARED, by default ../shared."""
    return Path(os.environ.get("XTL_SHARED") or ROOT.parent / "shared")


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A test that reaches beyond loopback fails, and says where it wanted to go."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        host = address[0] if isinstance(address, tuple) else str(address)
        if self.family in (socket.AF_INET, socket.AF_INET6) and host not in (
            "127.0.0.1",
            "::1",
            "localhost",
        ):
            raise RuntimeError(f"a test wanted the network: {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
    yield


@pytest.fixture(scope="module", autouse=True)
def _frozen_imports() -> None:
    """Takes what the libraries hold out of the garbage collector's sight: every training collects
    garbage, which costs a third of a second with them.
    """
    global _imported
    if len(sys.modules) > _imported + 200:
        gc.collect()
        gc.freeze()
        _imported = len(sys.modules)


@pytest.fixture(scope="session")
def mirror() -> Path:
    """The mirror of real data; tests that use it are skipped, saying so, where it is not there."""
    path = shared_dir() / "mirror"
    if not path.is_dir():
        pytest.skip(
            f"the outside data is not at {path} (set XTL_SHARED): tests on real rows are skipped"
        )
    return path


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks as `slow` every test that starts processes (itself, or in a helper or fixture of it),
    that reads the outside data, which are large, or that lies in one of SLOW_PLACES.
    """
    known: dict[types.CodeType, bool] = {}
    for item in items:
        if not isinstance(item, pytest.Function):
            continue
        definitions = item._fixtureinfo.name2fixturedefs.values()  # type: ignore[attr-defined]
        functions = [item.function, *(each.func for found in definitions for each in found)]
        if (
            not SLOW_PLACES.isdisjoint((item.path, item.path.parent))
            or "mirror" in item.fixturenames
            or any(starts_processes(function, known) for function in functions)
        ):
            item.add_marker("slow")


def starts_processes(function: Callable[..., Any], known: dict[types.CodeType, bool]) -> bool:
    """Whether a test function, or one of the tests' own functions that it calls, uses `subprocess`
    or `multiprocessing`.
    """
    function = getattr(function, "__wrapped__", function)
    code = getattr(function, "__code__", None)
    if code is None:
        return False
    if code in known:
        return known[code]
    known[code] = False  # while it is looked into: functions may call each other
    for name in _global_names(code):
        value = function.__globals__.get(name)
        if isinstance(value, types.ModuleType):
            known[code] = known[code] or value.__name__ in STARTS_PROCESSES
        elif isinstance(value, types.FunctionType) and value.__module__.startswith("tests"):
            known[code] = known[code] or starts_processes(value, known)
        elif isinstance(value, type) and value.__module__.startswith("tests"):
            methods = filter(callable, vars(value).values())
            known[code] = known[code] or any(starts_processes(each, known) for each in methods)
        elif type(value).__module__.startswith("multiprocessing"):
            known[code] = True
    return known[code]


def _global_names(code: types.CodeType) -> set[str]:
    """Names that a function uses, those in functions inside it included."""
    inner = (const for const in code.co_consts if isinstance(const, types.CodeType))
    return set(code.co_names).union(*map(_global_names, inner))
