"""`xtl data import xtreme`: XTREME's own directory → a mirror. Synthetic rows here are made up for
the tests.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from adapters_xtl import tasks
from adapters_xtl.base.errors import DataError, RequestError
from adapters_xtl.data.imports import xtreme
from adapters_xtl.data.imports.staging import Report

SHARED = Path(os.environ.get("XTL_SHARED") or Path(__file__).resolve().parents[2].parent / "shared")
RAW, MIRROR = SHARED / "raw" / "xtreme", SHARED / "mirror"
SPLITS = {"train": "train", "dev": "validation", "val": "validation", "test": "test"}
needs_raw = pytest.mark.skipif(not RAW.is_dir(), reason=f"no XTREME files at {RAW}")


def parquet(folder: Path, config: str, split: str) -> Path:
    return folder / config / f"{split}-00000-of-00001.parquet"


def rows(folder: Path, config: str, split: str) -> list[dict[str, Any]]:
    return list(pq.read_table(parquet(folder, config, split)).to_pylist())


def features(path: Path) -> dict[str, Any]:
    return dict(json.loads(pq.read_schema(path).metadata[b"huggingface"])["info"]["features"])


def put(folder: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def squad(questions: list[tuple[str, str, str, list[tuple[str, int]]]], **more: Any) -> str:
    """SQuAD's JSON from (id, context, question, [(answer, start)])."""
    articles = [
        {
            "paragraphs": [
                {
                    "context": context,
                    "qas": [
                        {
                            "id": identity,
                            "question": question,
                            "answers": [
                                {"text": text, "answer_start": start} for text, start in answers
                            ],
                        },
                    ],
                }
            ],
            **more,
        }
        for identity, context, question, answers in questions
    ]
    return json.dumps({"version": "1", "data": articles})


def import_it(tmp_path: Path, files: dict[str, str | bytes]) -> Report:
    return xtreme.convert(put(tmp_path / "in", files), tmp_path / "out")


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    if not RAW.is_dir():
        pytest.skip(f"no XTREME files at {RAW}")
    out = tmp_path_factory.mktemp("real") / "mirror"
    return out, xtreme.convert(RAW, out)


def lines(path: Path) -> list[str]:
    return path.read_bytes().decode().removesuffix("\n").split("\n")


def split_of(path: Path) -> tuple[str, str]:
    first, language = path.stem.replace(".", "-").split("-")[:2]
    return SPLITS[first], language


def hidden(path: Path) -> bool:
    """Whether a raw file of labels has none: told by bytes alone, not by the importer's code."""
    if path.suffix == ".jsonl":
        return (
            path.name.startswith("test")
            and len({json.loads(line).get("label") for line in lines(path)}) == 1
        )
    tabs = 2 if path.parent.name in ("xnli", "pawsx") else 1
    return not any(line.count("\t") >= tabs for line in lines(path))


def expected_counts() -> dict[str, int]:
    """Written file → rows, counted from the raw files."""
    found: Counter[str] = Counter()

    def add(repo: str, config: str, split: str, count: int) -> None:
        found[f"{repo}/{config}/{split}-00000-of-00001.parquet"] += count

    for folder in ("xnli", "pawsx", "panx", "udpos", "xcopa"):
        for path in (RAW / folder).glob("*-*"):
            if hidden(path):
                continue
            split, language = split_of(path)
            code = tasks.load(folder).code(language)
            number = len(lines(path))
            if folder == "xnli":
                add("google/xtreme", "XNLI", split, number)
            elif folder == "pawsx":
                add("google/xtreme", f"PAWS-X.{code}", split, number)
            elif folder == "xcopa" and language == "en":
                add("aps/super_glue", "copa", split, number)
            elif folder == "xcopa":
                add("cambridgeltl/xcopa", code, split, number)
            else:
                blocks = [block for block in "\n".join(lines(path)).split("\n\n") if block.strip()]
                add(
                    "google/xtreme",
                    f"{'PAN-X' if folder == 'panx' else 'udpos'}.{code}",
                    split,
                    len(blocks),
                )
    for gold in (RAW / "bucc2018").glob("*.dev.gold"):
        pair = gold.name.split(".")[0]
        sides = {
            "gold": gold,
            "source": gold.with_suffix(f".{pair.split('-')[0]}"),
            "target": gold.with_suffix(".en"),
        }
        if all(path.is_file() for path in sides.values()):
            for part, path in sides.items():
                add("original/bucc2018", f"{pair}/dev", part, len(lines(path)))
    return dict(found)


@needs_raw
def test_real_files_give_the_rows_that_they_hold(real: tuple[Path, Report]) -> None:
    out, report = real
    assert dict(report.written) == expected_counts()
    on_disk = {
        path.relative_to(out).as_posix(): pq.read_metadata(path).num_rows
        for path in out.rglob("*.parquet")
    }
    assert on_disk == dict(report.written)
    assert {path for path in out.rglob("*") if path.is_file()} == set(out.rglob("*.parquet"))


