"""A table in all its forms: the same numbers, hostile labels escaped, nothing shown as 0 or blank."""

from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from adapters_xtl.base.errors import RequestError
from adapters_xtl.base.files import read_json
from adapters_xtl.base.typed_json import from_json
from adapters_xtl.grid.results import Entry, Line, Table
from adapters_xtl.pages import latex_tables, study_tables, study_views, table_text

HOSTILE = (
    "a&b_c|d%e",
    "two\nlines, one\tcell",
    "=SUM(A1:A9)",
    "+1",
    "العربية",
    r"\input{/etc/passwd} $x^2$ #1 ~",
    "<b>bold</b> *x* [l](u) `c`",
    "\u202eright\u202c",
)


def transfer_table(labels: tuple[str, ...] = ("mnli", "squad1")) -> Table:
    return Table(
        name="transfer",
        title="Transfer",
        corner="intermediate",
        columns=("pawsx", "panx", "udpos"),
        lines=(
            Line(
                "none",
                (Entry(70.123, 69.0, 71.2), Entry(55.0, note="one seed"), Entry(note="failed")),
            ),
            *(
                Line(
                    label,
                    (
                        Entry(1.249, 0.51, 1.99, "higher", "higher", best=True),
                        Entry(-0.34, verdict="inconclusive", note="one seed"),
                        Entry(),
                    ),
                    difference=True,
                )
                for label in labels
            ),
            Line(
                "qqp",
                (
                    Entry(-0.04, -0.3, 0.2, "equivalent"),
                    Entry(-2.5, -3.0, -2.0, "lower", "inconclusive"),
                    Entry(note="not run"),
                ),
                difference=True,
            ),
        ),
        notes=("points of 0-100, 95 % t-intervals over 3 seeds",),
    )


def test_markdown_shows_signs_marks_intervals_and_what_has_no_number() -> None:
    lines = study_tables.markdown(transfer_table(("mnli",))).split("\n")
    assert lines[0] == "**Transfer**"
    assert lines[4:7] == [
        r"| none | 70.1<br>\[69.0, 71.2\] | 55.0<br>_one seed_ | _failed_ |",
        r"| mnli | **+1.2\***<br>\[+0.5, +2.0\] | (-0.3)<br>_one seed_ | _no number_ |",
        r"| qqp | 0.0°<br>\[-0.3, +0.2\] | -2.5<br>\[-3.0, -2.0\] | _not run_ |",
    ]
    below = "\n".join(lines[7:])
    for words in ("95 % t-intervals over 3 seeds", "inconclusive", "Holm", "margin", "best"):
        assert words in below


def test_notes_explain_only_the_marks_that_are_used() -> None:
    plain = Table("t", "T", "", ("a",), (Line("x", (Entry(1.0),)),), notes=("points",))
    assert table_text.notes(plain) == ("points",)
    failed = Table("t", "T", "", ("a",), (Line("x", (Entry(None, verdict="inconclusive"),)),))
    assert table_text.notes(failed) == ()


def test_a_difference_with_one_seed_shows_nothing_and_is_marked() -> None:
    line = Line("mnli", (Entry(9.0, note="one seed"),), difference=True)
    table = Table("t", "T", "", ("a",), (Line("none", (Entry(50.0, note="one seed"),)), line))
    assert table_text.entry_text(line.entries[0], signed=True).number == "(+9.0)"
    assert table_text.entry_text(table.lines[0].entries[0]).number == "50.0"
    assert "one seed" in table_text.notes(table)[0]


def test_csv_is_a_line_for_each_entry_in_full_precision() -> None:
    rows = list(csv.DictReader(io.StringIO(study_tables.csv(transfer_table()))))
    assert len(rows) == 4 * 3 and tuple(rows[0]) == study_tables.CSV_COLUMNS
    first = next(row for row in rows if (row["line"], row["column"]) == ("mnli", "pawsx"))
    assert first == {
        "line": "mnli", "column": "pawsx", "kind": "difference", "value": "1.249", "low": "0.51",
        "high": "1.99", "verdict": "higher", "holm": "higher", "best": "yes", "note": "",
    }  # fmt: skip
    failed = next(row for row in rows if row["note"] == "failed")
    assert (failed["line"], failed["value"], failed["low"]) == ("none", "", "")
    assert all(row["value"] or row["note"] for row in rows)


