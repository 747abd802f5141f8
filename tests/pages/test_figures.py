"""Figures drawn: the data's own numbers as text, the same bytes, legible on white and on dark."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from adapters_xtl import methods
from adapters_xtl.base.errors import RequestError
from adapters_xtl.base.typed_json import from_json, to_json
from adapters_xtl.base.untrusted import Refusal
from adapters_xtl.grid.results import Entry, Figure, Line, Point, Series, Table
from adapters_xtl.pages import dots, figures, heatmaps, plot_style

SVG = "{http://www.w3.org/2000/svg}"
TARGETS = ("pawsx", "panx", "udpos")
TABLE = Table(
    "transfer",
    "Transfer",
    "intermediate",
    TARGETS,
    (
        Line("none", (Entry(70.1, 69.0, 71.2), Entry(55.0, note="one seed"), Entry(note="failed"))),
        Line(
            "mnli",
            (
                Entry(2.0, 1.5, 2.5, "higher", "higher"),
                Entry(-0.4, -1.0, 0.2, "inconclusive", "inconclusive"),
                Entry(note="not run"),
            ),
            difference=True,
        ),
        Line(
            "squad1",
            (Entry(0.0, -0.1, 0.1, "equivalent"), Entry(-2.0, -3.0, -1.0, "lower"), Entry()),
            difference=True,
        ),
    ),
)
CURVE = Series("none", tuple(Point(float(step), 2.0 / (step + 1)) for step in range(5)))
CATEGORIES = Series(
    "lora",
    (
        Point("en", 71.25, 70.0, 72.5, "higher"),
        Point("de", -3.5, -8.0, 1.0, "inconclusive"),
        Point("sw", None, note="failed"),
        Point("th", 2.0, verdict="inconclusive", note="one seed"),
    ),
)
SCATTER = Series("lora", (Point(1.2, 61.0, 60.0, 62.0, note="lora 8-bit", area=3e6),))
FIGURES = {
    "heatmap": Figure("h", "heatmap", "Transfer", table=TABLE, caption="Points."),
    "bars": Figure("b", "bars", "Bars", "language", "points", series=(CATEGORIES,)),
    "curve": Figure("c", "curve", "Curve", "step", "loss", series=(CURVE, replace(CURVE, name="mnli"))),
    "forest": Figure("f", "forest", "Forest", "", "difference (points)", series=(CATEGORIES,)),
    "dumbbell": Figure("d", "dumbbell", "Dumbbell", series=(CATEGORIES, replace(CATEGORIES, name="b"))),
    "scatter": Figure("s", "scatter", "Scatter", "GiB", "accuracy", series=(SCATTER,)),
}  # fmt: skip


def texts(svg: str) -> list[str]:
    return ["".join(node.itertext()).strip() for node in ET.fromstring(svg).iter(f"{SVG}text")]


@pytest.fixture(scope="module")
def drawn() -> dict[str, str]:
    return {kind: figures.svg(figure) for kind, figure in FIGURES.items()}


@pytest.mark.parametrize("kind", FIGURES)
def test_a_figure_is_read_back_from_its_record(kind: str) -> None:
    written = json.loads(json.dumps(to_json(FIGURES[kind])))
    assert from_json(Figure, written) == FIGURES[kind]


def test_a_record_that_draws_nothing_is_refused_in_a_line() -> None:
    written = to_json(FIGURES["curve"])
    written["series"][0]["points"][0]["x"] = True
    with pytest.raises(Refusal, match=r"series\.0\.points\.0\.x.* a number or a text"):
        from_json(Figure, written)
    written["series"][0]["points"][0]["x"] = "many"
    with pytest.raises(RequestError, match=r"figure c: .*'many'"):
        from_json(Figure, written)
    with pytest.raises(RequestError, match="takes a table"):
        Figure("h", "heatmap", "H")
    with pytest.raises(RequestError, match="line x has 1 entries for 2 columns"):
        Table("t", "T", "", ("a", "b"), (Line("x", (Entry(1.0),)),))


@pytest.mark.parametrize("kind", FIGURES)
def test_an_svg_can_stand_in_a_page_beside_others(kind: str, drawn: dict[str, str]) -> None:
    svg = drawn[kind]
    root = ET.fromstring(svg)
    assert svg.startswith("<svg ") and root.attrib["role"] == "img"
    assert [node.text for node in root.iter(f"{SVG}title")] == [FIGURES[kind].title]
    ids = re.findall(r'\bid="([^"]+)"', svg)
    assert len(ids) == len(set(ids))
    assert all(name.startswith(f"{FIGURES[kind].name}-") for name in ids)
    references = re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', svg)
    assert {one or other for one, other in references} <= set(ids)
    outside = set(re.findall(r"https?://[^\"']+", svg))
    assert outside <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert "<style" not in svg and "<image" not in svg and "date" not in svg
    assert texts(svg), "text stays text"


def test_the_same_data_gives_the_same_bytes(drawn: dict[str, str], tmp_path: Path) -> None:
    for kind in ("heatmap", "forest"):
        assert figures.svg(FIGURES[kind]) == drawn[kind]
    files = figures.save(FIGURES["forest"], tmp_path)
    before = [path.read_bytes() for path in files]
    assert [path.name for path in files] == ["f.png", "f.svg"]
    assert before[0].startswith(b"\x89PNG") and before[1].decode() == drawn["forest"]
    assert [path.read_bytes() for path in figures.save(FIGURES["forest"], tmp_path)] == before
    assert sorted(tmp_path.iterdir()) == sorted(files)


def test_a_heat_map_has_the_tables_numbers_and_words(drawn: dict[str, str]) -> None:
    shown = texts(drawn["heatmap"])
    for text in (
        "70.1", "[69.0, 71.2]", "55.0", "one seed", "failed", "+2.0*", "[+1.5, +2.5]", "(-0.4)",
        "not run", "0.0°", "-2.0", "no number", *TARGETS, "none", "mnli", "squad1", "inconclusive",
    ):  # fmt: skip
        assert text in shown
    assert drawn["heatmap"].count("<pattern") == 2, "hatched where inconclusive, and in the key"
    conclusive = replace(TABLE, lines=(*TABLE.lines[:1], replace(TABLE.lines[2])))
    plain = figures.svg(replace(FIGURES["heatmap"], table=conclusive))
    assert "<pattern" not in plain and "inconclusive" not in texts(plain)


def test_colours_of_differences_are_symmetric_around_zero() -> None:
    colours = heatmaps._Colours(TABLE)
    assert (colours.scale.vmin, colours.scale.vmax) == (-2.0, 2.0)
    middle, above, below = (colours.of(value, True) for value in (0.0, 2.0, -2.0))
    assert luminance(middle) > 0.85
    assert luminance(above) == pytest.approx(luminance(below), abs=0.03)
    assert above != below and colours.of(70.1, False) == "none"


def test_one_difference_far_from_the_others_does_not_pale_them() -> None:
    assert heatmaps._limit([1.0, 2.0, 1.5, 40.0]) == 6.0
    assert heatmaps._limit([1.0, 2.0, 3.0]) == 3.0
    assert heatmaps._limit([0.0, 0.0]) == 0.5 and heatmaps._limit([]) == 1.0


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [
        part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("page", ["#ffffff", "#121212", "#0d1117"])
def test_every_colour_can_be_told_from_a_white_and_a_dark_page(page: str) -> None:
    own = [methods.load(name).colour for name in methods.names()]
    for colour in (*plot_style.COLOURS, plot_style.SVG_INK, *filter(None, own)):
        lighter, darker = sorted((luminance(colour), luminance(page)), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 3.0, colour


def test_the_colour_of_ink_is_that_of_the_page(drawn: dict[str, str]) -> None:
    for svg in drawn.values():
        assert "currentColor" in svg
        assert svg.count(plot_style.SVG_INK) == 1, "on the root, for where there is no page"


def overlapping(labels: list[Any], renderer: Any) -> bool:
    boxes = [label.get_window_extent(renderer) for label in labels if label.get_text()]
    return any(one.overlaps(other) for one, other in pairwise(boxes))


def languages_table() -> Table:
    columns = tuple(f"l{number}" for number in range(40))
    entries = (*(Entry(-12.5, verdict="lower") for _ in columns[1:]), Entry(note="not run"))
    return Table("l", "L", "", columns, (Line("mnli", entries, True), Line("qqp", entries, True)))


def large_table() -> Table:
    columns = (*(f"target{number}" for number in range(11)), "mean_without_retrieval")
    entries = tuple(Entry(-12.5, -13.0, -10.25, "lower") for _ in columns)
    lines = tuple(Line(f"intermediate{number}", entries, True) for number in range(12))
    return Table("large", "Large", "", columns, lines)


@pytest.mark.parametrize(
    "figure",
    [
        Figure("large", "heatmap", "Large", table=large_table()),
        Figure("narrow", "heatmap", "Narrow", table=languages_table()),
        Figure(
            "languages",
            "bars",
            "Languages",
            series=tuple(
                Series(name, tuple(Point(f"l{number}", float(number)) for number in range(40)))
                for name in ("none", "mnli")
            ),
        ),
        Figure(
            "names", "bars", "Names",
            series=(Series("", tuple(Point(f"a long name {n}", 1.0) for n in range(12))),),
        ),
        Figure(
            "forest", "forest", "Forest",
            series=(Series("", tuple(Point(f"name {n}", 1.0, 0.5, 1.5) for n in range(30))),),
        ),
    ],
    ids=lambda figure: figure.name,
)  # fmt: skip
def test_labels_do_not_overlap(figure: Figure) -> None:
    with plot_style._style("#222222", "x"):
        plot = figures._draw(figure)
        plot.draw_without_rendering()
        renderer = plot.canvas.get_renderer()
        for panel in plot.axes:
            slanted = any(label.get_rotation() for label in panel.get_xticklabels())
            assert slanted or not overlapping(panel.get_xticklabels(), renderer)
            assert not overlapping(panel.get_yticklabels(), renderer)
        if figure.kind == "heatmap":
            cells = [text.get_window_extent(renderer) for text in plot.axes[0].texts]
            width = plot.axes[0].transData.transform([(0, 0), (1, 0)])[:, 0]
            assert max(cell.width for cell in cells) <= width[1] - width[0]
        frame = plot.bbox
        for panel in plot.axes:
            for label in (*panel.get_xticklabels(), *panel.get_yticklabels()):
                box = label.get_window_extent(renderer)
                assert frame.x0 <= box.x0 and box.x1 <= frame.x1


@pytest.mark.parametrize("text", ["WWWWWWWWW " * 40, "mmmm " * 80, "i " * 400, "m" * 400])
def test_title_and_caption_end_within_the_figure(text: str) -> None:
    with plot_style._style("#222222", "x"):
        plot = figures._draw(replace(FIGURES["dumbbell"], title=text, caption=f"{text}\n{text}"))
        plot.draw_without_rendering()
        for written in (plot._suptitle, plot._supxlabel):
            box = written.get_window_extent(plot.canvas.get_renderer())
            assert box.x0 >= 0 and 0.8 * plot.bbox.x1 < box.x1 <= plot.bbox.x1
            assert plot.bbox.y0 <= box.y0 and box.y1 <= plot.bbox.y1


def test_a_scatter_shows_dots_left_of_0() -> None:
    """Differences may be negative on both axes; bytes never are."""
    for places, left_of_0 in (((-3.0, -1.0, 2.0), True), ((0.5, 9.0), False)):
        panel = plot_style.canvas(4, 4, title="", caption="").subplots()
        dots.draw_dots(panel, [dots.Dot(x, x, None, None, 0, "", "black") for x in places], 0)
        low, high = panel.get_xlim()
        assert low < min(places) and high > max(places)
        assert (low < 0) == left_of_0


def test_what_has_no_number_says_why_in_every_kind(drawn: dict[str, str]) -> None:
    for kind in ("bars", "forest", "dumbbell"):
        assert "failed" in texts(drawn[kind])
    lost = Series("lora", (Point(1.0, 3.0), Point(2.0, None, note="failed")))
    for kind in ("curve", "scatter"):
        svg = figures.svg(Figure("x", kind, "X", series=(lost,)))  # type: ignore[arg-type]
        assert "Not shown: lora at 2.0: failed." in texts(svg)
        nothing = Figure("x", kind, "X", series=(Series("a", (Point(1.0, None),)),))  # type: ignore[arg-type]
        assert "nothing to show" in texts(figures.svg(nothing))


def test_a_forest_plot_writes_its_numbers_and_reaches_to_its_intervals(
    drawn: dict[str, str],
) -> None:
    shown = texts(drawn["forest"])
    assert "(-3.5)  [-8.0, +1.0]" in shown and "(+2.0)  one seed" in shown


@pytest.mark.parametrize("label", ["$x_1$ & <b>", "العربية", "日本語", "two\nlines", '"q" \\'])
def test_hostile_labels_are_text(label: str) -> None:
    table = Table("t", label, label, (label,), (Line(label, (Entry(1.0, note=label),)),))
    series = (Series(label, (Point(label, 1.0),)), Series("b", (Point(label, 2.0),)))
    wanted = " ".join(label.split())
    for figure in (
        Figure("h", "heatmap", label, table=table, caption=label),
        Figure("b", "bars", label, label, label, series=series, caption=label),
    ):
        shown = texts(figures.svg(figure))
        assert shown.count(wanted) >= 2, "neither a formula nor an element"


def test_a_name_that_leaves_the_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="letters, digits"):
        figures.save(replace(FIGURES["curve"], name="../c"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_names_of_dots_keep_off_each_other() -> None:
    with plot_style._style("#222222", "x"):
        drawing = plot_style.canvas(6, 4, title="")
        panel = drawing.subplots()
        crowd = [
            dots.Dot(1.0 + 0.02 * n, 60.0 + 0.1 * n, None, None, 1e6, f"method {n}", "#0072B2")
            for n in range(5)
        ]
        dots.draw_dots(panel, crowd, 1e6)
        drawing.draw_without_rendering()
        dots.name_dots(panel, crowd)
        renderer = drawing.canvas.get_renderer()
        boxes = [text.get_window_extent(renderer) for text in panel.texts]
    for number, box in enumerate(boxes):
        for other in boxes[number + 1 :]:
            assert not box.padded(-1.5).overlaps(other.padded(-1.5))


def test_areas_are_proportional_to_bytes() -> None:
    assert dots._area(2e6, 8e6) == pytest.approx(dots._area(8e6, 8e6) / 4)
    with plot_style._style("#222222", "x"):
        assert [key.get_label() for key in dots.size_keys(4.4e8)] == ["440 MB", "90 MB", "20 MB"]


def test_methods_keep_their_colours() -> None:
    colours = plot_style.colours_of(["somebodys", "lora", "full", "another"])
    assert colours["lora"] == methods.load("lora").colour
    assert len(set(colours.values())) == 4


def test_numbers_can_be_read_on_every_colour_of_a_heat_map() -> None:
    values = [number / 10 for number in range(-20, 21)]
    line = Line("mnli", tuple(Entry(value, verdict="higher") for value in values), difference=True)
    table = Table("t", "T", "", tuple(map(str, values)), (line,))
    with plot_style._style("#222222", "x"):
        panel = figures._draw(Figure("t", "heatmap", "T", table=table)).axes[0]
    assert len(panel.texts) == len(values)
    for number in panel.texts:
        face = number.get_bbox_patch().get_facecolor()
        cell = "#" + "".join(f"{round(255 * part):02x}" for part in face[:3])
        lighter, darker = sorted((luminance(cell), luminance(number.get_color())), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.2, cell
