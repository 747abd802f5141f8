"""How far languages are from each other: family, script and word order, in one small table.

WALS codes, families, genera and word order are those of WALS Online (Dryer and Haspelmath,
https://wals.info, CC BY 4.0), read from its data set `cldf-datasets/wals` on GitHub at commit
014143f, which cites the edition of 2014 (`cldf/languages.csv` and, of the features 81A order of
subject, object and verb, 85A adpositions, 86A genitive and noun and 87A adjective and noun,
`cldf/values.csv`). Later releases rename some genera (Vietnamese: Vietic). The commit leaves the
family and genus of Japanese and Korean blank: each stands under its own name here. Scripts are
codes of ISO 15924 and not from WALS. The table stands in for lang2vec, which has had no release
since 2019; URIEL's own distances count many more features.
"""

from __future__ import annotations

from dataclasses import dataclass

from adapters_xtl.tasks import BACK_TRANSLATED

__all__ = ["Language", "distance", "language"]


@dataclass(frozen=True)
class Language:
    """A language in the terms of WALS. `wals`: its code there; `order`: the values of 81A, 85A,
    86A and 87A, "none" where WALS says that no order is dominant, None where it has no value.
    """

    wals: str
    family: str
    genus: str
    script: str
    order: tuple[str | None, ...]


# WALS code, family, genus, script; the features 81A, 85A, 86A and 87A
_TABLE: dict[str, tuple[str, str, str, str, tuple[str | None, ...]]] = {
    "ar": ("ams", "Afro-Asiatic", "Semitic", "Arab", ("VSO", "prep", "NG", "NA")),
    "bg": ("bul", "Indo-European", "Slavic", "Cyrl", ("SVO", "prep", "none", "AN")),
    "bn": ("ben", "Indo-European", "Indic", "Beng", ("SOV", None, None, None)),
    "de": ("ger", "Indo-European", "Germanic", "Latn", ("none", "prep", "NG", "AN")),
    "el": ("grk", "Indo-European", "Greek", "Grek", ("none", "prep", "NG", "AN")),
    "en": ("eng", "Indo-European", "Germanic", "Latn", ("SVO", "prep", "none", "AN")),
    "es": ("spa", "Indo-European", "Romance", "Latn", ("SVO", "prep", "NG", "NA")),
    "fi": ("fin", "Uralic", "Finnic", "Latn", ("SVO", "post", "GN", "AN")),
    "fr": ("fre", "Indo-European", "Romance", "Latn", ("SVO", "prep", "NG", "NA")),
    "hi": ("hin", "Indo-European", "Indic", "Deva", ("SOV", "post", "GN", "AN")),
    "id": ("ind", "Austronesian", "Malayo-Sumbawan", "Latn", ("SVO", "prep", "NG", "NA")),
    "ja": ("jpn", "Japanese", "Japanese", "Jpan", ("SOV", "post", "GN", "AN")),
    "ko": ("kor", "Korean", "Korean", "Kore", ("SOV", "post", "GN", "AN")),
    "ro": ("rom", "Indo-European", "Romance", "Latn", ("SVO", "prep", "NG", "NA")),
    "ru": ("rus", "Indo-European", "Slavic", "Cyrl", ("SVO", "prep", "NG", "AN")),
    "sw": ("swa", "Niger-Congo", "Bantoid", "Latn", ("SVO", "prep", "NG", "NA")),
    "te": ("tel", "Dravidian", "South-Central Dravidian", "Telu", ("SOV", "post", "GN", "AN")),
    "th": ("tha", "Tai-Kadai", "Kam-Tai", "Thai", ("SVO", "prep", "NG", "NA")),
    "tr": ("tur", "Altaic", "Turkic", "Latn", ("SOV", "post", "GN", "AN")),
    "ur": ("urd", "Indo-European", "Indic", "Arab", ("SOV", "post", "GN", "AN")),
    "vi": ("vie", "Austro-Asiatic", "Viet-Muong", "Latn", ("SVO", "prep", "NG", "NA")),
    "zh": ("mnd", "Sino-Tibetan", "Chinese", "Hans", ("SVO", "none", "GN", "AN")),
}  # fmt: skip


def language(code: str) -> Language | None:
    """The language with an ISO code; None where the table lacks it."""
    row = _TABLE.get("en" if code == BACK_TRANSLATED else code)
    return None if row is None else Language(*row)


def distance(code: str, other: str) -> float | None:
    """From 0 (the same in all that the table holds) to 1; None where it lacks one of them.

    The mean of three parts: genealogy (0 in one genus, 0.5 in one family, else 1), script (0 or 1)
    and word order (of the features that have a value for both, the share that differ). So Bengali,
    of which WALS has only 81A, is near or far by that feature alone.
    """
    first, second = language(code), language(other)
    if first is None or second is None:
        return None
    genealogy = 1.0
    if first.family == second.family:
        genealogy = 0.0 if first.genus == second.genus else 0.5
    script = float(first.script != second.script)
    pairs = zip(first.order, second.order, strict=True)
    differing = [a != b for a, b in pairs if a is not None and b is not None]
    return (genealogy + script + sum(differing) / len(differing)) / 3
