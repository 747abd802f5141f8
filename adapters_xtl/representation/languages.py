"""The families of languages, for the feature `family`.

Top-level families as Glottolog 5 has them (Hammarström et al. 2024, glottolog.org), of the
languages that the tasks of this package have, by ISO 639 code.
"""

from __future__ import annotations

__all__ = ["family_of"]

FAMILIES = {
    "Indo-European": "af bg bn de el en es fa fr gu hi ht it lt mr nl pa pl pt ro ru uk ur",
    "Afro-Asiatic": "am ar ha he",
    "Atlantic-Congo": "ig lg rw sw wo yo zu",
    "Austroasiatic": "vi",
    "Austronesian": "id jv ms tl",
    "Basque": "eu",
    "Dravidian": "ml ta te",
    "Japonic": "ja",
    "Kartvelian": "ka",
    "Koreanic": "ko",
    "Quechuan": "qu",
    "Sino-Tibetan": "my zh",
    "Tai-Kadai": "th",
    "Turkic": "az kk tr",
    "Uralic": "et fi hu",
}
_FAMILY = {code: family for family, codes in FAMILIES.items() for code in codes.split()}


def family_of(language: str) -> str:
    """The family of a language; one that the table lacks counts as a family of its own."""
    return _FAMILY.get(language, language)
