"""The drawings of the site, as SVG that stands inside a page. What trains is filled, what is frozen
is outlined, a dashed outline is a copy. Colours are the page's (docs/pages/drawings.css).
"""

from __future__ import annotations

from collections.abc import Callable
from html import escape

__all__ = ["DRAWINGS", "draw"]

HIGH = 30  # of a box, unless it says otherwise


class Drawing:
    """An SVG of `width` × `height` pixels, put together out of boxes, arrows and texts. `title` is
    what is read aloud.
    """

    def __init__(self, width: int, height: int, title: str) -> None:
        self.width, self.height, self.title = width, height, title
        self.parts: list[str] = []

    def box(
        self, x: int, y: int, width: int, text: str, kind: str = "frozen", high: int = HIGH
    ) -> None:
        """A box with its text in the middle. kind: "frozen", "trains" or "copied"."""
        self.parts.append(
            f'<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="{high}" rx="4"/>'
        )
        self.text(x + width // 2, y + high // 2 + 5, text)

    def text(self, x: int, y: int, text: str, anchor: str = "middle", small: bool = False) -> None:
        size = ' class="small"' if small else ""
        self.parts.append(
            f'<text{size} x="{x}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>'
        )

    def line(self, *points: tuple[int, int]) -> None:
        path = "M" + " L".join(f"{x} {y}" for x, y in points)
        self.parts.append(f'<path class="line" d="{path}"/>')

    def arrow(self, *points: tuple[int, int]) -> None:
        """A line with a head at its last point; the last stretch is horizontal or vertical."""
        self.line(*points)
        (x0, y0), (x, y) = points[-2:]
        if x == x0:
            back = 5 if y0 > y else -5
            self.line((x - 4, y + back), (x, y), (x + 4, y + back))
        else:
            back = 5 if x0 > x else -5
            self.line((x + back, y - 4), (x, y), (x + back, y + 4))

    def svg(self) -> str:
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{escape(self.title)}"'
            f' width="{self.width}" height="{self.height}"'
            f' viewBox="0 0 {self.width} {self.height}">{"".join(self.parts)}</svg>'
        )


def _stack() -> Drawing:
    drawing = Drawing(
        620,
        230,
        "A backbone that is frozen; the module mnli, trained first on English rows and then frozen;"
        " the module xnli, trained on top of it on English rows; and the languages in which the"
        " stack is scored",
    )
    rows = ((165, "backbone", "frozen", "XLM-R, pretrained, never changed"),)
    rows += ((100, "module mnli", "frozen", "trained once, in English, then frozen: the parent"),)
    rows += ((35, "module xnli", "trains", "trained on top of it, in English: the child"),)
    for y, text, kind, words in rows:
        drawing.box(20, y, 170, text, kind, high=40)
        drawing.text(215, y + 25, words, "start")
    drawing.arrow((105, 165), (105, 140))
    drawing.arrow((105, 100), (105, 75))
    drawing.arrow((105, 35), (105, 15))
    drawing.text(215, 20, "scored in German, Swahili, Chinese …: zero-shot", "start")
    return drawing


def _bottleneck() -> Drawing:
    drawing = Drawing(
        520,
        130,
        "A bottleneck adapter: the hidden states go down to a narrow width, through a"
        " non-linearity, up again, and are added to what came in",
    )
    drawing.text(30, 85, "h")
    drawing.arrow((45, 80), (95, 80))
    drawing.box(95, 60, 70, "down", "trains", 40)
    drawing.arrow((165, 80), (205, 80))
    drawing.box(205, 67, 60, "relu", "frozen", 26)
    drawing.arrow((265, 80), (305, 80))
    drawing.box(305, 60, 70, "up", "trains", 40)
    drawing.arrow((375, 80), (420, 80))
    drawing.text(430, 85, "+")
    drawing.line((65, 80), (65, 25), (430, 25))
    drawing.arrow((430, 25), (430, 70))
    drawing.arrow((440, 80), (500, 80))
    return drawing


def _lora() -> Drawing:
    drawing = Drawing(
        460,
        140,
        "A LoRA module: beside a frozen linear layer W, the input also goes through the thin"
        " matrices A and B, and both outputs are added",
    )
    drawing.text(25, 75, "x")
    drawing.line((40, 70), (70, 70))
    drawing.arrow((70, 70), (70, 35), (120, 35))
    drawing.box(120, 15, 200, "W", "frozen", 40)
    drawing.arrow((70, 70), (70, 105), (120, 105))
    drawing.box(120, 88, 85, "A, to rank r", "trains", 34)
    drawing.arrow((205, 105), (235, 105))
    drawing.box(235, 88, 85, "B, back", "trains", 34)
    drawing.line((320, 35), (380, 35), (380, 60))
    drawing.line((320, 105), (380, 105), (380, 80))
    drawing.text(380, 75, "+")
    drawing.arrow((390, 70), (440, 70))
    return drawing


