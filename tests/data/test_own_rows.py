"""Rows of one's own, without a task file: the files people have, on the whole way of a task."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from adapters_xtl.backbones import embedded
from adapters_xtl.base.errors import XtlError
from adapters_xtl.base.files import read_json
from adapters_xtl.cli import app
from adapters_xtl.data.own_files import OwnFilesRequest, language_of, open_own_files
from tests.bundles import change, reseal

QUICK = ("--backbone", "tiny", "--device", "cpu", "--set", "train.max_steps=4")
COLUMNS = ("--text-columns", "review", "--label", "verdict")


def xtl(*arguments: str | Path) -> dict[str, Any]:
    """`xtl … --json` in this process: its one JSON object."""
    done = CliRunner().invoke(app, [*map(str, arguments), "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr[-2000:]
    payload: dict[str, Any] = json.loads(done.stdout)
    return payload


def refusal(*arguments: str | Path) -> list[str]:
    """The lines that refuse a request."""
    with pytest.raises(XtlError) as refused:
        CliRunner().invoke(app, [*map(str, arguments), "--json"], catch_exceptions=False)
    assert refused.value.exit_code == 2
    return str(refused.value).splitlines()


def write_jsonl(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def reviews(count: int, seed: int = 1) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        good = draw.random() < 0.5
        word = draw.choice(["lovely", "warm"] if good else ["cold", "broken"])
        thing = draw.choice(["soup", "train", "room", "garden"])
        rows.append(
            {"review": f"The {thing} {number} was {word}.", "verdict": ["bad", "good"][good]}
        )
    return rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Reviews: English train rows, test rows in English and (as CSV) in Swahili."""
    embedded.prepare(lambda text: None)
    path = tmp_path_factory.mktemp("own")
    write_jsonl(path / "train.en.jsonl", reviews(80))
    write_jsonl(path / "test.en.jsonl", reviews(12, seed=2))
    lines = [f'"Chumba {n} ni ""kizuri"", sana",good' for n in range(5)]
    lines += [f"Supu {n} ni baridi,bad" for n in range(5)]
    (path / "test.sw.csv").write_text("\n".join(["review,verdict", *lines]) + "\n")
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("own-runs") / "runs"


def recipe(folder: Path, runs: Path, *more: str | Path) -> dict[str, Any]:
    files = ("--data-file", folder / "train.en.jsonl", "--test-file", folder / "test.*")
    return xtl("recipe", "classify", *files, *COLUMNS, *QUICK, "--runs", runs, *more)


@pytest.fixture(scope="module")
def trained(folder: Path, runs: Path) -> dict[str, Any]:
    return recipe(folder, runs)


def test_it_is_trained_and_scored_in_the_languages_of_the_file_names(
    trained: dict[str, Any], folder: Path
) -> None:
    (name,) = trained["metrics"]["tasks"]
    scores = trained["metrics"]["tasks"][name]
    assert (scores["split"], scores["metric"]) == ("test", "accuracy")
    assert {code: value["n"] for code, value in scores["languages"].items()} == {"en": 12, "sw": 10}
    path = Path(trained["path"])
    assert read_json(path / "head" / name / "config.json")["labels"] == ["bad", "good"]
    spec = read_json(path / "spec.json")
    assert spec["data"] == "files" and spec["own_rows"]["labels"] == ["bad", "good"]
    read = read_json(path / "provenance.json")["data"]
    assert read["train"][name]["rows"] == 80
    assert read["train"][name]["examples"] + read["select"][name]["examples"] == 80
    assert read["train"][name]["forms"] == ["own [en] train"]
    predictions = (path / f"predictions/{name}/sw.jsonl").read_text().splitlines()
    gold = [json.loads(line)["gold"] for line in predictions]
    assert gold == ["good"] * 5 + ["bad"] * 5


