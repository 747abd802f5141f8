"""The languages and genres that a training was in, in words for cards."""

from __future__ import annotations

from adapters_xtl import tasks
from adapters_xtl.runs.run import Run

__all__ = ["trained_languages"]


def trained_languages(run: Run) -> str:
    """The languages of a run's train rows and where those rows come from, and what they were made
    comparable with, or the genres of them; "" for a run on all of its tasks' English rows.
    """
    hyper = run.hyper
    if hyper.genres:
        return f"English rows of the genres {', '.join(hyper.genres)}"
    if not hyper.languages:
        return ""
    named = []
    for language in hyper.languages:
        origins = {
            tasks.load(name).train_in[language].origin
            for name, _ in run.tasks
            if tasks.exists(name) and language in tasks.load(name).train_in
        }
        named.append(f"{language} ({', '.join(sorted(origins)) or 'origin not known here'})")
    text = ", ".join(named)
    return f"{text}; rows matched over {', '.join(hyper.matched)}" if hyper.matched else text