def _column(title: str, boxes: tuple[tuple[str, str, str], ...], width: int = 560) -> Drawing:
    """Boxes that the hidden states of one layer go through, from above to below."""
    drawing = Drawing(width, 50 * len(boxes) + 20, title)
    for number, (text, kind, words) in enumerate(boxes):
        y = 10 + 50 * number
        drawing.box(20, y, 170, text, kind)
        drawing.text(210, y + 20, words, "start", small=True)
        if number + 1 < len(boxes):
            drawing.arrow((105, y + HIGH), (105, y + 50))
    return drawing


def _stack_bottleneck() -> Drawing:
    return _column(
        "One layer of a bottleneck stack: attention, feed-forward, the parent mnli, the child xnli,"
        " add and norm, one after the other",
        (
            ("attention", "frozen", "of the backbone"),
            ("feed-forward", "frozen", "of the backbone"),
            ("mnli", "frozen", "the parent: frozen, active"),
            ("xnli", "trains", "the child, which reads what the parent gives"),
            ("add & norm", "frozen", "of the backbone"),
        ),
    )


def _stack_lora() -> Drawing:
    drawing = Drawing(
        480,
        180,
        "One linear layer of a LoRA stack: the frozen weights W, the parent mnli and the child xnli"
        " all read the same input, and their outputs are added",
    )
    drawing.text(25, 95, "x")
    drawing.line((40, 90), (70, 90))
    for y, text, kind in (
        (15, "W", "frozen"),
        (75, "mnli: B A", "frozen"),
        (135, "xnli: B A", "trains"),
    ):
        drawing.arrow((70, 90), (70, y + 15), (120, y + 15))
        drawing.box(120, y, 170, text, kind)
        drawing.line((290, y + 15), (370, y + 15), (370, 90))
    drawing.arrow((370, 90), (440, 90))
    drawing.text(385, 84, "+")
    return drawing


def _init() -> Drawing:
    drawing = Drawing(
        560,
        120,
        "The child xnli starts as a copy of the weights of its parent mnli, and trains them on",
    )
    drawing.box(20, 20, 190, "mnli, as it was trained", "frozen", 40)
    drawing.arrow((210, 40), (330, 40))
    drawing.text(270, 30, "copied", small=True)
    drawing.box(330, 20, 190, "xnli", "trains", 40)
    drawing.text(115, 85, "not part of the new stack", small=True)
    drawing.text(425, 85, "one set of parameters, trained twice", small=True)
    return drawing


def _fuse() -> Drawing:
    drawing = Drawing(
        560,
        200,
        "One layer of a fusion: the output of the feed-forward block goes to the parents mnli and"
        " qqp, side by side; the child xnli attends to both outputs",
    )
    drawing.box(185, 10, 170, "feed-forward")
    drawing.arrow((230, 40), (230, 60), (105, 60), (105, 80))
    drawing.arrow((310, 40), (310, 60), (435, 60), (435, 80))
    drawing.box(20, 80, 170, "mnli")
    drawing.box(350, 80, 170, "qqp")
    drawing.arrow((270, 40), (270, 150))
    drawing.text(280, 100, "query", "start", small=True)
    drawing.arrow((105, 110), (105, 165), (170, 165))
    drawing.arrow((435, 110), (435, 165), (370, 165))
    drawing.box(170, 150, 200, "xnli: attention over both", "trains")
    return drawing


def _memory() -> Drawing:
    drawing = Drawing(
        640,
        190,
        "What a training keeps: the frozen weights, which bits make smaller; the activations, which"
        " smaller parts of a batch and checkpointing make smaller; the small parts that train",
    )
    rows = (
        ("frozen weights", "frozen", 260, "fewer bits; the table on the CPU"),
        ("activations", "frozen", 330, "micro-batches; checkpointing"),
        ("module, gradients, optimizer", "trains", 230, "small, because little trains"),
    )
    for number, (text, kind, width, words) in enumerate(rows):
        y = 15 + 60 * number
        drawing.box(20, y, width, text, kind, 36)
        drawing.text(370, y + 23, words, "start", small=True)
    return drawing


def _splits() -> Drawing:
    drawing = Drawing(
        640,
        150,
        "Train rows teach, a slice of them or rows of their own select the checkpoint, and other"
        " rows, in every language, are reported",
    )
    for x, text, kind, words in (
        (20, "train, English", "trains", "teach the module"),
        (230, "select, English", "frozen", "choose its checkpoint"),
        (440, "report, every language", "frozen", "are scored, once"),
    ):
        drawing.box(x, 30, 180, text, kind, 40)
        drawing.text(x + 90, 92, words, small=True)
    drawing.arrow((200, 50), (230, 50))
    drawing.arrow((410, 50), (440, 50))
    drawing.text(320, 130, "no row stands in two of the boxes (--protocol clean)", small=True)
    return drawing


DRAWINGS: dict[str, Callable[[], Drawing]] = {
    "bottleneck": _bottleneck,
    "fuse": _fuse,
    "init": _init,
    "lora": _lora,
    "memory": _memory,
    "splits": _splits,
    "stack": _stack,
    "stack-bottleneck": _stack_bottleneck,
    "stack-lora": _stack_lora,
}


def draw(name: str) -> str:
    """The figure of that name as HTML. KeyError where there is none."""
    return f'<figure class="drawing">{DRAWINGS[name]().svg()}</figure>'
