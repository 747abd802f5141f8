"""What all tests share: no network but loopback, the outside data where it is, fixed seeds."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
os.environ.setdefault(
    "GOMP_SPINCOUNT", "10000"
)  # as the command line has it; OpenMP reads it when it is loaded
if not os.environ.get("XTL_GPU"):  # on the CPU, whatever is here; `make test-gpu` is for the GPU
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
if "PYTEST_XDIST_WORKER" in os.environ:  # several at once: each keeps to a core of its own
    os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).parent.parent


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