def test_latex_has_booktabs_real_minus_signs_bold_and_small_intervals() -> None:
    text = latex_tables.latex(transfer_table(("mnli",)))
    for part in (
        r"\toprule", r"\bottomrule", r"none & 70.1 & 55.0 & \textit{failed} \\",
        r"mnli & \textbf{+1.2$^{*}$} & ($-$0.3) & \textit{no number} \\",
        r" & {\scriptsize {[}+0.5,~+2.0{]}} & {\scriptsize one seed} &  \\", r"95 \% t-intervals",
    ):  # fmt: skip
        assert part in text
    assert text.count(r"\begin{") == text.count(r"\end{") == 2


@pytest.mark.parametrize("label", HOSTILE)
def test_hostile_labels_are_escaped_in_every_form(label: str) -> None:
    table = transfer_table((label,))
    markdown = study_tables.markdown(table).split("\n")[2:7]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in markdown} == {5}
    assert not re.search(r"<(?!br>)", "".join(markdown))
    rows = list(csv.DictReader(io.StringIO(study_tables.csv(table))))
    assert len(rows) == 9 and not any(row["line"].startswith(("=", "+", "-", "@")) for row in rows)
    body = latex_tables.latex(table).split(r"\midrule")[2].split(r"\addlinespace")[0]
    assert len(re.findall(r"(?<!\\)&", body.split(r"\\")[0])) == 3
    assert not re.search(r"(?<!\\)[%#]|\\input|\\b\b", body)
    for text in (*markdown, study_tables.csv(table), body):
        assert "\u202e" not in text and "\t" not in text


def test_letters_without_a_glyph_in_pdflatex_are_told_by_their_code_points() -> None:
    text = latex_tables.latex(transfer_table(("Łódź é", "عر")))
    assert r"\ifdefined\Umathchar عر\else U+0639 U+0631\fi{}" in text
    assert "Łódź é &" in text and "U+0141" not in text


def test_wide_tables_span_both_columns() -> None:
    columns = tuple(f"task{number}" for number in range(11))
    wide = Table("w", "W", "on", columns, (Line("none", tuple(Entry(50.0) for _ in columns)),))
    assert r"\begin{table*}" in latex_tables.latex(wide)


def test_many_columns_go_on_below_and_none_is_lost() -> None:
    columns = tuple(f"language{number}" for number in range(40))
    entries = tuple(Entry(float(number)) for number in range(40))
    text = latex_tables.latex(Table("w", "W", "on", columns, (Line("none", entries),)))
    assert text.count(r"\begin{tabular}") == 3 and text.count(r"\caption") == 1
    rows = [line.split(" & ") for line in text.split("\n") if line.startswith("none")]
    assert [len(row) for row in rows] == [15, 15, 13]
    numbers = [float(cell.removesuffix(r" \\")) for row in rows for cell in row[1:]]
    assert numbers == list(range(40))


def test_the_terminal_shows_labels_as_they_are() -> None:
    console = Console(width=120, file=io.StringIO(), force_terminal=False)
    console.print(study_tables.rich_table(transfer_table(("[bold]x[/bold]",))))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "[bold]x[/bold]" in text and "+1.2*" in text and "failed" in text and "one seed" in text


def test_files_are_named_for_the_table_and_read_back(tmp_path: Path) -> None:
    table = transfer_table(HOSTILE)
    paths = study_tables.save(table, tmp_path / "tables")
    assert [path.name for path in paths] == [
        f"transfer.{kind}" for kind in ("md", "csv", "tex", "json")
    ]
    assert sorted((tmp_path / "tables").iterdir()) == sorted(paths)
    assert from_json(Table, read_json(paths[3])) == table
    before = [path.read_bytes() for path in paths]
    assert study_tables.save(table, tmp_path / "tables") == paths
    assert [path.read_bytes() for path in paths] == before


@pytest.mark.parametrize("name", ["../transfer", "a/b", "", ".hidden", "two\nlines"])
def test_a_name_that_leaves_the_folder_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="letters, digits"):
        study_tables.save(Table(name, "T", "", (), ()), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_table_does_not_take_the_place_of_the_studys_record(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"study\.json is a study's record"):
        study_tables.save(Table("study", "T", "", (), ()), tmp_path)


numbers = st.floats(-100, 100, allow_nan=False)
entries = st.builds(
    Entry,
    value=st.none() | numbers,
    low=st.none() | numbers,
    high=numbers,
    verdict=st.sampled_from(["", "higher", "lower", "equivalent", "inconclusive"]),
    holm=st.sampled_from(["", "higher", "inconclusive"]),
    best=st.booleans(),
    note=st.sampled_from(["", "one seed", "failed"]),
)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    columns = draw(st.lists(st.text(max_size=8), min_size=1, max_size=4))
    lines = draw(
        st.lists(
            st.builds(
                Line,
                label=st.text(max_size=12) | st.sampled_from(HOSTILE),
                entries=st.tuples(*(entries for _ in columns)),
                difference=st.booleans(),
            ),
            min_size=1,
            max_size=4,
        )
    )
    return Table("t", "T", "", tuple(columns), tuple(lines), decimals=draw(st.integers(0, 3)))


def printed_numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"[-+]?[0-9]+(?:\.[0-9]+)?", text)]


