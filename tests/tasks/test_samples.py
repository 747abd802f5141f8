"""The embedded rows: whole, balanced, in enough languages, and no text on both sides of any fence."""

from __future__ import annotations

import json
import unicodedata
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from adapters_xtl import formats, tasks
from adapters_xtl.base.errors import DataError
from adapters_xtl.data.locate import locate_report, locate_training
from adapters_xtl.data.reading import Reader, read_report, read_training
from adapters_xtl.data.sources import Embedded, samples_dir
from adapters_xtl.data.splits import CheckedSplit, count_overlap

# americasnli has no sample rows: nobody here writes its languages
NAMES = [name for name in tasks.names() if not tasks.load(name).members and name != "americasnli"]
TARGETS = [name for name in NAMES if tasks.load(name).kind == "target"]
# task → its training's task: what a report must not share a text with
TRAINED_ON = {
    "xquad": ["squad1"],
    "mlqa": ["squad1"],
    "xnli": ["mnli"],
    "tatoeba": [],
    "bucc": [],
    "squadshifts": ["squad1"],
    "m2qa": ["squad1"],
    "masakhaner": ["panx"],
}
DOMAINS = [name for name in NAMES if tasks.load(name).in_domain_task]
NATIVE = {
    "ar": "ARABIC",
    "fa": "ARABIC",
    "ur": "ARABIC",
    "hi": "DEVANAGARI",
    "ru": "CYRILLIC",
    "bg": "CYRILLIC",
    "th": "THAI",
    "ko": "HANGUL",
    "zh": "CJK",
    "bn": "BENGALI",
    "te": "TELUGU",
    "el": "GREEK",
    "ta": "TAMIL",
}


def raw(name: str) -> Iterator[dict[str, Any]]:
    for line in (samples_dir() / f"{name}.jsonl").read_text(encoding="utf-8").splitlines():
        yield json.loads(line)


def training(name: str) -> tuple[CheckedSplit, CheckedSplit]:
    task = tasks.load(name)
    rows = read_training(
        Reader(strict=True),
        task,
        locate_training(Embedded(), task, "clean", tasks.load),
        tasks.load,
    )
    return rows.train, rows.select


def report(name: str) -> dict[str, CheckedSplit]:
    """Language → its report rows; of a task with domains those of all that have samples."""
    task = tasks.load(name)
    splits = tuple(task.report) if task.in_domain_task else tuple(task.report)[:1]
    joined: dict[str, CheckedSplit] = {}
    for split in splits:
        found, _ = locate_report(Embedded(), task, split, task.all_languages)
        parts, lacking = read_report(Reader(strict=True), task, found)
        assert not lacking
        for language, part in parts.items():
            joined.setdefault(language, CheckedSplit()).examples += part.examples
            joined[language].faults += part.faults
            joined[language].kept += part.kept
    return joined


def texts(example: Mapping[str, Any]) -> list[str]:
    """What makes an example this one: a passage, a pair, a question with its choices, a sentence."""
    if "answers" in example:
        return [example["context"]]
    if "words" in example:
        return [" ".join(example["words"])]
    if "choices" in example:
        return [example["context"] + "|" + "|".join(example["choices"])]
    return (
        [str(example.get("text", "")) + "|" + str(example.get("pair", ""))]
        if "text" in example
        else []
    )


