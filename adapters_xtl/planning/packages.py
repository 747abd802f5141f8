"""Packages of an extra that a plan needs, said before anything runs."""

from __future__ import annotations

from adapters_xtl import formats, tasks
from adapters_xtl.base.errors import Problems
from adapters_xtl.base.extras import explain_lacking
from adapters_xtl.runs.request import Plan

__all__ = ["check_packages"]

QUANTISED = (8, 4)


def check_packages(planned: Plan) -> None:
    """RequestError, a line for each, where a plan loads quantised weights, trains with the 8-bit
    optimizer or scores a format whose packages are not installed.
    """
    problems = Problems()
    reasons: dict[str, tuple[str, ...]] = {}
    if planned.bits in QUANTISED:
        reasons[f"a backbone of {planned.bits}-bit weights"] = ("bitsandbytes",)
    if any(
        module.run.hyper is not None and module.run.hyper.optimizer == "adamw8bit"
        for module in planned.modules
        if module.stored is None
    ):
        reasons["the optimizer adamw8bit"] = ("bitsandbytes",)
    for name in planned.evaluation.files:
        if format_name := tasks.load(name).format:
            reasons[f"scoring {name}"] = formats.load(format_name).scoring_packages
    for what, packages in reasons.items():
        if message := explain_lacking(what, packages):
            problems.add(message)
    problems.raise_if_any()
