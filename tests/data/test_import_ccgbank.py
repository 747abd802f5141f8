"""`xtl data import ccgbank`: derivations in CCGbank's AUTO form. Every sentence here is made up for
the tests.
"""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters_xtl import tasks
from adapters_xtl.base.errors import DataError, RequestError
from adapters_xtl.data.imports import ccgbank

CATS = (
    r"(<T S[dcl] 0 2> (<T S[dcl] 1 2> (<T NP 0 1> (<L N NNS NNS Cats N>) ) "
    r"(<T S[dcl]\NP 0 2> (<L (S[dcl]\NP)/NP VBP VBP chase (S[dcl]\NP_3)/NP_4>) "
    r"(<T NP 0 1> (<L N NNS NNS mice N>) ) ) ) (<L . . . . .>) )"
)
CAT_WORDS, CAT_TAGS = ["Cats", "chase", "mice", "."], ["N", r"(S[dcl]\NP)/NP", "N", "."]


def header(identity: str) -> str:
    return f"ID={identity} PARSER=GOLD NUMPARSE=1"


def bank(root: Path, files: dict[str, str], place: str = "data/AUTO") -> Path:
    for name, content in files.items():
        path = root / place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return root


def one(identity: str) -> str:
    return f"{header(identity)}\n{CATS}\n"


def complete(root: Path, place: str = "data/AUTO") -> Path:
    """One sentence in each of the sections 00 to 24."""
    return bank(
        root, {f"{n:02d}/wsj_{n:02d}01.auto": one(f"wsj_{n:02d}01.1") for n in range(25)}, place
    )


def read(out: Path, split: str) -> list[dict[str, object]]:
    return list(
        pq.read_table(out / f"original/ccgbank/default/{split}-00000-of-00001.parquet").to_pylist()
    )


