"""`xtl runs` as a process: the default command, exit codes, and commands that make runs again."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from adapters_xtl.cli import runs as flags
from adapters_xtl.cli.commands import recipe
from adapters_xtl.runs import run_filters
from adapters_xtl.runs.remake_command import remake_command
from adapters_xtl.runs.run_index import ListedRun, RunIndex, open_store
from tests.command_line import complaints, xtl, xtl_json
from tests.data.test_own_rows import reviews, write_jsonl
from tests.data.test_own_rows import xtl as xtl_here

SHORT = ["train.max_steps=2", "train.eval_every=2", "train.select_examples=4"]


def _train(task: str, on: str, runs: Path, **options: object) -> None:
    request = recipe.request(
        task=task,
        on=on,
        set_=[*SHORT, "eval.max_examples=4"] if task != "tatoeba" else [],
        set_parents=[*SHORT, "train.lr=2e-3"] if on not in ("", "random") else [],
        backbone="tiny",
        data="embedded",
        device="cpu",
        languages="de",
        runs=str(runs),
        **{"method": "lora", **options},
    )
    recipe.recipe(request, baseline=False, force=False, dry_run=False, notify=lambda text: None)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ListedRun]:
    """Real runs on `tiny`: stack of the module → run; evaluations as `task by stack`."""
    root = tmp_path_factory.mktemp("store") / "our runs"
    _train("xnli", "mnli,qqp", root, seed=3, from_layer=1)
    _train("xnli", "random", root)
    _train("xquad", "", root)
    _train("tatoeba", "", root)
    files = [
        write_jsonl(root.parent / f"{name}.en.jsonl", reviews(count))
        for name, count in (("train", 40), ("test", 8))
    ]
    named = ["--data-file", files[0], "--test-file", files[1], "--runs", root]
    columns = ["--text-columns", "review", "--label", "verdict"]
    short = [word for setting in SHORT for word in ("--set", setting)]
    xtl_here(
        "recipe", "classify", *named, *columns, "--backbone", "tiny", "--device", "cpu", *short
    )
    index = RunIndex.read(open_store(str(root)))
    return {
        (
            f"{run.task} by {run.spec.stack}" if run.spec.kind == "evaluation" else run.spec.stack
        ): run
        for run in index.runs
        if run.spec is not None
    }


def test_the_command_of_a_run_makes_it_again(trained: dict[str, ListedRun]) -> None:
    made_again = {}
    for name, run in trained.items():
        assert run.spec is not None
        root = str(run.path.parents[1])
        words = shlex.split(remake_command(run.spec, root))
        assert words[0] == "xtl" and words[-2:] == ["--runs", root]
        if name == "random":
            assert words[words.index("--on") + 1] == "random"
            continue
        dry = ["--dry-run"] if words[1] == "recipe" else []
        answer = xtl_here(*words[1:], *dry)
        made_again[name] = answer["id"] == run.id and answer["reused"]
    names = {"mnli", "mnli>qqp", "mnli>qqp>xnli", "random>xnli", "squad1"}
    (own_rows,) = made_again.keys() - {*names, "xquad by squad1", "tatoeba by "}
    assert own_rows.startswith("classify") and made_again.pop(own_rows)
    assert made_again == dict.fromkeys({*names, "xquad by squad1", "tatoeba by "}, True)


def test_a_parent_is_made_with_the_parents_settings(trained: dict[str, ListedRun]) -> None:
    run = trained["mnli>qqp"]
    assert run.spec is not None
    words = shlex.split(remake_command(run.spec))
    assert words[1:3] == ["recipe", "qqp"] and words[words.index("--on") + 1] == "mnli"
    settings = [words[place + 1] for place, word in enumerate(words) if word == "--set"]
    assert "train.lr=0.002" in settings and "eval.max_examples=4" not in settings
    assert "--runs" not in words and words[words.index("--seed") + 1] == "3"


def test_the_commands_answer_as_processes(trained: dict[str, ListedRun], tmp_path: Path) -> None:
    root = trained["squad1"].path.parents[1]
    listed = xtl("runs", "task=xnli", "on=mnli", "--runs", root)
    assert trained["mnli>qqp>xnli"].id in listed.stdout
    assert trained["random>xnli"].id not in listed.stdout
    answer = xtl_json("runs", "on=random", "--runs", root)
    assert [entry["id"] for entry in answer["runs"]] == [trained["random>xnli"].id]
    assert xtl_json("runs", XTL_RUNS=str(root)) == xtl_json("runs", "list", "--runs", root)

    shown = xtl("runs", "show", trained["squad1"].id[:6], "--runs", root).stdout
    (command,) = [line for line in shown.splitlines() if line.startswith("again: ")]
    assert shlex.split(command)[1:4] == ["xtl", "recipe", "squad1"], "one line, however long"

    refused = xtl("runs", "rm", trained["squad1"].id, "--runs", root, code=2)
    assert trained["xquad by squad1"].id in complaints(refused)[0]
    for arguments, words in {
        ("rmm", "x"): "did you mean 'rm'",
        ("task=xnly",): "did you mean 'xnli'",
        ("show", "0f"): "no run",
        ("gc", "--older-than", "soon"): "--older-than",
        ("gc", "--older-than", "-1"): "--older-than",
    }.items():
        (line,) = complaints(xtl("runs", *arguments, "--runs", root, code=2))
        assert words in line
    (line,) = complaints(xtl("runs", "--runs", tmp_path / "nowhere", code=2))
    assert "no such directory" in line

    assert xtl_json("runs", "--runs", root, "check")["damaged"] == []
    log = trained["random>xnli"].path / "train_log.jsonl"
    written = log.read_bytes()
    try:
        log.write_bytes(written[:-1])
        done = xtl("runs", "check", "--runs", root, "--json", code=1)
        (damaged,) = json.loads(done.stdout)["damaged"]
        assert damaged["problems"][0].startswith("train_log.jsonl: sha256")
    finally:
        log.write_bytes(written)


def test_the_help_names_every_key_of_a_filter() -> None:
    assert set(flags.KEYS) == set(run_filters.KEYS)
    text = xtl("runs", "--help").stdout
    assert all(f" {key}" in text for key in flags.KEYS)
