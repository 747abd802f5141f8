"""The style of every plot, and plots as SVG and PNG: the same bytes for the same data.

An SVG has a transparent background, and its text and lines have the colour of the text around it
(`currentColor`; a grey where there is none). All colours contrast at least 3 : 1 with white and
with a dark page. Text stays text. A PNG has a white background.
"""

from __future__ import annotations

import html
import io
import re
import textwrap
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from adapters_xtl import methods
from adapters_xtl.base.files import atomic_write
from adapters_xtl.pages.table_text import one_line

__all__ = [
    "COLOURS",
    "DASHES",
    "MARKERS",
    "MOST_INCHES",
    "add_legend",
    "canvas",
    "colours_of",
    "ink",
    "png",
    "save_plot",
    "svg",
    "wrapped",
]

# Okabe and Ito 2008, told apart by colour-blind readers too; their orange, sky blue and purple are
# darkened until they contrast with white
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#C76F9F", "#B57D00", "#3A92C8")
MARKERS = ("o", "s", "^", "D", "v", "P")
DASHES = ("-", "--", "-.", ":")
PNG_INK = "#222222"
SVG_INK = "#767676"  # in an SVG: the colour where nothing around it gives another
MOST_INCHES = 14.0

_FONT = "DejaVu Sans"
_TITLE = {"fontsize": 11, "fontweight": "bold"}
_CAPTION = {"fontsize": 7.5}
_MARGIN = 0.01  # of the width, left of title and caption and right of them
_OTHER_FONTS = 0.03  # of the width, for a reader whose font is wider than the one measured

Draw = Callable[[], Any]  # makes a matplotlib figure, in the style that is set while it is called


@contextmanager
def _style(ink_colour: str, salt: str) -> Iterator[None]:
    """Sets matplotlib's style for the time of the block."""
    from matplotlib import rc_context

    settings = {
        "svg.fonttype": "none",
        "svg.hashsalt": salt,
        "font.size": 9,
        "font.family": [_FONT],
        "text.parse_math": False,  # a name with two $ is no formula
        "axes.unicode_minus": True,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.alpha": 0.25,
        "grid.linewidth": 0.6,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "hatch.linewidth": 0.7,
        "figure.facecolor": "none",
        "axes.facecolor": "none",
        "savefig.facecolor": "none",
        **dict.fromkeys(
            (
                "text.color",
                "axes.edgecolor",
                "axes.labelcolor",
                "xtick.color",
                "ytick.color",
                "grid.color",
            ),
            ink_colour,
        ),
    }
    with rc_context(settings), warnings.catch_warnings():
        # an SVG's reader has fonts of its own for what DejaVu lacks
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def ink() -> str:
    """The colour of text and lines in the style that is set."""
    from matplotlib import rcParams

    return str(rcParams["text.color"])


def canvas(width: float, height: float, *, title: str, caption: str = "") -> Any:
    """A matplotlib figure of about width × height inches, with a title above and a caption below.

    Lines of the title and the caption are broken where the figure ends; it grows by their height.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width = min(max(width, 4.0), MOST_INCHES)
    heading = _filled(title, width, _TITLE)
    below = "\n".join(_filled(line, width, _CAPTION) for line in caption.splitlines())
    height += 0.2 * heading.count("\n") + 0.14 * (below.count("\n") + 1)
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    if heading:
        figure.suptitle(heading, x=_MARGIN, ha="left", **_TITLE)
    if below:
        figure.supxlabel(below, x=_MARGIN, ha="left", **_CAPTION)
    return figure


def _filled(text: str, inches: float, style: Mapping[str, Any]) -> str:
    """The text in lines that are no wider than a figure of `inches` less its margins, measured in
    the font that plots are drawn in. A word that is wider is broken, too.
    """
    from matplotlib.font_manager import FontProperties, findfont, get_font

    properties = FontProperties(family=_FONT, weight=style.get("fontweight", "normal"))
    font = get_font(findfont(properties))
    font.set_size(style["fontsize"], 1000)  # dots an inch: at few, widths are rounded to dots
    room = (1 - 2 * _MARGIN - _OTHER_FONTS) * inches * 1000

    def fits(line: str) -> bool:
        font.set_text(line)
        return bool(font.get_width_height()[0] / 64 <= room)

    lines = [""]
    for word in text.split():
        if fits(longer := f"{lines[-1]} {word}".strip()):
            lines[-1] = longer
        elif fits(word):
            lines.append(word)
        else:
            for letter in f" {word}" if lines[-1] else word:
                if fits(lines[-1] + letter):
                    lines[-1] += letter
                else:
                    lines.append(letter.strip())
    return "\n".join(lines)


def svg(draw: Draw, *, name: str, title: str, description: str = "") -> str:
    """The plot as an `<svg>` element that can stand in an HTML page beside others: its ids begin
    with `name`, and it names nothing outside of itself.
    """
    with _style(SVG_INK, name):
        stream = io.StringIO()
        metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        draw().savefig(stream, format="svg", metadata=metadata, transparent=True)
    text = stream.getvalue()
    text = text[text.index("<svg ") :].replace(SVG_INK, "currentColor")
    text = text.replace("'DejaVu Sans'", "'DejaVu Sans', Verdana, sans-serif")
    # a style element would reach the whole page
    text = re.sub(r"\s*<style.*?</style>", "", text, flags=re.DOTALL)
    prefix = f"{re.sub('[^A-Za-z0-9_-]+', '-', name)}-"
    text = re.sub(r'(\bid="|\bxlink:href="#|url\(#)', rf"\g<1>{prefix}", text)
    words = f"<title>{html.escape(title)}</title>"
    words += f"<desc>{html.escape(description)}</desc>" if description else ""
    head, _, body = text.partition(">")
    inherited = f'role="img" color="{SVG_INK}" stroke-linejoin="round" stroke-linecap="butt"'
    return f"{head} {inherited}>\n {words}{body}"


def png(draw: Draw, *, name: str) -> bytes:
    """The plot as the bytes of a PNG, 150 dots an inch, on white."""
    with _style(PNG_INK, name):
        stream = io.BytesIO()
        draw().savefig(stream, format="png", facecolor="white", metadata={"Software": None})
    return stream.getvalue()


def save_plot(
    draw: Draw, folder: Path, *, name: str, title: str, description: str = ""
) -> list[Path]:
    """Writes `<name>.png` and `<name>.svg` into `folder`, each whole or not at all."""
    files: dict[Path, str | bytes] = {
        folder / f"{name}.png": png(draw, name=name),
        folder / f"{name}.svg": svg(draw, name=name, title=title, description=description),
    }
    for path, content in files.items():
        atomic_write(path, content)
    return list(files)


def add_legend(drawn: Any, handles: Sequence[Any], **options: Any) -> None:
    """Puts a legend outside of the panels, where there is something to explain."""
    if handles:
        drawn.legend(
            handles=handles,
            **{"loc": "outside right upper", "frameon": False, "alignment": "left", **options},
        )


def colours_of(names: Sequence[str]) -> dict[str, str]:
    """Name → its colour: a method has its own in every plot, other names get those that are free,
    which repeat after the last.
    """
    own = {
        name: methods.load(name).colour if name in methods.names() else ""
        for name in dict.fromkeys(names)
    }
    free = [colour for colour in COLOURS if colour not in own.values()] or list(COLOURS)
    without = [name for name, colour in own.items() if not colour]
    return own | {name: free[place % len(free)] for place, name in enumerate(without)}


def wrapped(label: str, inches: float) -> str:
    """The label of an axis in lines that are no longer than the axis."""
    return textwrap.fill(one_line(label), max(12, round(inches * 11)))