@needs_raw
def test_real_hidden_gold_is_refused(real: tuple[Path, Report]) -> None:
    _, report = real
    refused = dict(report.refused)
    labelled = [
        path
        for name in ("xnli", "pawsx", "panx", "udpos", "xcopa")
        for path in (RAW / name).glob("*-*")
    ]
    for path in labelled:
        name = path.relative_to(RAW).as_posix()
        assert ("the gold is hidden" in refused.get(name, "")) == hidden(path), name
    for path in RAW.glob("tatoeba/*.*"):
        if not path.name.endswith(".en"):
            assert "sorted, not aligned" in refused[path.relative_to(RAW).as_posix()]
    for path in RAW.glob("tydiqa/*.dev.json"):
        assert "answers of all" in refused[path.relative_to(RAW).as_posix()]
    for gold in (RAW / "bucc2018").glob("*.dev.gold"):
        name = gold.relative_to(RAW).as_posix()
        assert ("incomplete" in refused.get(name, "")) != gold.with_suffix(".en").is_file()
    assert not any("tatoeba" in file or "tydiqa" in file for file in report.written)


@needs_raw
def test_real_texts_are_kept(real: tuple[Path, Report]) -> None:
    out, report = real
    for path in (RAW / "pawsx").glob("dev-*.tsv"):
        table = rows(out, f"google/xtreme/PAWS-X.{split_of(path)[1]}", "validation")
        assert [
            "\t".join((row["sentence1"], row["sentence2"], row["label"])) for row in table
        ] == lines(path)
        quoted = sum(field.startswith('"') for line in lines(path) for field in line.split("\t"))
        assert (
            sum(times for file, what, times in report.counted if file == f"pawsx/{path.name}")
            == quoted
        )
    xnli = rows(out, "google/xtreme/XNLI", "validation")
    for path in (RAW / "xnli").glob("dev-*.tsv"):
        own = [row for row in xnli if row["language"] == split_of(path)[1]]
        assert [
            "\t".join((row["sentence1"], row["sentence2"], row["gold_label"])) for row in own
        ] == lines(path)
    for name in ("panx", "udpos"):
        task = tasks.load(name)
        for path in (RAW / name).glob("dev-*.tsv"):
            config = next(iter(task.report.values()))[0].named(task.code(split_of(path)[1])).config
            table = rows(out, f"google/xtreme/{config}", "validation")
            column = "ner_tags" if name == "panx" else "pos_tags"
            whole = [
                "\n".join(
                    f"{token}\t{task.labels[tag]}"
                    for token, tag in zip(row["tokens"], row[column], strict=True)
                )
                for row in table
            ]
            assert "\n\n".join(whole) == "\n".join(lines(path)).strip("\n")


@needs_raw
def test_real_rows_are_the_mirrors(real: tuple[Path, Report]) -> None:
    """Where the mirror has the same split. Its XNLI and BUCC are whole; of XTREME's files there are
    the first rows.
    """
    out, report = real
    compared: Counter[str] = Counter()
    for file in report.written:
        theirs, ours = MIRROR / file, out / file
        if not theirs.is_file() or "PAWS-X" in file:  # the mirror cuts other rows from PAWS-X's dev
            continue
        got, want = pq.read_table(ours).to_pylist(), pq.read_table(theirs).to_pylist()
        if "XNLI" in file:
            for language in {row["language"] for row in got} & {row["language"] for row in want}:
                own = [row for row in want if row["language"] == language]
                mine = [row for row in got if row["language"] == language]
                assert mine == own[: len(mine)]
        else:
            assert got == want[: len(got)], file
        assert features(ours) == features(theirs), file
        compared[file.split("/")[2].split(".")[0]] += 1
    if MIRROR.is_dir():
        assert {"XNLI", "PAN-X", "udpos", "copa", "it", "zh-en"} <= set(compared)


@needs_raw
def test_real_files_are_the_hubs_schema(real: tuple[Path, Report]) -> None:
    import datasets

    out, report = real
    for file in report.written:
        read = datasets.Features.from_arrow_schema(pq.read_schema(out / file))
        assert list(read) == pq.read_schema(out / file).names
    panx = datasets.Features.from_arrow_schema(
        pq.read_schema(parquet(out, "google/xtreme/PAN-X.my", "validation"))
    )
    assert panx["ner_tags"].feature.names == list(tasks.load("panx").labels)


