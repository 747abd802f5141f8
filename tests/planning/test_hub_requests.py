"""A process asks the hub once for what a repository holds, however many runs it plans."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from adapters_xtl.cli.commands import compare as commands
from tests.data.test_hub_source import HubServer, _xtl, hub, root  # noqa: F401

REPOSITORY = "/api/datasets/nyu-mll/multi_nli"


def _listings(server: HubServer) -> Counter[str]:
    """Requests for the data set's commit and for its files, by kind."""
    paths = [sent.path for sent in server.log if sent.path.startswith(REPOSITORY)]
    return Counter("files" if "/tree/" in path else "commit" for path in paths)


def test_many_plans_ask_once(hub: HubServer, tmp_path: Path) -> None:  # noqa: F811
    comparison = commands.comparison(
        task="mnli",
        on=["none"],
        methods_="bottleneck,lora,full",
        bits="auto",
        seeds="1,2,3",
        tune=["lr=1e-4,3e-4"],
        tune_seeds="",
        set_=["train.max_steps=1"],
        set_parents=[],
        backbone="tiny",
        data="hub",
        device="cpu",
        languages="en",
        runs=str(tmp_path / "runs"),
    )
    payload, _ = commands.compare(
        comparison, command="", out=None, dry_run=True, notify=lambda text: None
    )
    assert len(payload["runs"]) > 6
    assert _listings(hub) == {"commit": 1, "files": 1}


def test_a_comparison_asks_once_a_process(root: Path, tmp_path: Path) -> None:  # noqa: F811
    """The command itself, and the one process that carries out its two runs."""
    settings = ("train.max_steps=1", "train.select_examples=4", "eval.max_examples=4")
    flags = [word for setting in settings for word in ("--set", setting)]
    flags += ["--methods", "bottleneck", "--seeds", "1,2", "--languages", "en", "--data", "hub"]
    flags += ["--backbone", "tiny", "--device", "cpu", "--runs", str(tmp_path / "runs")]
    with HubServer(root) as server:
        done = _xtl(server, tmp_path, "compare", "mnli", *flags)
        assert done.returncode == 0, done.stderr[-2000:]
        assert _listings(server) == {"commit": 2, "files": 2}