def test_equal_files_elsewhere_are_the_same_run_and_a_changed_one_another(
    trained: dict[str, Any], folder: Path, runs: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    again = recipe(copy, runs)
    assert again["reused"] and again["id"] == trained["id"]
    write_jsonl(copy / "train.en.jsonl", [*reviews(80), *reviews(1, seed=9)])
    changed = recipe(copy, runs, "--dry-run")
    assert changed["runs"][0]["id"] != trained["id"] and not changed["reused"]
    # other test rows are another evaluation of the same training
    write_jsonl(copy / "test.de.jsonl", reviews(3, seed=3))
    shutil.copy(folder / "train.en.jsonl", copy)
    scored = recipe(copy, runs, "--dry-run")
    assert scored["runs"][0]["id"] == trained["id"] and scored["runs"][0]["in_store"]
    assert not scored["reused"]


def test_without_test_rows_the_select_slice_is_scored_and_marked(
    folder: Path, runs: Path, trained: dict[str, Any]
) -> None:
    files = ("--data-file", folder / "train.en.jsonl")
    alone = xtl("recipe", "classify", *files, *COLUMNS, *QUICK, "--runs", runs)
    (scores,) = alone["metrics"]["tasks"].values()
    slice_size = read_json(Path(trained["path"]) / "provenance.json")["data"]["select"]
    (counts,) = slice_size.values()
    assert scores["split"] == "validation"
    assert scores["languages"]["en"]["n"] == scores["selected_on"] == counts["examples"]


def test_test_rows_that_were_trained_on_are_counted_and_said(folder: Path, tmp_path: Path) -> None:
    rows = reviews(80)
    test = write_jsonl(tmp_path / "test.en.jsonl", [*reviews(5, seed=8), *rows[:40]])
    files = ("--data-file", str(folder / "train.en.jsonl"), "--test-file", str(test))
    done = CliRunner().invoke(
        app,
        ["recipe", "classify", *files, *COLUMNS, *QUICK, "--runs", str(tmp_path / "r"), "--json"],
        catch_exceptions=False,
    )
    data = read_json(Path(json.loads(done.stdout)["path"]) / "provenance.json")["data"]
    (leaked,) = data["train_rows_also_reported"].values()
    (selecting,) = data["select_rows_also_reported"].values()
    assert leaked + selecting == 40 and leaked > 0
    assert f"{leaked} train rows are also reported" in done.stderr


def test_it_predicts_and_is_evaluated_on_its_own_and_on_new_rows(
    trained: dict[str, Any], runs: Path, tmp_path: Path
) -> None:
    lines = write_jsonl(tmp_path / "in.jsonl", [{"review": "All cold."}, {"text": "All cold."}])
    out = tmp_path / "out.jsonl"
    predict = ("predict", trained["path"], str(lines), "-o", str(out), "--device", "cpu")
    assert CliRunner().invoke(app, list(predict), catch_exceptions=False).exit_code == 0
    first, second = map(json.loads, out.read_text().splitlines())
    assert first["prediction"] == second["prediction"] in ("bad", "good")

    again = xtl("evaluate", trained["path"], "--device", "cpu", "--runs", runs)
    assert again["reused"] and again["id"] == trained["id"], "the files that its run names"
    new = write_jsonl(tmp_path / "more.yo.jsonl", reviews(4, seed=5))
    scored = xtl("evaluate", trained["path"], "--test-file", new, "--device", "cpu", "--runs", runs)
    (entry,) = scored["metrics"]["tasks"].values()
    assert set(entry["languages"]) == {"yo"} and entry["languages"]["yo"]["n"] == 4
    assert xtl("score", scored["path"], "--runs", runs)["equal"] is True
    words = ["evaluate", trained["path"], "--test-file", str(new), "--runs", str(runs)]
    words += ["--device", "cpu", "--data", "embedded"]
    said = CliRunner().invoke(app, words, catch_exceptions=False)
    assert said.exit_code == 0 and "--data means nothing here" in said.output


def test_it_stands_on_tasks_and_others_on_it(
    trained: dict[str, Any], folder: Path, runs: Path
) -> None:
    parents = ("--set-parents", "train.max_steps=2")
    child = recipe(folder, runs, "--on", "mnli", *parents)
    spec = read_json(Path(child["path"]) / "spec.json")
    (parent,) = spec["parents"]
    assert parent["task"] == "mnli" and spec["data"] == "files"
    assert read_json(runs / "mnli" / parent["id"] / "spec.json")["data"] == "embedded"
    above = xtl(
        "recipe", "pawsx", "--on", trained["id"], *QUICK, "--runs", runs, "--languages", "de"
    )
    assert read_json(Path(above["path"]) / "spec.json")["parents"][0]["id"] == trained["id"]


def test_it_is_shared_and_pulled_where_nobody_knows_it(
    trained: dict[str, Any],
    folder: Path,
    runs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from adapters_xtl import tasks

    hub = f"file:{tmp_path / 'hub'}"
    xtl("hub", "push", trained["path"], hub, "--runs", runs)
    monkeypatch.setattr(tasks, "_described", {})  # as in another process
    pulled = tmp_path / "pulled"
    xtl("hub", "pull", hub, "-o", pulled)
    xtl("hub", "verify", pulled)
    card = (pulled / "README.md").read_text()
    for text in (str(folder), str(tmp_path), "train.en.jsonl"):
        assert text not in card and text not in (pulled / "bundle.json").read_text()
    _refuses_other_descriptions(pulled, tmp_path)
    other_runs = tmp_path / "other"
    scored = xtl(
        *("evaluate", pulled, "--test-file", folder / "test.sw.csv"),
        *("--device", "cpu", "--runs", other_runs),
    )
    (entry,) = scored["metrics"]["tasks"].values()
    (before,) = trained["metrics"]["tasks"].values()
    assert entry["languages"]["sw"] == pytest.approx(before["languages"]["sw"])
    (line,) = refusal("evaluate", pulled, "--device", "cpu", "--runs", other_runs)
    assert "--test-file" in line and "review, verdict" in line


def _refuses_other_descriptions(pulled: Path, tmp_path: Path) -> None:
    """A bundle whose description is not that of its task and head."""
    changes: list[tuple[Callable[[dict[str, Any]], dict[str, Any]], str]] = [
        (lambda rows: {**rows, "labels": ["good", "bad", "new"]}, "own_rows"),
        (lambda rows: {**rows, "columns": {"text": ["x"], "label": ["x"]}}, "own_rows"),
        (lambda rows: {**rows, "format": "nothing"}, "own_rows"),
        (lambda rows: {**rows, "labels": ["a\nb"]}, "labels"),
    ]
    for number, (altered, named) in enumerate(changes):
        copy = shutil.copytree(pulled, tmp_path / f"altered-{number}")

        def edit(
            record: dict[str, Any],
            altered: Callable[[dict[str, Any]], dict[str, Any]] = altered,
        ) -> dict[str, Any]:
            return {**record, "own_rows": altered(record["own_rows"])}

        change(copy, "bundle.json", edit)
        reseal(copy)
        assert named in refusal("hub", "verify", copy)[0]


def test_a_module_of_the_house_is_scored_on_own_rows(runs: Path, tmp_path: Path) -> None:
    mnli = xtl("recipe", "mnli", *QUICK, "--set", "eval.max_examples=4", "--runs", runs)
    path = tmp_path / "pairs.fr.tsv"
    path.write_text("eins\tzwei\tgold\nIl pleut.\tIl fait beau.\tcontradiction\nA\tB\tneutral\n")
    flags = ("--test-file", path, "--text-columns", "eins,zwei", "--label", "gold")
    scored = xtl("evaluate", mnli["path"], *flags, "--device", "cpu", "--runs", runs)
    (entry,) = scored["metrics"]["tasks"].values()
    assert entry["languages"]["fr"]["n"] == 2


def test_its_memory_is_planned(folder: Path) -> None:
    flags = ("--data-file", folder / "train.en.jsonl", *COLUMNS, "--backbone", "xlmr-base")
    planned = xtl("plan", "classify", *flags, "--set", "train.max_length=32")
    assert planned["trains"].startswith("classify-") and planned["length"] == 32


CONLL = """-DOCSTART- -X- O

# a comment
Amina NNP B-PER
lives VBZ O
in IN O
Kano NNP B-LOC

# # O
The DT O
end NN O
"""
CONLLU = """# text = du Jardin
1-2\tdu\t_\t_\t_\t_\t_\t_\t_\t_
1\tde\tde\tADP\t_\t_\t3\tcase\t_\t_
2\tle\tle\tDET\t_\t_\t3\tdet\t_\t_
3\tJardin\tjardin\tNOUN\t_\t_\t0\troot\t_\t_

"""
SQUAD = {
    "data": [
        {
            "title": "Rivers",
            "paragraphs": [
                {
                    "context": "The Niger is 4,180 km long.",
                    "qas": [
                        {
                            "id": "n1",
                            "question": "How long is the Niger?",
                            "answers": [{"text": "4,180 km", "answer_start": 13}],
                        },
                        {"id": "n2", "question": "Who?", "answers": [], "is_impossible": True},
                    ],
                }
            ],
        }
    ]
}


def examples_of(path: Path, format: str, texts: tuple[str, ...] = (), label: str = "") -> Any:
    """(the task, its train examples) of one file."""
    from adapters_xtl.data.locate import locate_training
    from adapters_xtl.data.reading import Reader
    from adapters_xtl.tasks import load

    files = open_own_files(format, OwnFilesRequest((str(path),), (), (), texts, label))
    located = locate_training(files, files.task, "clean", load).train
    split = Reader().read(files.task, located, split="train", language="en", scoring=False)
    return files.task, split.examples


def test_conll_files(tmp_path: Path) -> None:
    path = tmp_path / "train.ha.conll"
    path.write_text(CONLL)
    task, (first, second) = examples_of(path, "tag")
    assert first["words"] == ["Amina", "lives", "in", "Kano"]
    assert first["tags"] == ["B-PER", "O", "O", "B-LOC"]
    assert second["words"][0] == "#", "a word, not a comment"
    assert (task.labels, task.metric) == (("B-LOC", "B-PER", "O"), "f1")
    task, ((*_,), (*_,)) = examples_of(path, "tag", ("1",), "2")
    assert task.metric == "accuracy" and "NNP" in task.labels
    path = tmp_path / "train.fr.conllu"
    path.write_text(CONLLU)
    task, (sentence,) = examples_of(path, "tag")
    assert sentence["words"] == ["de", "le", "Jardin"] and sentence["tags"][-1] == "NOUN"
    assert examples_of(path, "tag", ("form",), "deprel")[1][0]["tags"] == ["case", "det", "root"]


def test_squad_files(tmp_path: Path) -> None:
    path = tmp_path / "train.json"
    path.write_text(json.dumps(SQUAD))
    task, (first, second) = examples_of(path, "span")
    assert task.scorer == "squad_v2" and task.labels == ("unanswerable",)
    assert first["id"] == "n1" and first["answers"]["answer_start"] == [13]
    assert second["answers"]["text"] == []
    flat = {
        "id": "a",
        "ctx": "It rained.",
        "q": "What?",
        "answers": {"text": ["rained"], "answer_start": [3]},
    }
    task, (only,) = examples_of(write_jsonl(tmp_path / "t.jsonl", [flat]), "span", ("ctx", "q"))
    assert task.scorer == "squad" and only["context"] == "It rained."


@pytest.mark.parametrize(
    ("labels", "expected"),
    [([0, 1], [0, 1]), ([1, 2], [0, 1]), (["A", "B"], [0, 1]), (["no", "yes"], [1, 0])],
)
def test_choices_are_named_by_number_letter_or_column(
    tmp_path: Path, labels: list[Any], expected: list[int]
) -> None:
    rows = [{"premise": "It rains.", "yes": "wet", "no": "dry", "gold": label} for label in labels]
    path = write_jsonl(tmp_path / "train.jsonl", rows)
    task, examples = examples_of(path, "choice", ("premise", "yes", "no"), "gold")
    assert task.labels == () and [example["label"] for example in examples] == expected


def test_choices_are_named_by_their_text_in_a_list(tmp_path: Path) -> None:
    rows = [
        {"q": "Wet?", "ends": ["a sea", "a desert"], "gold": end} for end in ("a desert", "a sea")
    ]
    path = write_jsonl(tmp_path / "train.jsonl", rows)
    _, examples = examples_of(path, "choice", ("q", "ends"), "gold")
    assert [example["label"] for example in examples] == [1, 0]


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "tsv", "json"])
def test_numbers_are_labels_in_their_order(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"train.{suffix}"
    values = [10, 2, -1, 10]
    if suffix == "jsonl":
        write_jsonl(path, [{"text": f"text {n}", "y": value} for n, value in enumerate(values)])
    elif suffix == "json":
        path.write_text(
            json.dumps([{"text": f"text {n}", "y": value} for n, value in enumerate(values)])
        )
    else:
        separator = "," if suffix == "csv" else "\t"
        lines = [separator.join(("text", "y"))]
        lines += [f"text {n}{separator}{value}" for n, value in enumerate(values)]
        path.write_text("\n".join(lines))
    task, examples = examples_of(path, "classify", ("text",), "y")
    assert task.labels == ("-1", "2", "10")
    assert [example["label"] for example in examples] == ["10", "2", "-1", "10"]


def test_numbers_in_lists_and_truth_values_are_labels_too(tmp_path: Path) -> None:
    rows = [{"tokens": ["a", "b"], "ner": [0, 7]}, {"tokens": ["c"], "ner": [3]}]
    path = write_jsonl(tmp_path / "train.jsonl", rows)
    task, examples = examples_of(path, "tag", ("tokens",), "ner")
    assert task.labels == ("0", "3", "7") and examples[0]["tags"] == ["0", "7"]
    table = pa.table({"text": ["x", "y", "z"], "spam": [True, False, None]})
    pq.write_table(table, tmp_path / "train.parquet")
    task, examples = examples_of(tmp_path / "train.parquet", "classify", ("text",), "spam")
    assert task.labels == ("false", "true")
    assert [example["label"] for example in examples] == ["true", "false"], "no gold is left out"


def test_a_csv_file_of_a_spreadsheet(tmp_path: Path) -> None:
    """A mark of the byte order, semicolons or commas, quoted line ends, lines of Windows, labels
    with blanks, cells without anything.
    """
    texts = ["Good;\nreally", 'the "old" one, again', "plain", "third"]
    labels = ["very good", "so so", "not good; at all", ""]
    for parted_by in ";,":
        records = [("Review Text", "Note", "Verdict"), *zip(texts, [""] * 4, labels, strict=True)]
        lines = (parted_by.join('"' + cell.replace('"', '""') + '"' for cell in r) for r in records)
        path = tmp_path / "train.en.csv"
        path.write_bytes(("\r\n".join(lines) + "\r\n").encode("utf-8-sig"))
        task, examples = examples_of(path, "classify", ("Review Text",), "Verdict")
        assert task.labels == ("not good; at all", "so so", "very good")
        assert [example["text"] for example in examples] == texts[:3], "no label is left out"
        assert [example["label"] for example in examples] == labels[:3]


def test_lines_that_end_as_on_windows(tmp_path: Path) -> None:
    path = tmp_path / "train.conll"
    path.write_bytes(CONLL.replace("\n", "\r\n").encode("utf-8-sig"))
    _, (first, _) = examples_of(path, "tag")
    assert first["words"] == ["Amina", "lives", "in", "Kano"] and first["tags"][-1] == "B-LOC"


@pytest.mark.parametrize(
    ("name", "language"),
    [
        ("train.en.jsonl", "en"),
        ("my.test.pt-BR.csv", "pt-BR"),
        ("test.pcm.conll", "pcm"),
        ("train.jsonl", "und"),
        ("reviews.csv.jsonl", "und"),
        ("reviews.xx.jsonl", "und"),
        ("en.jsonl", "und"),
        ("v1.2.jsonl", "und"),
    ],
)
def test_the_language_of_a_file_name(name: str, language: str) -> None:
    assert language_of(Path(name)) == language


def _latin(path: Path) -> Path:
    path.write_bytes("review,verdict\ntrès bon,good\n".encode("latin-1"))
    return path


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


Make = Callable[[Path], tuple[str | Path, ...]]
WRONG: list[tuple[str, Make, tuple[str, ...]]] = [
    (
        "a column that is not there",
        lambda p: (p / "train.en.jsonl", "--text-columns", "reviw", "--label", "verdict"),
        ("train.en.jsonl", "'reviw'", "did you mean 'review'"),
    ),
    (
        "no such file",
        lambda p: (p / "trian.en.jsonl", *COLUMNS),
        ("trian.en.jsonl", "no such file", "did you mean 'train.en.jsonl'"),
    ),
    ("a directory", lambda p: (p, *COLUMNS), ("a directory",)),
    ("a device", lambda p: ("/dev/zero", *COLUMNS), ("/dev/zero", "no regular file")),
    ("too long a name", lambda p: ("x" * 5000, *COLUMNS), ("--data-file", "too long")),
    (
        "train rows that select",
        lambda p: (p / "train.en.jsonl", *COLUMNS, "--select-file", p / "train.en.jsonl"),
        ("--select-file", "holds the rows of --data-file"),
    ),
    (
        "fields parted by bars",
        lambda p: (_written(p / "half.csv", "review|verdict\na|b\n"), *COLUMNS),
        ("half.csv", "'|'", "semicolons"),
    ),
    (
        "text of another encoding",
        lambda p: (_latin(p / "half.csv"), *COLUMNS),
        ("half.csv", "0xe8", "UTF-8"),
    ),
    ("a pattern of nothing", lambda p: (p / "dev.*", *COLUMNS), ("dev.*", "pattern")),
    (
        "an unknown label in test rows",
        lambda p: (
            *(p / "train.en.jsonl", *COLUMNS, "--test-file"),
            write_jsonl(p / "odd.en.jsonl", [*reviews(2), {"review": "x", "verdict": "godo"}]),
        ),
        ("odd.en.jsonl", "'verdict', row 2", "'godo'", "did you mean 'good'"),
    ),
    (
        "a label in two spellings",
        lambda p: (
            write_jsonl(
                p / "two.jsonl",
                [
                    {"review": f"r{n}", "verdict": ["\u00e9t\u00e9", "e\u0301te\u0301"][n % 2]}
                    for n in range(9)
                ],
            ),
            *COLUMNS,
        ),
        ("two.jsonl", "'verdict'", "one label in two ways"),
    ),
    (
        "a text for a label",
        lambda p: (
            write_jsonl(
                p / "one.jsonl", [{"review": f"r{n}", "verdict": "same"} for n in range(9)]
            ),
            *COLUMNS,
        ),
        ("one.jsonl", "'verdict'", "1 label"),
    ),
    (
        "a text column of numbers",
        lambda p: (
            write_jsonl(p / "num.jsonl", [{"review": n, "verdict": str(n % 2)} for n in range(9)]),
            *COLUMNS,
        ),
        ("num.jsonl", "'review'", "int64"),
    ),
    ("no label", lambda p: (p / "train.en.jsonl", "--text-columns", "review"), ("--label",)),
    ("no columns", lambda p: (p / "train.en.jsonl",), ("--text-columns", "--label")),
    (
        "three texts",
        lambda p: (p / "train.en.jsonl", "--text-columns", "a,b,c", "--label", "d"),
        ("--text-columns",),
    ),
    ("a suffix", lambda p: (Path(__file__), *COLUMNS), ("test_own_rows.py", ".csv")),
]


@pytest.mark.parametrize(
    ("make", "tokens"), [case[1:] for case in WRONG], ids=[c[0] for c in WRONG]
)
def test_a_wrong_file_costs_one_line(
    folder: Path, tmp_path: Path, make: Make, tokens: tuple[str, ...]
) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    lines = refusal(
        "recipe", "classify", *QUICK, "--runs", tmp_path / "r", "--data-file", *make(copy)
    )
    assert len(lines) == 1, lines
    for token in tokens:
        assert token in lines[0], lines[0]
    assert not (tmp_path / "r").exists()


def test_wrong_tasks_and_formats_are_named(folder: Path, tmp_path: Path) -> None:
    file = ("--data-file", folder / "train.en.jsonl", *COLUMNS)
    (line,) = refusal("recipe", "mnli", *file, *QUICK, "--runs", tmp_path)
    assert "classify" in line and "a task" in line
    (line,) = refusal("recipe", "classfy", *file, *QUICK, "--runs", tmp_path)
    assert "did you mean 'classify'" in line
    (line,) = refusal("recipe", "classify", *QUICK, "--runs", tmp_path)
    assert "--data-file" in line


def test_ragged_conll_and_wrong_json_are_named_by_line(tmp_path: Path) -> None:
    path = tmp_path / "train.conll"
    path.write_text("a O\nb O\n\nc B-X O\n")
    (line,) = refusal("recipe", "tag", *QUICK, "--runs", tmp_path / "r", "--data-file", path)
    assert "train.conll: line 4 has 3 fields" in line
    path = tmp_path / "train.json"
    path.write_text('{"data": [')
    (line,) = refusal("recipe", "span", *QUICK, "--runs", tmp_path / "r", "--data-file", path)
    assert "train.json" in line and "no JSON" in line
