"""What is done with a trained module: scored, asked, exported; from the command line and from
Python.
"""

from __future__ import annotations

import doctest
import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import adapters_xtl as xtl
from adapters_xtl import formats, predictor, tasks
from adapters_xtl.backbones import embedded
from adapters_xtl.base.errors import DataError, RequestError
from adapters_xtl.base.files import read_json
from adapters_xtl.cli.commands import recipe as commands
from adapters_xtl.cli.commands.evaluate import evaluate
from adapters_xtl.cli.commands.score import score
from adapters_xtl.data.locate import locate_report
from adapters_xtl.data.reading import Reader, read_report
from adapters_xtl.data.sources import open_source
from adapters_xtl.evaluation import predict, retrieval, scoring, xtreme_export
from adapters_xtl.evaluation.inputs import example_of
from adapters_xtl.metrics.xtreme import official_files
from adapters_xtl.runs.request import Request
from tests.command_line import complaints, xtl_json
from tests.command_line import xtl as command
from tests.finished_runs import finished_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def trained(runs: Path) -> dict[str, str]:
    """Task → directory of a run that trained three steps on the tiny backbone."""
    settings = ("train.max_steps=3", "train.select_examples=20")
    return {
        task: finished_run(runs, task, set_=settings, languages="en")["path"]
        for task in ("mnli", "squad1", "panx", "hellaswag", "pawsx")
    }


def scored(
    module: str, runs: Path, *, layer: str = "", out: Path | None = None, **options: Any
) -> dict[str, Any]:
    settings = {"task": "", "set_": (), **options}
    asked = commands.request(on="", set_parents=(), runs=str(runs), device="cpu", **settings)
    return evaluate(
        asked,
        module,
        layer=layer,
        export=("xtreme", str(out)) if out else None,
        force=False,
        notify=lambda text: None,
    )[0]


def test_a_module_is_scored_on_its_own_and_on_related_tasks(
    trained: dict[str, str], runs: Path
) -> None:
    own = scored(trained["pawsx"], runs, languages="en")
    assert own["reused"] and own["path"] == trained["pawsx"], "its own scores are its run's"
    found = scored(trained["mnli"], runs, task="xnli", languages="de,zh")["metrics"]["tasks"][
        "xnli"
    ]
    assert set(found["languages"]) == {"de", "zh"} and found["languages"]["de"]["n"] == 120
    assert (
        scored(trained["squad1"], runs, task="xquad")["metrics"]["tasks"]["xquad"]["metric"] == "f1"
    )
    with pytest.raises(RequestError, match=r"'panx'.*xtl recipe panx"):
        scored(trained["mnli"], runs, task="panx")
    with pytest.raises(RequestError, match="retrieval"):
        scored(trained["mnli"], runs, layer="3")


def test_scores_come_again_from_predictions_alone(trained: dict[str, str], runs: Path) -> None:
    for path in trained.values():
        payload, _ = score(path, str(runs))
        assert payload["equal"] and payload["metrics"] == read_json(Path(path) / "metrics.json")
    tatoeba = scored(trained["mnli"], runs, task="tatoeba", languages="de")
    assert score(tatoeba["id"], str(runs))[0]["metrics"] == tatoeba["metrics"]