def normal(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def keys(part: CheckedSplit) -> set[str]:
    return {normal(text) for example in part.examples for text in texts(example)}


@pytest.mark.parametrize("name", [name for name in NAMES if tasks.load(name).train])
def test_train_and_select_rows_load_strictly(name: str) -> None:
    task = tasks.load(name)
    train, select = training(name)
    assert len(train.examples) >= 45 and len(select.examples) >= 10
    assert not (train.faults or train.kept or select.faults or select.kept)
    assert not keys(train) & keys(select), "a text in two splits"
    assert count_overlap(task, select, report(name).values()) == 0 or task.kind == "intermediate"
    if task.format == "tag":
        assert set(formats.load(task.format).head_labels(task.labels, train.examples)) <= set(
            task.labels or formats.load(task.format).head_labels(task.labels, train.examples)
        )


@pytest.mark.parametrize("name", TARGETS)
def test_report_rows_load_strictly_in_six_languages_or_more(name: str) -> None:
    task, parts = tasks.load(name), report(name)
    assert len(parts) >= (1 if name in DOMAINS else 6) and set(parts) <= set(task.all_languages)
    assert not any(part.faults or part.kept for part in parts.values())
    sizes = {language: len(part.examples) for language, part in parts.items()}
    assert min(sizes.values()) >= 8 and len(set(sizes.values())) == 1, (
        f"every language has as many rows: {sizes}"
    )
    scored = {task.sample_tag(split) for split in task.report}
    written = {row["language"] for row in raw(name) if row["split"] in scored}
    assert written == set(parts), "rows in a language that the task does not have are never read"


@pytest.mark.parametrize("name", TARGETS)
def test_reported_texts_are_in_nobodys_training(name: str) -> None:
    reported = {key for part in report(name).values() for key in keys(part)}
    for other in TRAINED_ON.get(name, [name]):
        train, select = training(other)
        assert not reported & (keys(train) | keys(select)), f"{name} reports what {other} trains on"
    if tasks.load(name).format == "span":
        for other in ("squad1", "squad2", "tydiqa"):
            train, select = training(other)
            assert not reported & (keys(train) | keys(select))


def test_premises_of_xnli_are_not_mnlis() -> None:
    premises = {normal(row["premise"]) for row in raw("mnli")}
    assert not premises & {normal(row["sentence1"]) for row in raw("xnli")}
    train = {normal(row["premise"]) for row in raw("mnli") if row["split"] == "train"}
    assert not train & {normal(row["premise"]) for row in raw("mnli") if row["split"] == "select"}


@pytest.mark.parametrize("name", NAMES)
def test_every_row_is_whole_and_written_alike(name: str) -> None:
    rows = list(raw(name))
    splits = Counter(row["split"] for row in rows)
    task = tasks.load(name)
    wanted = ({"train", "select"} if task.train and not task.samples else set()) | (
        {"report"} if task.kind == "target" else set()
    )
    if name in DOMAINS:
        scored = set(splits) - (wanted - {"report"})
        assert scored <= set(task.report) and scored & set(task.domains)
    else:
        assert set(splits) == wanted
    for row in rows:
        for text in _strings(row):
            assert (
                unicodedata.normalize("NFC", text) == text
                and text == text.strip()
                and "\ufffd" not in text
            ), row
            assert not any(unicodedata.category(char) in ("Cc", "Co", "Cs") for char in text), row
    declared = {
        tuple(sorted(rows.columns))
        for rows in (*task.train, *(r for rs in task.report.values() for r in rs))
    }
    declared |= {
        tuple(sorted(part)) for rs in task.report.values() for r in rs for part in r.parts.values()
    }
    for row in rows:
        has = set(row)
        assert any(set(columns) <= has for columns in declared if columns), (
            f"{sorted(has)} is no form of the hub's rows"
        )


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)


@pytest.mark.parametrize("name", NAMES)
def test_labels_are_balanced(name: str) -> None:
    task = tasks.load(name)
    parts = {
        f"report {language}": part
        for language, part in (report(name) if task.kind == "target" else {}).items()
    }
    if task.train:
        parts["train"], parts["select"] = training(name)
    for where, part in parts.items():
        if task.format == "classify":
            counts = Counter(example["label"] for example in part.examples)
            assert set(counts) == set(task.labels) and max(counts.values()) <= 1.34 * min(
                counts.values()
            ), (where, counts)
        elif task.format == "choice":
            for size in {len(example["choices"]) for example in part.examples}:
                counts = Counter(
                    example["label"] for example in part.examples if len(example["choices"]) == size
                )
                assert len(counts) == size or sum(counts.values()) < 2 * size, (
                    f"{where}: a place that is never right: {counts}"
                )
                assert max(counts.values()) <= 0.62 * sum(counts.values()), (where, counts)
        elif task.format == "tag" and task.labels and where == "train":
            used = {tag for example in part.examples for tag in example["tags"]}
            assert set(task.labels) - used <= {
                "X",
                "SYM",
                "_",
            }, f"tags that nothing teaches: {set(task.labels) - used}"
        elif task.scorer == "squad2":
            without = sum(not example["answers"]["text"] for example in part.examples)
            assert 0.2 < without / len(part.examples) < 0.6


