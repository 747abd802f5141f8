"""Parts that hand-written pages ask for by name, each with a line `<!-- put: NAME -->`: tables that
are made from the package, and drawings.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from adapters_xtl import formats, methods, metrics
from adapters_xtl.backbones.registry import MODEL_TYPES, NAMED
from adapters_xtl.base.errors import Problems, RequestError
from adapters_xtl.runs.hyper import HYPER_FIELDS, ON_A_CPU
from adapters_xtl.runs.settings import SPEED_FIELDS
from docs.generator import command_pages, study_pages, task_pages
from docs.generator.drawings import draw
from docs.generator.markdown import code, number, table

__all__ = ["with_parts"]

_MARK = re.compile(r"^<!-- put: (?P<name>\S+) -->$", re.MULTILINE)


def with_parts(page: str, text: str) -> str:
    """The text of the page `page` with every part in its place. Links in parts are from the root of
    the site; they are turned to where the page lies. KeyError names a part that there is not.
    """
    depth = page.count("/")

    def put(match: re.Match[str]) -> str:
        part = _part(match["name"])
        return re.sub(r"\]\((?=[a-z]+/|[a-z]+\.md)", "](" + "../" * depth, part)

    return _MARK.sub(put, text)


def _part(name: str) -> str:
    kind, _, rest = name.partition("/")
    if kind == "drawing":
        return draw(rest)
    return TABLES[rest]()


def _backbones() -> str:
    rows = [
        (code(name), backbone.source, backbone.location, backbone.note)
        for name, backbone in NAMED.items()
    ]
    return table(("name", "comes from", "what it is", "to know"), rows)


def _model_types() -> str:
    return ", ".join(map(code, sorted(MODEL_TYPES)))


def _settings() -> str:
    rows = []
    for name, item in HYPER_FIELDS.items():
        choices = item.metadata.get("choices")
        if choices:
            values = ", ".join(map(code, choices))
        elif "low" in item.metadata:
            values = f"{item.metadata['low']:,} to {item.metadata['high']:,.12g}"
        else:
            values = f"{item.metadata['items']}, with commas" if item.default == () else "–"
        default = "–" if item.default in ((), "") else code(number(item.default))
        if name == "lr":
            default = "the method's and the backbone's"
        if name in ON_A_CPU:
            default += f", on a CPU {code(number(ON_A_CPU[name]))}"
        rows.append((code(f"train.{name}"), default, values, item.metadata["help"]))
    rows.append(
        (
            code("eval.max_examples"),
            code(0),
            "0 and up",
            "at most so many rows of a language are scored; 0: all",
        )
    )
    rows.append(
        (
            code("eval.merged"),
            code("false"),
            f"{code('true')}, {code('false')}",
            "merge LoRA into the encoder's weights (W + BA) for scoring, in the compute type:"
            " faster, scores may differ by rounding",
        )
    )
    rows += [
        (
            code(f"speed.{name}"),
            code(_toml(item.default)),
            f"{code('true')}, {code('false')}",
            item.metadata["help"],
        )
        for name, item in SPEED_FIELDS.items()
    ]
    return table(("setting", "default", "may be", "what it is"), rows)


def _methods() -> str:
    rows = []
    for name in methods.names():
        method = methods.load(name)
        composed = ", ".join(f"{code(how)} ({what})" for how, what in method.compositions.items())
        bits = ", ".join(map(str, method.bits))
        rows.append((code(name), method.library, composed, bits))
    return table(
        ("`--method`", "library", "how it meets its parents", "bits of the backbone"), rows
    )


def _method_options() -> str:
    rows = []
    for name in methods.names():
        method = methods.load(name)
        for option, value in method.defaults.items():
            other = ", ".join(
                f"{code(_toml(values[option]))} on {code(backbone)}"
                for backbone, values in method.defaults_by_backbone.items()
                if option in values
            )
            rows.append((name, code(f"method.{option}"), code(_toml(value)), other))
        rates = ", ".join(
            f"{code(number(rate))} on {code(backbone)}"
            for backbone, rate in method.learning_rates.items()
        )
        rows.append((name, code("train.lr"), code(number(method.learning_rate)), rates))
    return table(("method", "option", "default", "elsewhere"), rows)


def _toml(value: object) -> str:
    return json.dumps(value) if isinstance(value, bool | str) else str(value)


def _formats() -> str:
    rows = []
    for name in formats.names():
        form = formats.load(name)
        rows.append((code(name), code(form.input_help), form.hub_task or "–"))
    return table(("format", "an input", "its name on the hub"), rows)


def _metrics() -> str:
    return "\n\n".join(f"### {name}\n\n{metrics.get(name).description}" for name in metrics.names())


def _memory() -> str:
    """Predicted bytes of a training on XLM-R Large, by method and budget."""
    from adapters_xtl.cli.commands import plan, recipe

    rows = []
    for method in methods.names():
        for budget in (None, 8.0, 4.0):
            problems = Problems()
            request = recipe.request(
                problems=problems,
                task="xnli",
                on="",
                method=method,
                backbone="xlmr-large",
                data="hub",
                device="cuda",
                set_=["train.max_length=128"],
                set_parents=[],
            )
            try:
                payload, _ = plan.plan(request, budget, problems)
            except RequestError:
                rows.append((method, _gib(budget), "does not fit", "", ""))
                continue
            way = f"{payload['micro_batch']} × {payload['accumulation']}"
            way += ", checkpointing" if payload["checkpointing"] else ""
            way += ", embedding table on the CPU" if payload["embeddings_on_cpu"] else ""
            needed = f"{payload['needs_bytes'] / 2**30:.1f} GiB"
            rows.append((method, _gib(budget), needed, str(payload["bits"]), way))
    return table(("method", "budget", "needed", "bits", "micro-batches"), rows)


def _gib(budget: float | None) -> str:
    return "none" if budget is None else f"{budget:g} GiB"


TABLES: dict[str, Callable[[], str]] = {
    "backbones": _backbones,
    "commands": command_pages.overview,
    "formats": _formats,
    "method-options": _method_options,
    "memory": _memory,
    "methods": _methods,
    "metrics": _metrics,
    "model-types": _model_types,
    "settings": _settings,
    "studies": study_pages.overview,
    "tasks": task_pages.overview,
}