@settings(max_examples=60, deadline=None)
@given(tables())
def test_all_forms_have_the_same_numbers(table: Table) -> None:
    rows = list(csv.DictReader(io.StringIO(study_tables.csv(table))))
    places = len(table.columns)
    assert len(rows) == len(table.lines) * places
    markdown_rows = [
        re.split(r"(?<!\\)\|", line)[2:-1] for line in study_tables.markdown(table).split("\n")[4:]
    ][: len(table.lines)]
    body = latex_tables.latex(table).split(r"\midrule", 1)[1].split(r"\bottomrule")[0]
    latex_rows = [
        [re.sub(r"\$-\$", "-", re.sub(r"\$\^\{.*?\}\$", "", cell)) for cell in parts]
        for row in body.replace(r"\midrule", "")
        .replace(r"\addlinespace[2pt]", "")
        .split(r"\\" + "\n")
        if len(parts := re.split(r"(?<!\\)&", row)) == places + 1
    ]
    numbers_of_latex = [row for row in latex_rows if "scriptsize" not in "".join(row[1:])]
    assert len(markdown_rows) == len(table.lines)
    for number, line in enumerate(table.lines):
        for place, entry in enumerate(line.entries):
            row = rows[number * places + place]
            from_markdown = printed_numbers(markdown_rows[number][place])
            if entry.value is None:
                assert row["value"] == "" and row["note"] and from_markdown == []
                continue
            assert float(row["value"]) == entry.value
            expected = [entry.value]
            if entry.low is not None and entry.high is not None:
                expected += [entry.low, entry.high]
                assert float(row["low"]) == entry.low and float(row["high"]) == entry.high
            tolerance = 0.5 * 10**-table.decimals + 1e-9
            assert from_markdown == pytest.approx(expected, abs=tolerance)
            shown = printed_numbers(numbers_of_latex[number][place + 1])
            assert shown == pytest.approx([entry.value], abs=tolerance)


@pytest.mark.parametrize("engine", ["pdflatex", "lualatex"])
def test_latex_compiles(engine: str, tmp_path: Path) -> None:
    if shutil.which(engine) is None:
        pytest.skip(f"{engine} is not installed (Debian: texlive-latex-recommended)")
    table = transfer_table((*HOSTILE, "Łódź é ñ ő", '"quoted" <x> ^ ~ \\ {'))
    columns = (*(f"{label} {number}" for number, label in enumerate(HOSTILE)), "mean without x y z")
    wide = Table(
        "wide", "100 % & more", "", columns, (Line("none", tuple(Entry(50.0) for _ in columns)),)
    )
    for each in (table, wide):
        study_tables.save(each, tmp_path)
    (tmp_path / "paper.tex").write_text(
        r"\documentclass[twocolumn]{article}\usepackage{booktabs,graphicx}\begin{document}"
        r"\input{transfer}\input{wide}\end{document}"
    )
    done = subprocess.run(
        [engine, "-halt-on-error", "-interaction=nonstopmode", "paper.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    log = (tmp_path / "paper.log").read_text(errors="replace")
    too_wide = [float(width) for width in re.findall(r"Overfull \\hbox \(([0-9.]+)pt", log)]
    assert not [width for width in too_wide if width > 1], log[-2000:]


def test_an_answer_counts_the_limits_that_its_ten_lines_leave_out() -> None:
    limits = [f"limit {number}" for number in range(9)]
    record = {
        "question": "Which?",
        "answer": {"headline": "This.", "verdict": "mixed", "exception": "That."},
        "evidence": {"not_for": limits},
        "no_evidence": [],
    }
    lines = study_views.answer_lines(record)
    assert len(lines) == 10
    shown = [line for line in lines if line.startswith("no evidence for: limit")]
    assert lines[-1].startswith(f"{9 - len(shown)} more limits") and len(shown) == 5
    record["evidence"] = {"not_for": limits[:6]}
    assert study_views.answer_lines(record)[-1] == "no evidence for: limit 5"