def test_every_layer_is_scored_and_embeddings_are_kept(
    trained: dict[str, str], runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _cache(tmp_path, monkeypatch)
    found = scored(trained["mnli"], runs, task="tatoeba", languages="de,hi", layer="all")[
        "metrics"
    ]["tasks"]["tatoeba"]
    assert (
        list(found["layers"]) == ["0", "1", "2", "3", "4"] and found["layer"] == 2
    )  # round(14/24 · 4)
    assert found["layers"]["2"] == {
        code: found["languages"][code]["accuracy"] for code in ("de", "hi")
    }
    ruled = scored(trained["mnli"], runs, task="tatoeba", languages="de,hi")
    assert ruled["metrics"]["tasks"]["tatoeba"]["languages"] == found["languages"]
    deeper = scored(trained["mnli"], runs, task="tatoeba", languages="de,hi", layer="4")
    assert deeper["id"] != ruled["id"]
    score = {
        code: scores["accuracy"]
        for code, scores in deeper["metrics"]["tasks"]["tatoeba"]["languages"].items()
    }
    assert score == found["layers"]["4"]
    kept = list((tmp_path / "cache" / "embeddings").rglob("*.npy"))
    assert len(kept) == 6  # two languages, three requests
    asked = Request(task="tatoeba", languages="de,hi", runs=str(runs), device="cpu")
    again, _ = evaluate(
        asked, trained["mnli"], layer="", export=None, force=True, notify=lambda text: None
    )
    assert again["metrics"] == ruled["metrics"]
    cost = read_json(Path(again["path"]) / "provenance.json")["inference"]["tatoeba"]
    assert all(each["from_cache"] for each in cost.values()) and cost["de"]["inputs"] == 80


def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of one's own that has the embedded encoder and nothing else."""
    built = embedded.prepare(lambda text: None).parent
    monkeypatch.setenv("XTL_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "mini").symlink_to(built)


def test_python_loads_a_module_and_asks_it(trained: dict[str, str], runs: Path) -> None:
    failed, tried = doctest.testmod(predictor, extraglobs={"run": trained["mnli"]})
    assert tried >= 4 and not failed
    nli, qa, ner = (xtl.load(trained[task], device="cpu") for task in ("mnli", "squad1", "panx"))
    context = "The old lighthouse was built in 1871 by two brothers from Cork."
    answer = qa.predict([{"question": "When was it built?", "context": context}])[0]
    assert context[answer["start"] : answer["end"]] == answer["prediction"]
    tagged = ner.predict([["Maria", "lives", "in", "Lagos", "."]])[0]
    assert len(tagged["prediction"]) == 5 and set(tagged["prediction"]) <= set(ner.labels)
    rows, _ = read_report(
        Reader(),
        tasks.load("mnli"),
        locate_report(open_source("embedded"), tasks.load("mnli"), "validation", ["en"])[0],
    )
    given = [
        {"premise": each["text"], "hypothesis": each["pair"], "id": each["id"]}
        for each in rows["en"].examples
    ]
    lines = (
        (Path(trained["mnli"]) / "predictions/mnli/en.jsonl")
        .read_text(encoding="utf-8")
        .splitlines()
    )
    recorded = {each["id"]: each["probabilities"] for each in map(json.loads, lines)}
    assert {each["id"]: each["probabilities"] for each in nli.predict(given)} == recorded, (
        "as its own run predicted"
    )
    with pytest.raises(DataError, match="input 1: no pair"):
        nli.predict([("a text", "another"), "one text"])
    with pytest.raises(RequestError, match="no head for 'udpos'"):
        xtl.load(trained["mnli"], task="udpos")


def test_predictors_of_one_backbone_answer_several_threads(trained: dict[str, str]) -> None:
    """Embedding computes the lower layers alone, and each predictor puts its own module on."""
    nli, ner = (xtl.load(trained[task], device="cpu") for task in ("mnli", "panx"))
    pairs = [("The train was cancelled.", f"Train {number} went.") for number in range(8)]
    sentences = [f"Train {number} went to Lyon." for number in range(8)]
    calls: list[Callable[[], Any]] = [
        lambda: [list(row["probabilities"].values()) for row in nli.predict(pairs)],
        lambda: nli.embed(sentences, layer=1),
        lambda: ner.embed(sentences, layer=2),
    ]
    alone = [call() for call in calls]
    with ThreadPoolExecutor(len(calls)) as threads:
        for _ in range(5):
            for expected, computed in zip(
                alone, threads.map(lambda call: call(), calls), strict=True
            ):
                np.testing.assert_allclose(computed, expected, atol=1e-5)


def test_lines_are_answered_as_they_come(trained: dict[str, str], tmp_path: Path) -> None:
    good = [
        {"text": f"There are {n} boats in the harbour.", "pair": "It is empty.", "id": f"b{n}"}
        for n in range(300)
    ]
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    bad = [
        '{"text": "no pair"}',
        "not json",
        '{"text": "", "pair": "x"}',
        '{"text": 3, "pair": "x"}',
    ]
    lines = [json.dumps(each) for each in good]
    source.write_text("\n".join([*lines[:280], *bad, "", *lines[280:]]) + "\n", encoding="utf-8")
    done = command("predict", trained["mnli"], source, "-o", out, code=2)
    said = complaints(done)
    for number, word in ((281, "no pair"), (282, "JSON"), (283, "empty"), (284, "no text but int")):
        assert any(f"line {number}: " in each and word in each for each in said), said
    assert not list(tmp_path.glob("*out*")), "nothing half-written"
    done = command("predict", trained["mnli"], source, "-o", out, "--skip-bad")
    answers = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [each["id"] for each in answers] == [each["id"] for each in good]
    assert answers[280]["line"] == 286 and "300 lines answered, 4 skipped" in done.stderr
    assert all(abs(sum(each["probabilities"].values()) - 1) < 1e-4 for each in answers)
    vectors = tmp_path / "v.npy"
    command("predict", trained["panx"], source, "-o", vectors, "--skip-bad")
    assert (
        np.load(vectors).shape == (301, 32) and np.load(vectors).dtype == np.float32
    )  # "no pair" is no trouble here


def test_odd_lines_and_odd_files(trained: dict[str, str], tmp_path: Path) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    lines = [
        b'\xef\xbb\xbf{"words": ["a\xe2\x80\xa8b", "\xc2\x85"]}\r',
        b"",
        b'{"words": ["\\ud800"]}',
        b'{"words": ["\xff"]}',
        b'{"words": ["c"], "id": "\\udc00"}',
        b"[" * 100_000,
        b'{"words": ["d", ""]}',
    ]
    source.write_bytes(b"\n".join(lines))
    out.symlink_to(tmp_path / "real.jsonl")
    done = command("predict", trained["panx"], source, "-o", out, "--skip-bad")
    said = [
        line.split(": ", 2)[2] for line in done.stderr.splitlines() if line.startswith("skipped")
    ]
    assert said == [
        "line 3: 'words' holds half a character (a lone surrogate)",
        "line 4: not in UTF-8",
        "line 5: 'id' holds half a character (a lone surrogate)",
        "line 6: not a line of JSON",
    ]
    answers = [
        json.loads(line)
        for line in (tmp_path / "real.jsonl").read_text(encoding="utf-8").split("\n")
        if line
    ]
    assert [each["words"] for each in answers] == [["a\u2028b", "\x85"], ["d", ""]] and answers[1][
        "line"
    ] == 7
    assert out.is_symlink()
    done = command(
        "predict",
        "nowhere",
        tmp_path / "none",
        "-o",
        tmp_path / "no" / "x",
        "--layer",
        "1",
        "--task",
        "ner",
        code=2,
    )
    said = complaints(done)
    for word in (
        "no such file",
        "no directory",
        "--layer is for",
        "nowhere: no run",
        "unknown task 'ner'",
    ):
        assert any(word in each for each in said), said
    assert len(said) == 5


def test_who_waits_for_an_answer_gets_it(trained: dict[str, str]) -> None:
    """Lines are answered when the writer pauses, not when a full chunk of them has come."""
    with subprocess.Popen(
        [sys.executable, "-m", "adapters_xtl", "predict", trained["mnli"]],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdin and process.stdout
        for number in (1, 2):
            process.stdin.write('{"text": "It rains.", "pair": "It is dry."}\n')
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["line"] == number
        process.stdin.write('{"text": "It rains.", "pair": "No line feed ends this."}')
        process.stdin.close()
        assert json.loads(process.stdout.readline())["line"] == 3
        assert process.wait(60) == 0


def test_one_input_is_not_taken_for_many(trained: dict[str, str]) -> None:
    nli, ner = (xtl.load(trained[task], device="cpu") for task in ("mnli", "panx"))
    for wrong in ("one text", {"text": "a", "pair": "b"}, 7):
        with pytest.raises(RequestError, match=r"takes a list of inputs"):
            nli.predict(wrong)  # type: ignore[arg-type]
        with pytest.raises(RequestError, match=r"takes a list of inputs"):
            ner.embed(wrong)  # type: ignore[arg-type]
    assert nli.predict([]) == [] and ner.embed([]).shape == (0, 32)
    with pytest.raises(DataError, match="input 1: 'text' is empty"):
        ner.embed(["a", " "])


def test_rows_of_every_published_form_are_asked_without_gold() -> None:
    row = {"language": "de", "sentence1": "a", "sentence2": "b"}
    assert example_of(tasks.load("xnli"), row) == {"id": None, "text": "a", "pair": "b"}
    row = {"premise": "It broke.", "choice1": "a", "choice2": "b", "question": "cause"}
    assert example_of(tasks.load("xcopa"), row)["choices"] == [
        "What was the cause? a",
        "What was the cause? b",
    ]
    with pytest.raises(DataError, match="no pair"):
        example_of(tasks.load("mnli"), {"premise": "a"})


def test_a_module_of_several_tasks_says_which_can_be_asked(runs: Path) -> None:
    settings = ["train.max_steps=2", "train.tasks=mnli,qqp", "train.select_examples=10"]
    path = finished_run(runs, "multi", set_=settings, set_parents=[])["path"]
    with pytest.raises(RequestError, match=r"--task.*mnli, qqp"):
        xtl.load(path, device="cpu")
    for task, labels in (("mnli", 3), ("qqp", 2)):
        found = xtl.load(path, task=task, device="cpu").predict([("a text", "another")])[0]
        assert len(found["probabilities"]) == labels
    whole = scored(path, runs)["metrics"]["tasks"]
    assert set(whole) == {"mnli", "qqp"}
    assert (
        scored(path, runs, task="qqp")["metrics"]["tasks"]["qqp"]["languages"]
        == whole["qqp"]["languages"]
    )


def test_an_evaluation_that_was_killed_goes_on_where_it_was(
    trained: dict[str, str], runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _cache(tmp_path, monkeypatch)
    options = {"task": "tatoeba", "languages": "fr,es,ru", "layer": "all"}
    _killed_in("es", monkeypatch, lambda: scored(trained["panx"], runs, **options))
    done = []
    real = retrieval.embed
    monkeypatch.setattr(
        retrieval, "embed", lambda *args, **more: done.append(args) or real(*args, **more)
    )
    resumed = scored(trained["panx"], runs, **options)
    assert len(done) == 1, "French is done, the Spanish embeddings are kept"
    assert set(read_json(Path(resumed["path"]) / "provenance.json")["inference"]["tatoeba"]) == {
        "fr",
        "es",
        "ru",
    }
    asked = Request(task="tatoeba", languages="fr,es,ru", runs=str(runs), device="cpu")
    whole = evaluate(
        asked, trained["panx"], layer="all", export=None, force=True, notify=lambda text: None
    )[0]
    assert resumed["metrics"] == whole["metrics"]


def _killed_in(language: str, monkeypatch: pytest.MonkeyPatch, call: Any) -> None:
    """Runs something that ends, as if it were killed, when the predictions of a language are about
    to be kept.
    """
    from adapters_xtl.evaluation import score_languages

    real = score_languages.atomic_write

    def write(path: Path, content: str | bytes) -> None:
        if path.name == f"{language}.jsonl":
            raise KeyboardInterrupt
        real(path, content)

    with monkeypatch.context() as patched:
        patched.setattr(score_languages, "atomic_write", write)
        with pytest.raises(KeyboardInterrupt):
            call()


def test_predictions_of_another_request_are_not_taken_for_this_ones(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training's id says nothing of what is scored with it: killed while scoring 7 rows, it is
    asked to score all.
    """

    def train(limit: int) -> dict[str, Any]:
        asked = commands.request(
            task="pawsx",
            on="",
            set_=["train.max_steps=2", f"eval.max_examples={limit}"],
            set_parents=[],
            runs=str(runs),
            backbone="tiny",
            data="embedded",
            device="cpu",
            languages="de,es",
            seed=5,
        )
        return commands.recipe(
            asked, baseline=False, force=False, dry_run=False, notify=lambda text: None
        )[0]

    _killed_in("es", monkeypatch, lambda: train(7))
    found = train(0)["metrics"]["tasks"]["pawsx"]["languages"]
    assert {code: each["n"] for code, each in found.items()} == {"de": 30, "es": 30}


def test_texts_with_unicodes_line_ends_are_scored(
    trained: dict[str, str], runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = [
        {
            "id": "1",
            "words": ["a\u2028b", "\x85", "\u2029"],
            "prediction": ["O"] * 3,
            "gold": ["O", "B-PER", "O"],
        }
    ]
    monkeypatch.setattr(predict, "predict", lambda *args, **options: odd)
    found = scored(trained["panx"], runs, languages="de")
    assert scoring.predictions(Path(found["path"]), "panx", "de") == odd
    assert score(found["path"], str(runs))[0]["equal"] is True


def test_exports_are_what_the_official_evaluator_reads(
    trained: dict[str, str], runs: Path, mirror: Path, tmp_path: Path
) -> None:
    """The exported files, read by the reimplementation that agrees with the official one on all
    oracle cases.
    """
    out, labels = tmp_path / "predictions", tmp_path / "labels"
    asked = {
        "xnli": ("mnli", "test", "accuracy"),
        "xquad": ("squad1", None, "f1"),
        "mlqa": ("squad1", None, "f1"),
        "tatoeba": ("mnli", None, "accuracy"),
    }
    for task, (module, split, metric) in asked.items():
        codes = _codes(mirror, task, split)
        payload = scored(
            trained[module],
            runs,
            task=task,
            split=split,
            data=str(mirror),
            languages=",".join(codes),
            out=out,
        )
        found = payload["metrics"]["tasks"][task]
        word = "dev" if task == "mlqa" else "test"  # the mirror has MLQA's dev
        located, _ = locate_report(
            open_source(str(mirror)), tasks.load(task), found["split"], codes
        )
        rows, _ = read_report(Reader(), tasks.load(task), located)
        for code in codes:
            suffix = "json" if tasks.load(task).format == "span" else "tsv"
            file = labels / task / f"{word}-{code}.{suffix}"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(_labels(task, rows[code].examples), encoding="utf-8")
            official = official_files.score_file(task, code, out / task / file.name, file)[metric]
            assert official == pytest.approx(found["languages"][code][metric], abs=1e-6), (
                task,
                code,
            )


def test_mined_pairs_are_exported_at_the_threshold_that_was_scored(
    trained: dict[str, str],
    runs: Path,
    mirror: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Pairs as a good encoder finds them: right ones mostly above wrong ones, and gold that was
    never a candidate.
    """
    rows = [
        {
            "source_id": f"s{n}",
            "target_id": f"t{n}",
            "score": 2 - n / 100,
            "gold": n % 7 != 3 and n < 60,
        }
        for n in range(100)
    ] + [{"source_id": "s200", "target_id": "t200", "gold": True}]
    monkeypatch.setattr(formats.load("retrieve"), "decode", lambda *args, **options: rows)
    monkeypatch.setattr(
        retrieval,
        "embed",
        lambda model, format, items, **options: np.zeros((len(items), 1, 32), dtype=np.float32),
    )
    _cache(tmp_path, monkeypatch)
    payload = scored(
        trained["mnli"], runs, task="bucc", data=str(mirror), languages="zh", out=tmp_path / "out"
    )
    labels = tmp_path / "gold.tsv"
    labels.write_text(
        "".join(f"{row['source_id']}\t{row['target_id']}\n" for row in rows if row["gold"])
    )
    official = official_files.score_file(
        "bucc2018", "zh", tmp_path / "out" / "bucc2018" / "dev-zh.tsv", labels
    )
    assert official["f1"] == pytest.approx(
        payload["metrics"]["tasks"]["bucc"]["languages"]["zh"]["f1"], abs=1e-6
    )
    assert 80 < official["f1"] < 100


def _codes(mirror: Path, task: str, split: str | None) -> list[str]:
    """A language of the mirror that is whole; of retrieval, which is small, two."""
    wanted = split or next(iter(tasks.load(task).report))
    found, _ = locate_report(
        open_source(str(mirror)), tasks.load(task), wanted, tasks.load(task).all_languages
    )
    kept: list[str] = []
    for code in ("hi", "de", "ru", "es", "ar", "zh"):
        if code in found:
            kept += read_report(Reader(), tasks.load(task), {code: found[code]})[0]
        if len(kept) == (2 if tasks.load(task).format == "retrieve" else 1):
            break
    return kept


def _labels(task: str, examples: list[dict[str, Any]]) -> str:
    if tasks.load(task).format == "span":
        paragraphs = [
            {
                "context": each["context"],
                "qas": [
                    {
                        "id": each["id"],
                        "question": each["question"],
                        "answers": [{"text": text} for text in each["answers"]["text"]],
                    }
                ],
            }
            for each in examples
        ]
        return json.dumps({"data": [{"title": "", "paragraphs": paragraphs}]}, ensure_ascii=False)
    if task == "tatoeba":  # XTREME's English file is sorted; its labels are the rows of the source
        english = [each["target"].strip() for each in examples]
        return "".join(f"{row}\n" for row in sorted(range(len(english)), key=english.__getitem__))
    return "".join(f"{each['label']}\n" for each in examples)


def test_what_is_not_xtremes_is_not_exported(
    trained: dict[str, str],
    runs: Path,
    mirror: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out"
    with pytest.raises(RequestError, match="sample rows"):
        scored(trained["mnli"], runs, task="xnli", out=out)
    with pytest.raises(RequestError, match=r"'mnli'.*XTREME"):
        scored(trained["mnli"], runs, data=str(mirror), out=out)
    with pytest.raises(RequestError, match="600 rows, XTREME's file 2000"):
        scored(trained["pawsx"], runs, data=str(mirror), languages="de", out=out)
    with pytest.raises(RequestError, match="de: XTREME"):
        monkeypatch.setitem(xtreme_export.ROWS["pawsx"], "validation", {})  # type: ignore[index]
        scored(trained["pawsx"], runs, data=str(mirror), languages="de", out=out)
    (tmp_path / "file").touch()
    with pytest.raises(RequestError, match="file is no directory"):
        scored(
            trained["mnli"],
            runs,
            task="xnli",
            data=str(mirror),
            languages="de",
            out=tmp_path / "file" / "x",
        )
    with pytest.raises(RequestError, match="leaves rows out"):
        scored(
            trained["mnli"],
            runs,
            task="xnli",
            data=str(mirror),
            languages="de,en",
            out=out,
            split="test",
            set_=["eval.max_examples=10"],
        )
    assert not out.exists()


def test_the_commands_say_what_is_wrong(
    trained: dict[str, str], runs: Path, tmp_path: Path
) -> None:
    assert (
        "no run or bundle directory"
        in complaints(command("evaluate", "nowhere", "--runs", runs, code=2))[0]
    )
    assert (
        "no such file"
        in complaints(command("predict", trained["mnli"], tmp_path / "x.jsonl", code=2))[0]
    )
    wrong = [
        "--export",
        "glue",
        tmp_path,
        "--set",
        "train.lr=1",
        "--set",
        "eval.max_example=3",
        "--set",
        "eval.max_examples=-3",
        "--languages",
        "zz",
        "--layer",
        "1",
        "--data",
        "embedded",
    ]
    # the problems of one stage come together: those of the flags, then those of the settings'
    # values, the languages and the layer
    first = complaints(command("evaluate", trained["mnli"], *wrong, code=2))
    for word in ("known: xtreme", "--set train.lr", "did you mean 'eval.max_examples'"):
        assert any(word in line for line in first), first
    wrong = ["--set", "eval.max_examples=-3", "--languages", "zz", "--layer", "1"]
    wrong += ["--data", "embedded"]
    second = complaints(command("evaluate", trained["mnli"], *wrong, code=2))
    for word in ("whole number from 0 on, not -3", "'zz'", "--layer: 'mnli'"):
        assert any(word in line for line in second), second
    said = complaints(
        command(
            "evaluate", "x" * 300, "--task", "xnli", "--languages", "zz", "--data", "no/dir", code=2
        )
    )
    assert len(said) == 2 and "no run or bundle" in said[0] and "no such directory" in said[1]
    found = xtl_json(
        "evaluate", trained["mnli"], "--task", "xnli", "--languages", "de", "--runs", runs
    )
    assert set(found) == {"id", "path", "reused", "seconds", "metrics"}
    assert xtl_json("score", found["path"])["equal"] is True
