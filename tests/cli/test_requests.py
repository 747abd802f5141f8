"""Wrong requests: one clear line each, exit code 2, before any model is loaded, nothing
half-written.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.command_line import complaints, xtl, xtl_json

WRONG = [
    (["mlni"], "unknown task 'mlni'; did you mean 'mnli'?"),
    (["mnli", "--method", "botleneck"], "did you mean 'bottleneck'?"),
    (["mnli", "--backbone", "minni"], "did you mean 'mini'?"),
    (["xnli", "--languages", "de,zz"], "no language or set 'zz'"),
    (["mnli", "--compose", "stak"], "did you mean 'stack'?"),
    (["mnli", "--method", "lora", "--compose", "fuse"], "not possible for method lora"),
    (["mnli", "--bits", "7"], "--bits 7"),
    (["mnli", "--method", "full", "--bits", "8"], "have 32 bits while method full trains"),
    (["mnli", "--seed", "-1"], "--seed -1"),
    (["mnli", "--split", "test"], "--split test"),
    (["mnli", "--protocol", "cleen"], "--protocol cleen"),
    (["mnli", "--from-layer", "12"], "layers 0 to 11"),
    (["mnli", "--set", "train.lr=0"], "train.lr=0"),
    (["mnli", "--set", "train.epoch=1"], "did you mean 'epochs'?"),
    (["mnli", "--set", "train.tasks=mnli"], "for the task 'multi'"),
    (["multi", "--set", "train.tasks=mnli,skuad1"], "did you mean 'squad1'?"),
    (["mnli", "--set", "method.reduction_facter=2"], "did you mean 'reduction_factor'?"),
    (["mnli", "--set", "method.reduction_factor=many"], "reduction_factor"),
    (["mnli", "--method", "lora", "--set", "method.r=0"], "method.r"),
    (["mnli", "--method", "lora", "--set", "method.rank=4"], "no such option"),
    (["mnli", "--data", "no/such/dir"], "no such directory"),
    (["mnli", "--on", "tatoeba"], "trains nothing"),
    (["mnli", "--on", "mnly"], "did you mean 'mnli'?"),
    (["xnli", "--on", "mnli,random", "--compose", "init"], "'random' comes first"),
    (["tatoeba", "--set", "train.lr=0.1"], "trains nothing here"),
    (["tatoeba", "--set", "eval.max_example=3"], "did you mean 'eval.max_examples'?"),
    (["tatoeba", "--set", "eval.max_examples=-3"], "whole number from 0 on, not -3"),
    (["xnli", "--on", ",,"], "names separated by commas"),
    (["mnli", "--seeds", "1,01"], "different whole numbers"),
    (["mnli", "--seeds", "\u00b2"], "different whole numbers"),
    (["mnli", "--set", "train.max_length=513"], "mini reads at most 512 tokens"),
    (["mnli", "--backbone", "~no-such-user/x"], "~no-such-user/x: no path"),
    (["mnli", "--data", "~no-such-user/x"], "~no-such-user/x: no path"),
    (["xnli", "--on", "m" * 300], "no task, no run"),
    (["mnli", "--bits", "08"], "--bits 08"),
    (["mnli", "--bits", "\u0668"], "--bits \u0668"),
    (["mnli", "--seed", "\u0663"], "--seed \u0663: takes a whole number"),
    (["mnli", "--from-layer", "\u00b2"], "--from-layer \u00b2: takes a whole number"),
    (["mnli", "--memory", "nan"], "--memory nan: takes a number"),
    (["mnli", "--memory=-inf"], "--memory -inf: takes a number"),
    (["mnli", "--memory", "1e400"], "--memory 1e400: takes a number"),
    (["mnli", "--seed", "3", "--seeds", "1,2"], "--seed 3: --seeds names the seeds"),
    (["mnli", "--set", "train.max_steps=1e400"], "train.max_steps takes a whole number"),
    (["mnli", "--method", "full", "--on", "random"], "--on random: not possible for method full"),
    (["mnli", "--set", "train.stride=64"], "train.stride: means nothing for mnli"),
    (["mnli", "--set", "train.token_budget=9999"], "train.token_budget=9999: changes nothing"),
    (["panx", "--set", "train.last_layer=first"], "the head of panx reads every token"),
    (
        ["mnli", "--set", "train.last_layer=first", "--set", "method.use_gating=true"],
        "train.last_layer=first: a gate (method.use_gating) is a mean over all tokens",
    ),
    (["mnli", "--set", "train.parallel_passes=0"], "train.parallel_passes"),
    (
        ["mnli", "--set", "train.parallel_passes=4", "--set", "train.dropout_masks=torch"],
        "train.parallel_passes=4: only with train.dropout_masks=bytes",
    ),
    (["mnli", "--method", "full", "--set", "train.parallel_passes=2"], "not for method full"),
    (["mnli", "--bits", "8", "--set", "train.parallel_passes=2"], "not on layers of 8 bits"),
    (["mnli", "--set", "train.cap=64"], "train.cap: means nothing for mnli"),
    (["xnli", "--on", "mnli", "--set-parents", "train.stride=9"], "means nothing for mnli"),
    (["xnli", "--on", "mnli", "--set-parents", "eval.merged=true"], "use --set"),
    (["xnli", "--languages", "xtreme,de"], "the set 'xtreme' stands alone"),
    (["mnli", "--device", "cuda"], "--device cuda: no CUDA device is here"),
    (["mnli", "--protocol", "x" * 5000], "5,000 characters"),
    (["mnli", "--protocol", "\udcff"], "takes clean or xtreme"),
    (["multi", "--set", "train.tasks=\udcff"], "cannot be trained"),
]


@pytest.mark.parametrize(
    ("arguments", "message"),
    WRONG,
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_request_costs_one_line(arguments: list[str], message: str, runs: Path) -> None:
    done = xtl("recipe", *arguments, "--runs", runs, code=2)
    lines = complaints(done)
    assert len(lines) == 1 and message in lines[0], done.stderr
    assert not runs.exists() or not [path for path in runs.rglob("*") if path.is_file()]


def test_all_that_is_wrong_is_said_at_once(runs: Path) -> None:
    done = xtl(
        "recipe",
        "xnli",
        "--languages",
        "zz",
        "--set",
        "train.lr=5",
        "--set",
        "train.epoch=1",
        "--bits",
        "3",
        "--seed",
        "-4",
        "--runs",
        runs,
        code=2,
    )
    assert len(complaints(done)) == 5
    done = xtl(
        "recipe", "xnli", "--set", "nonsense", "--on", "mnly", "--bits", "3", "--runs", runs, code=2
    )
    said = complaints(done)
    for word in ("expected key=value", "did you mean 'mnli'?", "--bits 3"):
        assert any(word in line for line in said), said
    assert len(said) == 3


def test_a_runs_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = xtl("recipe", "mnli", "--runs", tmp_path / "file", code=2)
    assert "not a directory" in complaints(done)[0]


def test_a_backbone_directory_that_is_no_checkpoint(tmp_path: Path, runs: Path) -> None:
    (tmp_path / "model").mkdir()
    done = xtl("recipe", "mnli", "--backbone", tmp_path / "model", "--runs", runs, code=2)
    assert "config.json" in complaints(done)[0]


def test_dry_run_names_the_run_and_writes_nothing(runs: Path) -> None:
    started = time.monotonic()
    planned = xtl_json(
        "recipe", "xnli", "--on", "mnli", "--memory", "1e300", "--runs", runs, "--dry-run"
    )
    assert time.monotonic() - started < 20
    assert [run["task"] for run in planned["runs"]] == ["mnli", "xnli"]
    assert (
        planned["runs"][1]["parents"] == [planned["runs"][0]["id"]]
        and planned["id"] == planned["runs"][1]["id"]
    )
    assert not list(runs.rglob("*")) if runs.exists() else True


def test_dry_run_names_the_baseline_too(runs: Path) -> None:
    planned = xtl_json("recipe", "xnli", "--on", "mnli", "--baseline", "--runs", runs, "--dry-run")
    assert [run["task"] for run in planned["baseline"]["runs"]] == ["xnli"]
    assert (
        planned["baseline"]["runs"][0]["parents"] == []
        and planned["baseline"]["id"] != planned["id"]
    )
    done = xtl(
        "recipe",
        "xnli",
        "--baseline",
        "--set-parents",
        "train.lr=1e-3",
        "--runs",
        runs,
        "--dry-run",
    )
    assert (
        "--baseline means nothing here" in done.stderr
        and "--set-parents means nothing here" in done.stderr
    )


@pytest.mark.parametrize(
    ("arguments", "idle"),
    [
        (["tatoeba", "--seed", "2"], "--seed means nothing"),
        (["tatoeba", "--memory", "3"], "--memory means nothing"),
        (["mnli", "--force"], "--force means nothing"),
        (["tatoeba", "--from-layer", "1"], "--from-layer means nothing"),
        (["mnli", "--method", "full", "--from-layer", "1"], "full trains every layer"),
        (["xquad", "--on", "squad1", "--compose", "init"], "--compose means nothing"),
        (["xquad", "--on", "squad1", "--baseline"], "without parents it is the same run"),
        (["mnli", "--allow-mismatch"], "--allow-mismatch means nothing"),
        (["mnli", "--set", "train.max_steps=9", "--set", "train.epochs=9"], "train.epochs means"),
        (["mnli", "--set", "train.max_steps=9", "--set", "train.eval_every=10"], "eval_every=10"),
        (["qqp", "--set", "train.patience=20"], "never stops early"),
        (["xnli", "--on", "random", "--set-parents", "train.lr=0.1"], "--set-parents means"),
    ],
)
def test_what_has_no_effect_is_said(arguments: list[str], idle: str, runs: Path) -> None:
    done = xtl("recipe", *arguments, "--backbone", "tiny", "--runs", runs, "--dry-run")
    assert idle in done.stderr


def test_seed_and_options_change_the_id_and_languages_do_not(runs: Path) -> None:
    def planned(*arguments: str) -> str:
        return str(xtl_json("recipe", "xnli", "--runs", runs, "--dry-run", *arguments)["id"])

    plain = planned()
    assert (
        planned("--languages", "de") == plain
        and planned("--set", "method.reduction_factor=4") == plain
    )
    assert (
        len(
            {
                plain,
                planned("--seed", "2"),
                planned("--set", "method.reduction_factor=8"),
                planned("--method", "lora"),
                planned("--from-layer", "6"),
                planned("--set", "train.lr=3e-3"),
                planned("--bits", "8"),
            }
        )
        == 7
    )
