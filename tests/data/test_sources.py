"""Which files hold which rows: the forms a mirror may have, and what is said where it lacks
something.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adapters_xtl import tasks
from adapters_xtl.base.errors import DataError, RequestError
from adapters_xtl.data.locate import locate, locate_report, locate_training
from adapters_xtl.data.reading import Reader, read_report, read_training
from adapters_xtl.data.repository import MissingRows, local_repository
from adapters_xtl.data.sources import Mirror, open_source
from adapters_xtl.tasks import Rows

LABELS = ["entailment", "neutral", "contradiction"]


def touch(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(path.encode())
    return root


def readme(root: Path, text: str) -> None:
    root.mkdir(parents=True, exist_ok=True)
    (root / "README.md").write_text(f"---\n{text}---\n# a data set\n")


def chosen(root: Path, config: str, split: str, **options: Any) -> list[str]:
    return local_repository("a/b", root, "").split_paths(config, split, **options)


def nli_rows(count: int = 30) -> dict[str, list[Any]]:
    return {
        "premise": [f"p{n}" for n in range(count)],
        "hypothesis": [f"h{n}" for n in range(count)],
        "label": [n % 3 for n in range(count)],
    }


def write(path: Path, rows: Mapping[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(dict(rows)), path)
    return path


@pytest.mark.parametrize(
    "paths",
    [
        ["cfg/train-00000-of-00001.parquet"],
        ["cfg/train-00000-of-00002.parquet", "cfg/train-00001-of-00002.parquet"],
        ["cfg/train-00000-of-00001-0123456789abcdef.parquet"],
        ["cfg/train/0000.parquet", "cfg/train/0001.parquet"],
        ["cfg/train.jsonl"],
        ["cfg/train.csv"],
        ["data/train-00000-of-00001.parquet"],
        ["train.jsonl"],
        ["train-00000-of-00001.parquet"],
    ],
    ids=lambda paths: paths[0],
)
def test_layouts(tmp_path: Path, paths: list[str]) -> None:
    folder = paths[0].split("/")[0] if "/" in paths[0] else ""
    beside = (
        [
            f"{folder}/test-00000-of-00001.parquet",
            f"{folder}/trainer-00000-of-00001.parquet",
            "cfg2/train.csv",
            "dataset_infos.json",
            "README.md",
            ".git/train.csv",
        ]
        if folder
        else ["test.jsonl", "README.md"]
    )
    touch(tmp_path, *paths, *beside)
    assert chosen(tmp_path, "cfg", "train") == paths


def test_the_default_config_lies_under_data(tmp_path: Path) -> None:
    touch(tmp_path, "data/train-00000-of-00001.parquet", "other/train-00000-of-00001.parquet")
    assert chosen(tmp_path, "default", "train") == ["data/train-00000-of-00001.parquet"]


def test_a_languages_rows_are_never_taken_from_elsewhere(tmp_path: Path) -> None:
    touch(tmp_path / "google/xtreme", "data/validation-00000-of-00001.parquet")
    with pytest.raises(MissingRows):
        locate(Mirror(tmp_path), tasks.load("panx").report["validation"][0], "de")
    found, lacking = locate_report(Mirror(tmp_path), tasks.load("panx"), "validation", ("de", "fr"))
    assert not found and set(lacking) == {"de", "fr"}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (
            (
                "configs:\n- config_name: cfg\n  data_files:\n  - split: train\n    path:"
                " files/a-*.parquet\n"
            ),
            ["files/a-1.parquet", "files/a-2.parquet"],
        ),
        (
            (
                "configs:\n- config_name: cfg\n  data_files:\n  - split: train\n    path:\n"
                "    - files/a-2.parquet\n    - files/b.jsonl\n"
            ),
            None,
        ),
        (
            (
                "configs:\n- config_name: cfg\n  data_files:\n  - split: train\n    path:"
                " [files/a-2.parquet, ./files/c.parquet]\n"
            ),
            ["files/a-2.parquet", "files/c.parquet"],
        ),
        ("configs:\n- config_name: cfg\n  data_files: files/c.parquet\n", ["files/c.parquet"]),
        (
            "configs:\n- config_name: cfg\n  data_files: [files/c.parquet, files/a-1.parquet]\n",
            ["files/a-1.parquet", "files/c.parquet"],
        ),
        (
            (
                "configs:\n- config_name: cfg\n  data_files:\n  - split: train\n    path:"
                " files/[ac]*.parquet\n"
            ),
            ["files/a-1.parquet", "files/a-2.parquet", "files/c.parquet"],
        ),
        (
            (
                "configs:\n- config_name: cfg\n  data_files:\n  - split: train\n    path:"
                " '**/deep.parquet'\n"
            ),
            ["files/in/deep.parquet"],
        ),
        (
            (
                "configs:\n- config_name: cfg\n  data_dir: files\n  data_files:\n  - split: train\n"
                "    path: c.parquet\n"
            ),
            ["files/c.parquet"],
        ),
        (
            "configs:\n- config_name: cfg\n  data_dir: by/split\n",
            ["by/split/train-00000-of-00001.parquet"],
        ),
        ("configs:\n- config_name: other\n  data_files: files/c.parquet\n", ["cfg/train.csv"]),
        ("license: mit\n", ["cfg/train.csv"]),
    ],
    ids=[
        "glob",
        "two forms",
        "list",
        "one path",
        "paths",
        "brackets",
        "deep",
        "folder and path",
        "folder",
        "other",
        "none",
    ],
)
def test_configs_of_the_readme_decide(tmp_path: Path, text: str, wanted: list[str] | None) -> None:
    touch(
        tmp_path,
        "files/a-1.parquet",
        "files/a-2.parquet",
        "files/b.jsonl",
        "files/c.parquet",
        "files/in/deep.parquet",
        "cfg/train.csv",
        "by/split/train-00000-of-00001.parquet",
        "by/split/test-00000-of-00001.parquet",
    )
    readme(tmp_path, text)
    if wanted is None:
        with pytest.raises(DataError, match="several forms"):
            chosen(tmp_path, "cfg", "train")
    else:
        assert chosen(tmp_path, "cfg", "train") == wanted


def test_a_star_stays_in_its_folder(tmp_path: Path) -> None:
    touch(tmp_path, "train-1.parquet", "de/train-1.parquet")
    readme(
        tmp_path,
        "configs:\n- config_name: default\n  data_files:\n  - split: train\n    path:"
        " '*.parquet'\n",
    )
    assert chosen(tmp_path, "default", "train") == ["train-1.parquet"]


def test_a_readme_that_is_no_yaml_is_said(tmp_path: Path) -> None:
    touch(tmp_path, "cfg/train.csv")
    readme(tmp_path, "configs: [unclosed\n")
    with pytest.raises(DataError, match=r"README\.md.*YAML"):
        chosen(tmp_path, "cfg", "train")


def test_names_that_are_near_are_offered(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "plain_text/validation-00000-of-00001.parquet",
        "plain_text/train-00000-of-00001.parquet",
    )
    with pytest.raises(MissingRows, match="did you mean 'validation'"):
        chosen(tmp_path, "plain_text", "validatoin")
    with pytest.raises(MissingRows, match="did you mean 'plain_text'"):
        chosen(tmp_path, "plain-text", "train")


@pytest.mark.parametrize(
    ("paths", "said"),
    [
        (
            ["c/train-00000-of-00003.parquet", "c/train-00002-of-00003.parquet"],
            "1 of 3 shards are missing (the first: 0000",
        ),
        (["c/train-00001-of-00002.parquet"], "1 of 2 shards are missing (the first: 00000)"),
        (
            ["c/train-00000-of-00001.parquet", "c/train-00000-of-00001-abc.parquet"],
            "two different writings",
        ),
        (
            [
                "c/train-00000-of-00001.parquet",
                "c/train-00000-of-00002.parquet",
                "c/train-00001-of-00002.parquet",
            ],
            "two different",
        ),
        (["c/train.csv", "c/train.jsonl"], "several forms"),
    ],
)
def test_a_split_is_never_read_in_part_or_twice(
    tmp_path: Path, paths: list[str], said: str
) -> None:
    touch(tmp_path, *paths)
    with pytest.raises(DataError) as caught:
        chosen(tmp_path, "c", "train")
    assert said in str(caught.value) and not isinstance(caught.value, MissingRows)


def test_a_broken_split_is_not_replaced_by_another_form(tmp_path: Path) -> None:
    touch(tmp_path / "nyu-mll/multi_nli", "default/train-00000-of-00002.parquet")
    write(tmp_path / "nyu-mll/glue/mnli/train-00000-of-00001.parquet", nli_rows())
    with pytest.raises(DataError, match="shards are missing"):
        locate(Mirror(tmp_path), tasks.load("mnli").train[0])


FORMS = [
    (
        "pawsx",
        "de",
        "google-research-datasets/paws-x/de/validation-00000-of-00001.parquet",
        {"id": [1, 2], "sentence1": ["a", "b"], "sentence2": ["c", "d"], "label": [0, 1]},
        ["0", "1"],
        "label",
    ),
    (
        "panx",
        "fr",
        "unimelb-nlp/wikiann/fr/validation-00000-of-00001.parquet",
        {"tokens": [["a"], ["b"]], "ner_tags": [[0], [3]]},
        [["O"], ["B-ORG"]],
        "tags",
    ),
    (
        "xnli",
        "sw",
        "facebook/xnli/sw/validation-00000-of-00001.parquet",
        {"premise": ["a", "b"], "hypothesis": ["c", "d"], "label": [2, 1]},
        ["contradiction", "neutral"],
        "label",
    ),
    (
        "xquad",
        "el",
        "google/xquad/xquad.el/validation-00000-of-00001.parquet",
        {
            "id": ["x", "y"],
            "context": ["ab", "cd"],
            "question": ["q", "r"],
            "answers": [{"text": ["b"], "answer_start": [1]}, {"text": ["c"], "answer_start": [0]}],
        },
        ["x", "y"],
        "id",
    ),
    (
        "mlqa",
        "vi",
        "facebook/mlqa/mlqa.vi.vi/validation-00000-of-00001.parquet",
        {
            "id": ["x", "y"],
            "context": ["ab", "cd"],
            "question": ["q", "r"],
            "answers": [{"text": ["b"], "answer_start": [1]}, {"text": ["c"], "answer_start": [0]}],
        },
        ["x", "y"],
        "id",
    ),
    (
        "tydiqa",
        "te",
        "google-research-datasets/tydiqa/secondary_task/validation-00000-of-00001.parquet",
        {
            "id": ["telugu-1", "arabic-2", "telugu-3"],
            "context": ["ab"] * 3,
            "question": ["q"] * 3,
            "answers": [{"text": ["b"], "answer_start": [1]}] * 3,
        },
        ["telugu-1", "telugu-3"],
        "id",
    ),
]


@pytest.mark.parametrize(
    ("name", "language", "path", "rows", "values", "key"), FORMS, ids=lambda value: str(value)[:40]
)
def test_other_published_forms(
    tmp_path: Path,
    name: str,
    language: str,
    path: str,
    rows: dict[str, Any],
    values: list[Any],
    key: str,
) -> None:
    write(tmp_path / path, rows)
    task = tasks.load(name)
    found, lacking = locate_report(Mirror(tmp_path), task, "validation", (language,))
    assert not lacking
    parts, _ = read_report(Reader(strict=True), task, found)
    assert [example[key] for example in parts[language].examples] == values
    assert parts[language].forms[0].startswith("/".join(path.split("/")[:2])), (
        "the form that was read is recorded"
    )


@pytest.mark.parametrize("name", ["mnli", "xnli", "xcopa"])
def test_other_forms_of_training_rows(tmp_path: Path, name: str) -> None:
    siqa = {
        key: [f"{key} {n}" for n in range(30)]
        for key in ("context", "question", "answerA", "answerB", "answerC")
    }
    copa = {
        "premise": [f"p{n}" for n in range(30)],
        "choice1": ["a"] * 30,
        "choice2": ["b"] * 30,
        "question": ["cause"] * 30,
        "label": [n % 2 for n in range(30)],
        "idx": list(range(30)),
    }
    for split in ("train", "validation_matched"):
        write(tmp_path / f"nyu-mll/glue/mnli/{split}-00000-of-00001.parquet", nli_rows())
    write(
        tmp_path / "allenai/social_i_qa/default/train-00000-of-00001.parquet",
        {**siqa, "label": ["1"] * 30},
    )
    write(tmp_path / "aps/super_glue/copa/train-00000-of-00001.parquet", copa)
    files = locate_training(Mirror(tmp_path), tasks.load(name), "clean", tasks.load)
    rows = read_training(Reader(strict=True), tasks.load(name), files, tasks.load)
    train, select = rows.train, rows.select
    early = sum(len(split.examples) for split in rows.earlier)
    assert len(train.examples) + len(select.examples) + early == 60
    assert train.forms[0].startswith("allenai/social_i_qa" if name == "xcopa" else "nyu-mll/glue")


def test_the_first_form_goes_first(tmp_path: Path) -> None:
    write(tmp_path / "nyu-mll/glue/mnli/train-00000-of-00001.parquet", nli_rows())
    write(tmp_path / "nyu-mll/multi_nli/data/train-00000-of-00001.parquet", nli_rows(3))
    assert locate(Mirror(tmp_path), tasks.load("mnli").train[0]).rows.repo == "nyu-mll/multi_nli"


def test_what_lacks_in_every_form_is_said_for_each(tmp_path: Path) -> None:
    (tmp_path / "nyu-mll").mkdir()
    with pytest.raises(MissingRows) as caught:
        locate(Mirror(tmp_path), tasks.load("mnli").train[0])
    assert (
        "nyu-mll/multi_nli" in str(caught.value)
        and "(nor" in str(caught.value)
        and "nyu-mll/glue" in str(caught.value)
    )


def test_training_complaints_come_all_at_once(tmp_path: Path) -> None:
    with pytest.raises(MissingRows) as caught:
        locate_training(Mirror(tmp_path), tasks.load("anli"), "clean", tasks.load)
    lines = str(caught.value).split("\n")
    assert {"stanfordnlp/snli", "facebook/anli"} <= {line.split("'")[1] for line in lines} and len(
        lines
    ) == 3


def test_identity_is_the_files_content_not_its_place(tmp_path: Path) -> None:
    for place in ("one", "two"):
        write(tmp_path / place / "nyu-mll/multi_nli/data/train-00000-of-00001.parquet", nli_rows())
        write(
            tmp_path / place / "nyu-mll/multi_nli/data/validation_matched-00000-of-00001.parquet",
            nli_rows(9),
        )
    one, two = (
        locate_training(Mirror(tmp_path / place), tasks.load("mnli"), "clean", tasks.load).digests()
        for place in ("one", "two")
    )
    assert one == two and one["train"] != one["select"]
    write(tmp_path / "two/nyu-mll/multi_nli/data/train-00000-of-00001.parquet", nli_rows(31))
    changed = locate_training(
        Mirror(tmp_path / "two"), tasks.load("mnli"), "clean", tasks.load
    ).digests()
    assert changed["train"] != one["train"] and changed["select"] == one["select"]


def test_the_readmes_class_names_count_where_the_file_has_none(tmp_path: Path) -> None:
    folder = tmp_path / "nyu-mll/multi_nli"
    write(
        folder / "data/train-00000-of-00001.parquet",
        {"premise": ["a", "b", "c"], "hypothesis": ["d"] * 3, "label": [0, 1, 2]},
    )
    readme(
        folder,
        "dataset_info:\n  features:\n  - name: premise\n    dtype: string\n  - name: label\n   "
        " dtype:\n      class_label:\n        names:\n          '0': contradiction\n          '1':"
        " entailment\n          '2': neutral\n",
    )
    task = tasks.load("mnli")
    located = locate(Mirror(tmp_path), task.train[0])
    part = Reader(strict=True).read(task, [located], split="train", language="en", scoring=False)
    assert [example["label"] for example in part.examples] == [
        "contradiction",
        "entailment",
        "neutral",
    ]


def test_several_configs_in_the_readmes_description(tmp_path: Path) -> None:
    touch(tmp_path, "x/train.csv")
    names = "".join(f"          '{n}': {chr(97 + n)}\n" for n in (10, 1, *range(2, 10), 0))
    readme(
        tmp_path,
        "dataset_info:\n- config_name: x\n  features:\n  - name: tags\n    sequence:\n     "
        f" class_label:\n        names:\n{names}- config_name: y\n  features:\n"
        "  - name: tags\n    list:\n      class_label:\n        names: [u, v]\n",
    )
    repository = local_repository("a/b", tmp_path, "")
    assert repository.class_names("x") == {"tags": tuple("abcdefghijk")}
    assert repository.class_names("y") == {"tags": ("u", "v")}
    assert repository.class_names("z") == {}


def test_sources_by_name(tmp_path: Path) -> None:
    assert open_source("embedded").kind == "embedded" and open_source("hub").kind == "hub"
    assert open_source(str(tmp_path)).kind == "mirror"
    with pytest.raises(RequestError, match="did you mean 'embedded'"):
        open_source("embeded")
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match="a file, not a directory"):
        open_source(str(tmp_path / "file"))
    with pytest.raises(RequestError, match="no such directory"):
        open_source(str(tmp_path / "nowhere"))
    for blank in ("", " "):
        with pytest.raises(RequestError, match="embedded, hub"):
            open_source(blank)


def test_an_empty_directory_lacks_everything_and_says_so(tmp_path: Path) -> None:
    for name in tasks.names():
        task = tasks.load(name)
        if task.train:
            with pytest.raises(MissingRows, match="no data set"):
                locate_training(Mirror(tmp_path), task, "clean", tasks.load)
        for split in task.report:
            found, lacking = locate_report(Mirror(tmp_path), task, split, task.all_languages)
            assert not found and set(lacking) == set(task.all_languages)


def test_a_template_without_a_language_keeps_its_config() -> None:
    rows = Rows("a/b", "c.{code}", "dev", {}, instead=(Rows("d/e", "{code}", "{code}.dev", {}),))
    named = rows.named("xx")
    assert (named.config, named.instead[0].config, named.instead[0].split) == (
        "c.xx",
        "xx",
        "xx.dev",
    )