@needs_raw
def test_conversion_is_deterministic(real: tuple[Path, Report], tmp_path: Path) -> None:
    out, report = real
    again = xtreme.convert(RAW, tmp_path / "again")
    assert (again.written, again.refused, again.counted) == (
        report.written,
        report.refused,
        report.counted,
    )
    assert all(
        (tmp_path / "again" / file).read_bytes() == (out / file).read_bytes()
        for file in report.written
    )


TWO = [
    ("a", "Rivers run north here.", "Where to?", [("north", 11)]),
    ("b", "It is late.", "How?", [("late", 6)]),
]
COPA = {
    "premise": "It fell.",
    "choice1": "It broke.",
    "choice2": "It flew.",
    "question": "effect",
    "label": 0,
}
GOOD: dict[str, str | bytes] = {"pawsx/dev-de.tsv": "A\tB\t0\n"}


def test_the_directories(tmp_path: Path) -> None:
    source = put(tmp_path / "download", GOOD)
    with pytest.raises(RequestError, match="no such directory"):
        xtreme.convert(tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(DataError, match=r"xnli, .*download"):
        xtreme.convert(tmp_path, tmp_path.with_name("elsewhere"))
    full = put(tmp_path / "full", {"precious.txt": "x"})
    with pytest.raises(RequestError, match="not empty"):
        xtreme.convert(source, full)
    assert (full / "precious.txt").read_text() == "x"
    (tmp_path / "empty").mkdir()
    assert list(xtreme.convert(source, tmp_path / "empty").written.values()) == [1]
    assert parquet(tmp_path / "empty", "google/xtreme/PAWS-X.de", "validation").is_file()
    with pytest.raises(RequestError, match="not empty"):
        xtreme.convert(source, tmp_path / "empty")


def test_what_an_interrupted_import_leaves_is_replaced_and_foreign_files_are_not(
    tmp_path: Path,
) -> None:
    source = put(tmp_path / "in", GOOD)
    put(
        tmp_path / "out.partial",
        {"google/xtreme/PAN-X.de/validation-00000-of-00001.parquet": "half"},
    )
    out = tmp_path / "out"
    report = xtreme.convert(source, out)
    assert [path.relative_to(out).as_posix() for path in out.rglob("*.parquet")] == list(
        report.written
    )
    put(tmp_path / "more.partial", {"thesis.tex": "x"})
    with pytest.raises(RequestError, match="in the way"):
        xtreme.convert(source, tmp_path / "more")
    assert (tmp_path / "more.partial" / "thesis.tex").is_file()


def test_nothing_is_left_of_a_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(xtreme, "FOLDERS", {**xtreme.FOLDERS, "xcopa": crash})
    with pytest.raises(KeyboardInterrupt):
        import_it(tmp_path, {**GOOD, "xcopa/val-it.jsonl": json.dumps(COPA)})
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_where_everything_is_refused_no_mirror_is_made(tmp_path: Path) -> None:
    report = import_it(tmp_path, {"panx/test-sw.tsv": "Asha\n"})
    assert not report.written and len(report.refused) == 1
    assert report.shown() == [
        "refused           panx/test-sw.tsv: the gold is hidden: no row has a label",
        "0 files with 0 rows written, 1 refused: no mirror was made",
    ]
    assert json.loads(json.dumps(report.record()))["refused"][0]["file"] == "panx/test-sw.tsv"
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_columns_are_those_that_the_tasks_read(tmp_path: Path) -> None:
    """Every split that a task declares and this importer writes has the task's columns."""
    source = put(
        tmp_path / "in",
        {
            "xnli/dev-en.tsv": "A\tB\tneutral\n",
            "xnli/train-en.tsv": "A\tB\tneutral\n",
            "pawsx/dev-en.tsv": "A\tB\t0\n",
            "panx/dev-en.tsv": "A\tO\n",
            "udpos/dev-en.tsv": "A\tX\n",
            "xquad/xquad.en.json": squad(TWO),
            "mlqa/dev-context-en-question-en.json": squad(TWO),
            "tydiqa/tydiqa.goldp.en.dev.json": squad(TWO),
            "xcopa/val-it.jsonl": json.dumps(COPA),
            "xcopa/val-en.jsonl": json.dumps(COPA),
            "squad/dev-v1.1.json": squad(TWO),
        },
    )
    report = xtreme.convert(source, tmp_path / "out")
    seen = 0
    for name in tasks.names():
        task = tasks.load(name)
        scored = [entry for group in task.report.values() for entry in group]
        splits = [*task.train, *task.select_xtreme, *task.select, *scored]
        for entry in (
            form.named(task.code(code)) for form in splits for code in task.all_languages
        ):
            file = f"{entry.repo}/{entry.config}/{entry.split}-00000-of-00001.parquet"
            if file in report.written:
                seen += 1
                assert set(entry.columns) <= set(features(tmp_path / "out" / file)), file
    assert seen >= len(report.written)
