"""Answers in decomposed text: a span never ends between a character and its marks, under tokenizers
that compose, that split, and that strip marks.
"""

from __future__ import annotations

import unicodedata
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer as Fast
from tokenizers import models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from adapters_xtl.backbones import loading, registry
from adapters_xtl.formats import Item, Lengths, Tokenizer
from adapters_xtl.formats._characters import after_marks, trimmed
from adapters_xtl.formats.span import FORMAT

# (context, answer): written for this test, in NFC here and in NFD where they are used
TEXTS = {
    "Latin (Vietnamese)": ("Ông ấy sinh ở Huế và sống tại Đà Nẵng.", "Đà Nẵng"),
    "Latin (Spanish)": ("La estación está junto al café José.", "café José"),
    "Greek": ("Το πλοίο έφυγε από τη Θεσσαλονίκή χθες.", "Θεσσαλονίκή"),
    "Cyrillic": ("Старый йод стоял в шкафу у Сергей.", "Сергей"),
    "Devanagari": ("राम दिल्ली में रहता है और पढ़ाई करता है।", "पढ़ाई"),
    "Bengali": ("সে ঢাকায় থাকে এবং কলকাতা যায়।", "যায়"),
    "Tamil": ("அவர் சென்னையில் வேலை செய்கிறார்.", "சென்னையில்"),
    "Telugu": ("ఆమె హైదరాబాద్‌లో పుస్తకం రాసింది.", "పుస్తకం"),
    "Arabic": ("وُلِدَ الكاتِبُ في دِمَشْقَ قديمًا.", "دِمَشْقَ"),
    "Hebrew": ("הַסֵּפֶר נִמְצָא בִּירוּשָׁלַיִם הַיּוֹם.", "בִּירוּשָׁלַיִם"),
    "Thai": ("เขาทำงานที่เชียงใหม่", "เชียงใหม่"),
    "Korean": ("그는 서울에서 태어났다", "서울"),
    "Japanese": ("彼はガラスの瓶を買った", "ガラス"),
    "emoji": (
        "Le message se termine par \U0001f44d\U0001f3fd et rien.",
        "par \U0001f44d\U0001f3fd",
    ),
    "Khmer": ("គាត់រស់នៅភ្នំពេញ។", "ភ្នំពេញ"),
}


@pytest.fixture(scope="module")
def xlmr() -> Tokenizer:
    return loading.tokenizer(registry.NAMED["mini"])


def _by_character(normalizer: Any) -> Tokenizer:
    """A BERT-like tokenizer whose pieces are single characters: every edge of the text is one."""
    chars = sorted({char for context, _ in TEXTS.values() for char in _spread(context)})
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "?", *chars, *(f"##{char}" for char in chars)]
    fast = Fast(models.WordPiece({piece: n for n, piece in enumerate(vocab)}, unk_token="[UNK]"))
    fast.normalizer = normalizer
    fast.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    fast.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=fast,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    )


def _spread(text: str) -> set[str]:
    forms = [unicodedata.normalize(form, text) for form in ("NFC", "NFD")]
    return {char for form in forms for char in form + form.lower() if not char.isspace()}


def _gold_outputs(item: Item) -> np.ndarray:
    """What a perfect head gives for an item: (tokens, 4)."""
    rows = np.zeros((item.length, 4), dtype=np.float32)
    first, last = item.gold["span"]
    rows[first, 0] = rows[last, 1] = 10
    rows[first, 2], rows[last, 3] = item.gold["trim"]
    return rows


def _found(context: str, answer: str, tokenizer: Tokenizer) -> tuple[str, bool]:
    """(the answer that perfect outputs give, whether its gold is said to be exact)."""
    start = context.index(answer)
    example = {
        "id": "1",
        "question": "?",
        "context": context,
        "answers": {"text": [answer], "answer_start": [start]},
    }
    items = FORMAT.encode([example], (), tokenizer, Lengths(128), train=True)
    (item,) = items
    (prediction,) = FORMAT.decode([example], items, [_gold_outputs(item)], ())
    return prediction["prediction"], item.extra["exact"]


@pytest.mark.parametrize("script", TEXTS)
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_answers_are_whole_under_xlmrs_tokenizer(xlmr: Tokenizer, form: str, script: str) -> None:
    context, answer = (unicodedata.normalize(form, text) for text in TEXTS[script])
    assert _found(context, answer, xlmr) == (answer, True)


@pytest.mark.parametrize("script", TEXTS)
@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("strip", [True, False], ids=["stripping", "keeping"])
def test_answers_are_whole_where_pieces_are_characters(form: str, script: str, strip: bool) -> None:
    """`strip`: the tokenizer drops the marks, so that no piece covers them."""
    context, answer = (unicodedata.normalize(form, text) for text in TEXTS[script])
    normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=strip)
    assert _found(context, answer, _by_character(normalizer)) == (answer, True)


@pytest.mark.parametrize("script", TEXTS)
def test_no_head_can_part_a_character_from_its_marks(xlmr: Tokenizer, script: str) -> None:
    """Whatever pieces are chosen, and however many characters are left out of them."""
    context = unicodedata.normalize("NFD", TEXTS[script][0])
    rng = np.random.default_rng(0)
    example = {"id": "1", "question": "?", "context": context, "answers": {"text": []}}
    (item,) = FORMAT.encode([example], (), xlmr, Lengths(128), train=False)
    beyond = after_marks(context)
    edges = set(range(len(context) + 1)) if beyond is None else set(beyond.tolist())
    for _ in range(30):
        rows = rng.normal(size=(item.length, 4)).astype(np.float32)
        rows[:, 2:] = rng.integers(0, 6, (item.length, 2))
        (prediction,) = FORMAT.decode([example], [item], [rows], ())
        for span in prediction["n_best"]:
            assert {span["start"], span["start"] + len(span["text"])} <= edges, span


def test_a_mark_without_a_character_is_one() -> None:
    assert after_marks("\u0301a") is None
    starts, ends = trimmed("\u0301a\u0301", np.array([[0, 1], [1, 2]]))
    assert (starts.tolist(), ends.tolist()) == ([0, 1], [1, 3])
