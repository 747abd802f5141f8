"""The languages and genres that a training is asked to be in, held against what its tasks have
rows of.
"""

from __future__ import annotations

from collections.abc import Sequence

from adapters_xtl import tasks
from adapters_xtl.base.errors import Problems, clipped, nearest
from adapters_xtl.runs.hyper import Hyper

__all__ = ["check"]


def check(
    members: Sequence[str], hyper: Hyper, protocol: str, flag: str, problems: Problems
) -> bool:
    """Whether the tasks `members` can be trained in `train.languages`, with rows that are matched
    with those in `train.matched`, or on rows of `train.genres`; what is wrong is added to
    `problems`, a line each.
    """
    wrong = Problems()  # its own: what `problems` holds already would not be added again
    languages, matched = hyper.languages, hyper.matched
    if matched and not languages:
        wrong.add(
            f"{flag}: train.matched={','.join(matched)} means nothing without train.languages"
        )
    if languages and hyper.shots:
        wrong.add(f"{flag}: train.languages: train.shots are added to English rows alone")
    if languages and protocol == "xtreme":
        wrong.add(
            f"{flag}: train.languages: --protocol xtreme trains and selects on English rows, as the"
            " benchmark's scripts do; --protocol clean takes other languages"
        )
    for key, codes in (("languages", languages), ("matched", matched)):
        if len(set(codes)) < len(codes):
            wrong.add(f"{flag}: train.{key} names a language twice")
        for member in members if languages else ():
            for code in dict.fromkeys(codes):
                if problem := _lacking(member, code):
                    wrong.add(f"{flag}: train.{key}: {problem}")
    if matched and (unmatched := [code for code in languages if code not in matched]):
        wrong.add(
            f"{flag}: train.matched={clipped(','.join(matched))} lacks"
            f" {clipped(', '.join(unmatched))}, which is"
            " trained in; it names every language that is to be comparable"
        )
    for member in members if hyper.genres else ():
        if problem := _wrong_genres(member, hyper):
            wrong.add(f"{flag}: train.genres: {problem}")
    for message in wrong.messages:
        problems.add(message)
    return not wrong.messages


def _wrong_genres(name: str, hyper: Hyper) -> str:
    """Why a task cannot be trained on rows of these genres; "" where it can."""
    genres = tasks.load(name).genres
    if not genres:
        having = (other for other in tasks.names() if tasks.load(other).genres)
        return f"nothing tells the genres of the rows of '{name}'; of {', '.join(having)} it does"
    for genre in hyper.genres:
        if genre not in genres:
            return f"'{name}' has no train rows of '{clipped(genre)}'{nearest(genre, genres)}"
    if len(set(hyper.genres)) < len(hyper.genres):
        return "names a genre twice"
    if hyper.languages:
        return "the rows of train.languages tell no genres"
    return "train.shots are added to rows of all genres alone" if hyper.shots else ""


def _lacking(name: str, code: str) -> str:
    """Why a task cannot be trained in a language; "" where it can."""
    train_in = tasks.load(name).train_in
    if code in train_in:
        return ""
    if not train_in:
        others = (
            other for other in tasks.names() if code in tasks.load(other).train_in and code != "en"
        )
        named = ", ".join(others)
        hint = f"; rows in '{clipped(code)}' have {named}" if named else ""
        return f"'{name}' has train rows in one language alone{hint}"
    return f"'{name}' has no train rows in '{clipped(code)}'{nearest(code, train_in)}"