@pytest.mark.parametrize("name", TARGETS)
def test_texts_are_in_their_languages_script(name: str) -> None:
    for language, part in report(name).items():
        script = NATIVE.get(language)
        letters: Counter[str] = Counter()
        for example in part.examples:
            if example.get("part") == "target" or (example.get("part") == "gold"):
                continue
            # a choice starts with the English question that is asked of all of them
            whole = [example["context"]] if "choices" in example else texts(example)
            own = example.get("source") or " ".join(whole) or str(example.get("sentence", ""))
            letters.update(unicodedata.name(char, "?").split()[0] for char in own if char.isalpha())
        share = (
            letters[script] / sum(letters.values())
            if script
            else letters["LATIN"] / sum(letters.values())
        )
        assert share > (0.75 if script else 0.95) or language == "ja", (
            f"{language}: {letters.most_common(3)}"
        )


@pytest.mark.parametrize("name", ["xquad", "xnli", "xcopa", "pawsx"])
def test_parallel_rows_have_parallel_golds(name: str) -> None:
    parts = report(name)
    if name == "xquad":
        ids = {
            language: [example["id"] for example in part.examples]
            for language, part in parts.items()
        }
        assert len({tuple(each) for each in ids.values()}) == 1
    else:
        golds = {
            language: [example["label"] for example in part.examples]
            for language, part in parts.items()
        }
        assert len({tuple(each) for each in golds.values()}) == 1


def test_buccs_gold_is_there_and_distractors_too() -> None:
    for language, part in report("bucc").items():
        ids = {
            side: {e["id"] for e in part.examples if e["part"] == side}
            for side in ("source", "target")
        }
        gold = [(e["source_id"], e["target_id"]) for e in part.examples if e["part"] == "gold"]
        assert gold and len(set(gold)) == len(gold)
        assert {source for source, _ in gold} < ids["source"] and {
            target for _, target in gold
        } < ids["target"], language
        sentences = [e["sentence"] for e in part.examples if e["part"] != "gold"]
        assert len(set(sentences)) == len(sentences)


def test_tatoebas_sides_hold_no_sentence_twice() -> None:
    for part in report("tatoeba").values():
        for side in ("source", "target"):
            assert len({normal(example[side]) for example in part.examples}) == len(part.examples)


def test_xcopa_goes_from_siqa_to_copa() -> None:
    train, select = training("xcopa")
    stages = [example["stage"] for example in train.examples]
    assert set(stages) == {0, 1} and stages == sorted(stages)
    assert {example["stage"] for example in select.examples} == {1}
    assert {len(e["choices"]) for e in train.examples if e["stage"] == 0} == {3}


def test_borrowed_rows_are_the_lenders() -> None:
    files = {
        name: locate_training(Embedded(), tasks.load(name), "clean", tasks.load).digests()
        for name in ("mnli", "xnli")
    }
    assert files["mnli"]["train"] == files["xnli"]["train"]


def test_ids_are_unique_within_a_split() -> None:
    for name in NAMES:
        seen: dict[tuple[str, ...], set[str]] = defaultdict(set)
        for row in raw(name):
            identity = next(
                (
                    str(row[key])
                    for key in ("id", "uid", "pairID", "idx", "ind")
                    if row.get(key) is not None
                ),
                None,
            )
            if identity is not None:
                place = (row["split"], row["language"], row.get("part", ""), str("answerA" in row))
                assert identity not in seen[place], f"{name}: {identity} twice in {place}"
                seen[place].add(identity)


def test_the_samples_are_small() -> None:
    files = sorted(samples_dir().glob("*.jsonl"))
    assert {path.stem for path in files} == set(NAMES)
    assert sum(path.stat().st_size for path in files) < 4_000_000
    packed = sum(len(zlib.compress(path.read_bytes())) for path in files)
    assert packed < 1_000_000, f"{packed:,} bytes in the wheel"


def test_a_language_without_samples_is_said() -> None:
    found, lacking = locate_report(Embedded(), tasks.load("xnli"), "validation", ("de", "sw"))
    assert list(found) == ["de"] and lacking == {
        "sw": "the embedded rows of 'xnli' have no language 'sw'"
    }
    with pytest.raises(DataError, match="no rows"):
        Reader().read(tasks.load("xnli"), found["de"], split="report", language="sw", scoring=True)