@pytest.mark.parametrize("place", ["data/AUTO", "AUTO", "."])
def test_standard_split(tmp_path: Path, place: str) -> None:
    out = tmp_path / "out"
    report = ccgbank.convert(complete(tmp_path / "in", place), out)
    assert list(report.written.values()) == [1, 20, 1]
    assert not report.refused and report.notes == ("not read, as usual: section 01, 22, 24",)
    assert read(out, "validation") == [
        {"id": "wsj_0001.1", "tokens": CAT_WORDS, "ccg_tags": CAT_TAGS}
    ]
    assert [row["id"] for row in read(out, "train")] == [f"wsj_{n:02d}01.1" for n in range(2, 22)]
    assert [row["id"] for row in read(out, "test")] == ["wsj_2301.1"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


def test_written_files_are_what_the_task_declares(tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = ccgbank.convert(complete(tmp_path / "in"), out)
    task = tasks.load("ccg")
    for rows in (
        *task.train,
        *task.select,
        *(form for forms in task.report.values() for form in forms),
    ):
        file = f"{rows.repo}/{rows.config}/{rows.split}-00000-of-00001.parquet"
        assert file in report.written
        described = json.loads(pq.read_schema(out / file).metadata[b"huggingface"])["info"][
            "features"
        ]
        assert set(rows.columns) <= set(described)
        assert described["ccg_tags"] == {
            "feature": {"dtype": "string", "_type": "Value"},
            "_type": "List",
        }


def test_files_and_sentences_keep_their_order(tmp_path: Path) -> None:
    source = complete(tmp_path / "in")
    bank(
        source,
        {"00/wsj_0002.auto": one("wsj_0002.1") + "\n" + one("wsj_0002.2").replace("\n", "\r\n")},
    )
    ccgbank.convert(source, tmp_path / "out")
    assert [row["id"] for row in read(tmp_path / "out", "validation")] == [
        "wsj_0001.1",
        "wsj_0002.1",
        "wsj_0002.2",
    ]


def test_missing_sections_are_reported(tmp_path: Path) -> None:
    source = bank(
        tmp_path / "in", {"00/a.auto": one("a"), "02/b.auto": one("b"), "21/c.auto": one("c")}
    )
    report = ccgbank.convert(source, tmp_path / "out")
    assert len(report.written) == 2
    assert [reason for _, reason in report.refused] == ["no test split: section 23 is not there"]
    assert report.notes == (f"train lacks section {', '.join(f'{n:02d}' for n in range(3, 21))}",)


def test_no_bank(tmp_path: Path) -> None:
    (tmp_path / "in" / "data" / "AUTO" / "00").mkdir(parents=True)
    with pytest.raises(DataError, match=r"\.auto.*data/AUTO"):
        ccgbank.convert(tmp_path / "in", tmp_path / "out")
    with pytest.raises(RequestError, match="no such directory"):
        ccgbank.convert(tmp_path / "nowhere", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_every_malformed_line_is_named(tmp_path: Path) -> None:
    source = complete(tmp_path / "in")
    bank(
        source,
        {
            "03/wsj_0301.auto": (
                f"{CATS}\n{one('a.2')}{header('a.3')}\n{one('a.4')}{header('a.5')}\n"
            ),
            "04/wsj_0401.auto": (
                f"{header('b.1')}\n{CATS[:-2]}\n{header('b.2').replace('=1', '=0')}\n{CATS}\n"
            ),
            "05/wsj_0501.auto": "",
            "06/wsj_0602.auto": one("wsj_0601.1"),
        },
    )
    (source / "data/AUTO/07/wsj_0701.auto").write_bytes(one("wsj_0701.1").encode() + b"\xe9\n")
    with pytest.raises(DataError) as caught:
        ccgbank.convert(source, tmp_path / "out")
    auto = source / "data" / "AUTO"
    for line in (
        f"{auto}/03/wsj_0301.auto, line 1: neither a header",
        f"{auto}/03/wsj_0301.auto, line 4: sentence a.3 has no derivation",
        f"{auto}/03/wsj_0301.auto, line 7: sentence a.5 has no derivation",
        f"{auto}/04/wsj_0401.auto, line 2: sentence b.1: 1 brackets are not closed",
        f"{auto}/04/wsj_0401.auto, line 3: sentence b.2 has 0 derivations, not one",
        f"{auto}/05/wsj_0501.auto: no derivations",
        f"{auto}: sentence wsj_0601.1 is there twice",
        f"{auto}/07/wsj_0701.auto, line 3: no valid UTF-8",
    ):
        assert line in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize(
    ("derivation", "words"),
    [
        ("", "without a leaf"),
        ("no parse", "no node at column 1"),
        ("(<L N NN NN cat>)", "no node"),
        ("(<L N NN NN cat N>) (<L N NN NN cat N>)", "text after"),
        ("(<T NP 0 1> (<L N NN NN cat N>) ) )", "text after"),
        (")", "closes nothing"),
        ("(<T NP 0 2> (<L N NN NN cat N>) )", "declares 2 children and has 1"),
        ("(<T NP 0 0> )", "head is child 0 of 0"),
        ("(<T NP 2 2> (<L N NN NN cat N>) (<L N NN NN dog N>) )", "head is child 2 of 2"),
        ("(<T NP 0 1> (<L N NN NN cat N>)", "not closed"),
    ],
)
def test_malformed_derivations(derivation: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        ccgbank.leaves(derivation)


PLAIN = st.text(
    st.characters(exclude_categories=("Z", "C"), exclude_characters=">"), min_size=1, max_size=6
)
LEAF = st.tuples(st.sampled_from(["N", "NP[nb]/N", r"((S[b]\NP)/NP)/", ",", "conj"]), PLAIN)
TREE = st.recursive(LEAF, lambda inner: st.lists(inner, min_size=1, max_size=2), max_leaves=12)


def spell(tree: object) -> tuple[str, list[tuple[str, str]]]:
    """A derivation in the AUTO form, and its (tag, word) leaves."""
    if isinstance(tree, list):
        parts = [spell(child) for child in tree]
        inner = " ".join(part for part, _ in parts)
        return f"(<T S[dcl] 0 {len(tree)}> {inner} )", [leaf for _, own in parts for leaf in own]
    assert isinstance(tree, tuple)
    return f"(<L {tree[0]} XX YY {tree[1]} {tree[0]}>)", [(tree[0], tree[1])]


@given(TREE)
def test_leaves_of_any_tree(tree: object) -> None:
    derivation, expected = spell(tree)
    words, tags = ccgbank.leaves(derivation)
    assert list(zip(tags, words, strict=True)) == expected
