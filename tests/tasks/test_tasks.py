"""Every task's declaration: against the hub's schemas, XTREME's language lists, the scorers, and
itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters_xtl import formats, metrics, tasks
from adapters_xtl.base.errors import RequestError
from adapters_xtl.data.columns import INSIDE
from adapters_xtl.metrics.xtreme import averages
from adapters_xtl.runs.hyper import HYPER_FIELDS
from adapters_xtl.tasks import BACK_TRANSLATED, COLUMN_TYPES, Rows, Task
from tests.conftest import shared_dir

NAMES = [name for name in tasks.names() if not tasks.load(name).members]
INTERMEDIATE = {"anli", "mnli", "qqp", "squad2", "squad1", "hellaswag", "ccg", "cosmosqa", "csqa"}
TARGETS = {"xnli", "pawsx", "udpos", "panx", "xquad", "mlqa", "tydiqa", "bucc", "tatoeba", "xcopa"}
# tasks with rows of other domains than their training's
DOMAINS = {"squadshifts", "m2qa", "masakhaner", "mnli_genres", "americasnli", "gum", "ewt"}
# XTREME-R's added languages are not in the hub's google/xtreme
ADDED = {
    "panx": {"qu", "pl", "uk", "az", "lt", "pa", "gu", "ro"},
    "udpos": {"lt", "pl", "uk", "wo", "ro"},
    "tatoeba": {"az", "lt", "pl", "uk", "ro"},
    "xquad": {"ro"},
}
NOT_IN_THE_FILE = {
    "lighteval/siqa",
    "aps/super_glue",
    "google/xquad",
    "ludwigschmidt/squadshifts",
    "UKPLab/m2qa",
    "universal-dependencies/universal_dependencies",
}  # data sets whose schema nobody wrote down there
NO_DEV = {
    "kk",
    "th",
    "tl",
    "yo",
}  # UDPOS has no dev rows in these (and one dev split in some others)


@pytest.fixture(scope="session")
def schemas() -> dict[str, list[dict[str, Any]]]:
    path = shared_dir() / "hub-schemas.json"
    if not path.is_file():
        pytest.skip(f"the hub's schemas are not at {path} (set XTL_SHARED)")
    found: dict[str, list[dict[str, Any]]] = json.loads(path.read_text())
    return found


def wanted(task: Task) -> Iterator[tuple[Rows, str]]:
    """Every form of every rows of a task, with the language ("" for English training rows)."""
    for rows in (*task.train, *task.select, *task.select_xtreme):
        yield from ((form.named(task.code("en")), "") for form in (rows, *rows.instead))
    for language, in_language in task.train_in.items():
        if language == BACK_TRANSLATED:  # no data set on the hub has such rows
            continue
        for rows in filter(None, (in_language.train, in_language.select)):
            yield from (
                (form.named(task.code(language)), language) for form in (rows, *rows.instead)
            )
    for split in task.report.values():
        for rows in split:
            for language in task.all_languages:
                yield from (
                    (form.named(task.code(language)), language) for form in (rows, *rows.instead)
                )


def _declared(kind: Any) -> str:
    """A hub type as one of our column types."""
    if isinstance(kind, dict):
        inner = kind.get("sequence")
        if "class" in kind:
            return "class"
        if isinstance(inner, dict) and "class" in inner:
            return "classes"
        if isinstance(inner, dict):
            return next((name for name, parts in INSIDE.items() if set(inner) == set(parts)), "")
        return "strings" if inner == "string" else ""
    return {"string": "string", "int32": "int", "int64": "int"}.get(kind, "")


@pytest.mark.parametrize("name", NAMES)
def test_columns_configs_and_splits_are_the_hubs(
    name: str, schemas: dict[str, list[dict[str, Any]]]
) -> None:
    task = tasks.load(name)
    looked = 0
    for rows, language in wanted(task):
        if rows.repo.startswith("original/") or rows.repo in NOT_IN_THE_FILE:
            continue
        assert rows.repo in schemas, f"{rows}: a data set that the schemas do not know"
        entry = next((each for each in schemas[rows.repo] if rows.config in each["configs"]), None)
        if entry is None:
            partial = rows.repo == "unimelb-nlp/wikiann"  # the file lists two of its languages
            assert partial or language in ADDED.get(name, set()), f"{rows}: no such config"
            continue
        splits = entry["configs"][rows.config]
        assert rows.split in splits or (name == "udpos" and language in NO_DEV), (
            f"{rows}: it has {', '.join(splits)}"
        )
        looked += 1
        for column, declared in rows.columns.items():
            kind = entry["columns"].get(column)
            assert kind is not None, f"{rows}: no column {column}"
            found = _declared(kind)
            assert found == declared or (declared == "class" and found == "string"), (
                f"{rows}: {column} is {kind}"
            )
            if declared in ("class", "classes") and found != "string":
                names = (kind if declared == "class" else kind["sequence"])["class"]
                assert tuple(names) == task.labels, f"{rows}: {column} has the classes {names}"
    assert looked or name in ("bucc", "ccg", "squadshifts", "m2qa", "gum", "ewt")


def test_what_is_not_in_the_schemas_is_known(schemas: dict[str, list[dict[str, Any]]]) -> None:
    unknown = {rows.repo for name in NAMES for rows, _ in wanted(tasks.load(name))} - set(schemas)
    assert {repo for repo in unknown if not repo.startswith("original/")} <= NOT_IN_THE_FILE


def test_train_rows_of_other_languages_are_of_the_tasks_own_languages_and_tell_their_origin() -> (
    None
):
    scored_on = {"mnli": "xnli", "squad1": "mlqa"}  # where the languages of the translations stand
    for name in NAMES:
        task = tasks.load(name)
        for language, rows in task.train_in.items():
            assert rows.origin in ("native", "translated", "back-translated")
            assert (rows.origin == "back-translated") == (language == BACK_TRANSLATED)
            known = tasks.load(scored_on.get(name, name)).all_languages
            assert language in (*known, BACK_TRANSLATED), f"{name}: {language}"
            assert rows.train.parallel in ("", "row", "id")
        assert not task.train_in or task.train_in["en"].origin == "native"
    with_rows = {name for name in NAMES if tasks.load(name).train_in}
    assert with_rows == {"mnli", "xnli", "squad1", "pawsx", "panx", "udpos", "tydiqa"}
    assert set(tasks.load("udpos").train_in) & {"th", "tl", "yo"} == set()


def test_the_nine_and_the_nine_and_xcopa() -> None:
    kinds = {name: tasks.load(name).kind for name in tasks.names()}
    assert {name for name, kind in kinds.items() if kind == "target"} == TARGETS | DOMAINS
    assert {name for name, kind in kinds.items() if kind == "intermediate"} == INTERMEDIATE | {
        "multi"
    }
    assert set(tasks.load("multi").members) == INTERMEDIATE


@pytest.mark.parametrize("version", ["xtreme", "xtreme-r"])
@pytest.mark.parametrize("name", sorted(TARGETS))
def test_language_sets_are_the_evaluators(name: str, version: str) -> None:
    official = averages.languages_of(version)
    found = tasks.load(name).languages.get(version)
    wanted = official.get("bucc2018" if name == "bucc" else name)
    assert (sorted(found) if found else None) == (sorted(wanted) if wanted else None)
    assert not found or len(set(found)) == len(found)


def test_every_target_of_a_benchmark_is_a_task() -> None:
    known = {"bucc2018" if name == "bucc" else name for name in tasks.names()}
    assert set(averages.languages_of("xtreme")) <= known
    assert set(averages.languages_of("xtreme-r")) - known == {"mewslix", "lareqa"}


@pytest.mark.parametrize("name", tasks.names())
def test_a_declaration_is_whole(name: str) -> None:
    task = tasks.load(name)
    assert (
        (task.format in formats.names() or task.members)
        and task.kind in ("intermediate", "target")
        and task.title
        and task.name == name
    )
    if task.members:
        assert task.members and all(tasks.load(member).train for member in task.members)
        return
    assert task.scorer in metrics.names() and task.metric and task.licence and task.report
    assert set(task.codes) <= set(task.all_languages) and len(set(task.codes.values())) == len(
        task.codes
    )
    assert task.kind == "intermediate" or task.group in (
        "classification",
        "structured",
        "qa",
        "retrieval",
    )
    assert task.kind == "target" or task.all_languages == ("en",)
    for other in (task.train_from, task.samples, *task.drop):
        assert not other or other in tasks.names()
    if task.in_domain_task:
        home = tasks.load(task.in_domain_task)
        trained = [each.train_from or each.name for each in (task, home)]
        assert task.domains and trained[0] == trained[1], "one training is scored in both domains"
    if task.train_from:
        assert tasks.load(task.train_from).train and not task.train
    assert task.train or task.train_from or not formats.load(task.format).has_head
    for rows, _ in wanted(task):
        declared = [rows.columns, *rows.parts.values()]
        assert all(kind in COLUMN_TYPES for columns in declared for kind in columns.values())
        how, _, column = rows.language.partition(":")
        assert not how or (how in ("column", "prefix") and column in rows.columns)


@pytest.mark.parametrize("name", NAMES)
def test_under_clean_nothing_that_selects_is_reported(name: str) -> None:
    task = tasks.load(name)
    if task.kind == "target" and task.train:
        reported = {
            str(form)
            for rows in task.report.values()
            for row in rows
            for code in task.all_languages
            for form in (each.named(task.code(code)) for each in (row, *row.instead))
        }
        chosen = {str(form) for rows in task.select for form in (rows, *rows.instead)}
        assert not reported & chosen


@pytest.mark.parametrize("name", NAMES)
def test_published_settings_have_a_source_and_known_names(name: str) -> None:
    task = tasks.load(name)
    for source, settings in task.published.items():
        assert "full fine-tuning" in source and len(source) > 30
        assert set(settings) <= set(HYPER_FIELDS) and all(value > 0 for value in settings.values())
    if task.kind == "target" and task.train and name != "xcopa" and not task.in_domain_task:
        assert task.published, "a target with training has its literature's settings"


def test_an_unknown_task_is_answered_with_the_nearest() -> None:
    with pytest.raises(RequestError, match="did you mean 'tydiqa'"):
        tasks.load("tydiqua")


def test_a_file_is_a_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "weather.py").write_text(
        "from adapters_xtl.tasks import Task\nTASK = Task(kind='target', format='classify',"
        " metric='accuracy', scorer='accuracy', title='rain or not')\ndef example(row):\n    return"
        " {'text': row['said']}\n"
    )
    monkeypatch.setattr(tasks, "__path__", [*tasks.__path__, str(tmp_path)])
    assert "weather" in tasks.names()
    assert tasks.load("weather").example({"said": "x"}) == {"text": "x"}
    tasks._load.cache_clear()


@pytest.mark.parametrize("name", ["xcopa", "cosmosqa", "hellaswag"])
@pytest.mark.parametrize("bad", [None, ""])
def test_a_missing_part_of_a_choice_is_not_written_out(name: str, bad: str | None) -> None:
    rows = {
        "xcopa": {
            "premise": "It rained.",
            "question": "effect",
            "choice1": bad,
            "choice2": "b",
            "label": 1,
            "idx": 3,
        },
        "cosmosqa": {
            "id": "1",
            "context": "c",
            "question": "q",
            "answer0": bad,
            "answer1": "b",
            "answer2": "c",
            "answer3": "d",
            "label": 1,
        },
        "hellaswag": {
            "ind": 1,
            "ctx_a": "He ran.",
            "ctx_b": "He",
            "endings": [bad, "b"],
            "label": "1",
        },
    }
    assert tasks.load(name).example(rows[name])["choices"][0] == bad


def test_golden_examples() -> None:
    """What `example()` makes of one row each: changing any of it bumps `Task.version`."""
    golden: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "csqa": (
            {
                "id": "x",
                "question": "q",
                "choices": {"label": ["A", "B"], "text": ["s", "t"]},
                "answerKey": "B",
            },
            {"id": "x", "context": "q", "choices": ["s", "t"], "label": 1},
        ),
        "hellaswag": (
            {
                "ind": 4,
                "ctx_a": "He ran.",
                "ctx_b": "Then he",
                "endings": ["sat.", "ate."],
                "label": "0",
            },
            {
                "id": 4,
                "context": "He ran.",
                "choices": ["Then he sat.", "Then he ate."],
                "label": 0,
            },
        ),
        "xcopa": (
            {
                "premise": "It rained.",
                "question": "cause",
                "choice1": "a",
                "choice2": "b",
                "label": 0,
                "idx": 3,
            },
            {
                "id": 3,
                "context": "It rained.",
                "choices": ["What was the cause? a", "What was the cause? b"],
                "label": 0,
                "stage": 1,
            },
        ),
        "xnli": (
            {"language": "de", "sentence1": "a", "sentence2": "b", "gold_label": "neutral"},
            {"text": "a", "pair": "b", "label": "neutral"},
        ),
        "tatoeba": (
            {"source_sentence": "ja", "target_sentence": "yes"},
            {"source": "ja", "target": "yes"},
        ),
    }
    for name, (row, example) in golden.items():
        assert tasks.load(name).example(row) == example
        assert tasks.load(name).version == 1
    siqa = {
        "context": "c",
        "question": "q?",
        "answerA": "x",
        "answerB": "y",
        "answerC": "z",
        "label": "3",
    }
    assert tasks.load("xcopa").example(siqa) == {
        "id": None,
        "context": "c",
        "choices": ["q? x", "q? y", "q? z"],
        "label": 2,
        "stage": 0,
    }
