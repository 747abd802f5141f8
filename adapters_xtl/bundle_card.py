"""The model card of a bundle, from its bundle.json: the hub's metadata block and what a reader must know.

It says only what the record holds. Rows are called what they are known to be: a mirror's rows wear a data set's columns,
which does not make them that data set. "Zero-shot" stands only where the backbone is known to have seen no labels.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from adapters_xtl import tasks
from adapters_xtl.card import score_table
from adapters_xtl.fingerprint import NAMED
from adapters_xtl.hub import module_tag
from adapters_xtl.spec import Task

__all__ = ["bundle_card", "repo_of"]

LIBRARY = {"bottleneck": "adapters", "lora": "peft", "full": "transformers"}
# pretrained on text alone, or not at all: no task's labels
UNLABELLED = ("FacebookAI/xlm-roberta-large", "FacebookAI/xlm-roberta-base", NAMED["tiny"].location)
MINI_BASE = "intfloat/multilingual-e5-small"


def repo_of(form: str) -> str:
    """The data set of a form such as `nyu-mll/multi_nli [default] train`."""
    return form.split(" [")[0]


def bundle_card(record: Mapping[str, Any], stack: Sequence[str], fused: Sequence[str] = ()) -> str:
    """Markdown. `stack`: tasks of the modules that are loaded, the bundle's own last; `fused`: the names that a fusion
    layer has for its parents."""
    data, backbone = record["data"], record["backbone"]
    between = "+" if record["compose"] == "fuse" else ">"
    chain = ">".join([*filter(None, [between.join(parent["task"] for parent in record["parents"])]), record["task"]])
    lines = [_metadata(record), f"# {chain} · {record['method']} on {backbone['name']}", "", _summary(record), ""]
    lines += ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in _facts(record)), ""]
    lines += ["## Training data", "", *_data(record), ""]
    if record["metrics"]:
        lines += ["## Scores", "", *_scores(record)]
    elif data["source"] == "embedded":
        lines += ["## Scores", "", "None: it was trained and scored on the sample rows that ship with adapters_xtl. They show "
                  "that the pipeline works and measure nothing.", ""]  # fmt: skip
    else:
        lines += ["## Scores", "", "None are on its record.", ""]
    lines += ["## Use", "", *_use(record, stack, fused), ""]
    if record["parents"]:
        lines += ["## Parents", "", "It gives its own results only above exactly these modules "
                  "(`xtl hub pull` finds and verifies them):", "", "| task | sha256 of the module | where |", "|---|---|---|"]  # fmt: skip
        lines += [f"| {parent['task']} | `{parent['sha256']}` | {', '.join(parent['where']) or 'not on record'} |"
                  for parent in record["parents"]] + [""]  # fmt: skip
    lines += ["## Verification", "", f"Module sha256 `{record['module_sha256']}`, backbone fingerprint "
              f"`{backbone['fingerprint']}`, run `{record['id']}`. `manifest.json` holds every file's sha256; `xtl hub verify "
              "DIR` checks them, the shapes of all tensors and the lineage. The bundle holds safetensors and JSON only.", ""]  # fmt: skip
    lines += ["## Licence", "", _licence(record), ""]
    return "\n".join(lines)


def _metadata(record: Mapping[str, Any]) -> str:
    """The YAML block that the hub reads."""
    import yaml

    backbone, data = record["backbone"], record["data"]
    base = MINI_BASE if backbone["name"] == "mini" else backbone["location"]
    languages = {"en": None} if data["train"] else {}
    for entry in record["metrics"].values():
        languages |= dict.fromkeys(entry["languages"])
    licence = {"license": record["licence"]}
    if record["licence"] == "other":
        licence["license_name"] = "terms-of-the-training-data"
    block: dict[str, Any] = {
        "language": list(languages),
        **licence,
        "library_name": LIBRARY[record["method"]],
        "base_model": [base] if re.fullmatch(r"[\w.-]+/[\w.-]+", base) else [],
        "datasets": sorted({repo_of(form) for form in _claimed(record)}),
        "metrics": sorted({entry["metric"] for entry in record["metrics"].values()}),
        "tags": ["adapters_xtl", record["method"], record["task"], "cross-lingual", module_tag(record["module_sha256"])],
    }
    text: str = yaml.safe_dump(block, sort_keys=False, allow_unicode=True)
    return f"---\n{text}---\n"


def _train_forms(record: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(form for part in record["data"]["train"].values() for form in part["forms"]))


def _claimed(record: Mapping[str, Any]) -> list[str]:
    """Train forms whose data set may be named as what it was trained on."""
    data = record["data"]
    if data["source"] == "hub":
        return _train_forms(record)
    notes = data.get("notes", {})
    return [form for form in _train_forms(record) if form in notes and not _stands_in(notes[form])] if not data["rows"] else []


def _stands_in(note: str) -> bool:
    return bool(re.match(r"stand[- ]?in\b", note, re.IGNORECASE))


def _summary(record: Mapping[str, Any]) -> str:
    what = {"bottleneck": "A bottleneck adapter", "lora": "A LoRA module", "full": "All weights"}[record["method"]]
    if record["compose"] == "fuse":
        what = "An AdapterFusion layer"
    title = _task(record["task"]).title if _task(record["task"]) else record["task"]
    above = ""
    if record["parents"]:
        names = " and ".join(parent["task"] for parent in record["parents"])
        how = record["composition"] or record["compose"]
        above = f", started as a copy of {names}" if record["compose"] == "init" else f", trained above {names} ({how})"
    noted = f" {NAMED[record['backbone']['name']].note}" if record["backbone"]["name"] in NAMED else ""
    name = record["backbone"]["name"]
    return f"{what} for {title} on the frozen encoder {name}{above}. It is used with adapters_xtl or with {_library(record)} alone." + (
        f"\n\nThe encoder: {noted.strip()}" if noted.strip() else "")  # fmt: skip


def _library(record: Mapping[str, Any]) -> str:
    return LIBRARY[record["method"]]


def _task(name: str) -> Task | None:
    return tasks.load(name) if name in tasks.names() else None


def _facts(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    backbone, run, trained = record["backbone"], record["run"], record["trained"]
    revision = f", revision `{backbone['revision'][:12]}`" if backbone["revision"] else ""
    options = ", ".join(f"{key} {value}" for key, value in record["options"].items()) or "the library's defaults"
    facts = [("backbone", f"{backbone['name']} ({backbone['location']}{revision}), {backbone['bits']}-bit weights, "
              f"{backbone['dtype']} compute"), ("method", f"{record['method']}: {options}")]  # fmt: skip
    for task, labels in record["labels"].items():
        if labels:
            shown = ", ".join(labels[:12]) + (f", … ({len(labels)} in all)" if len(labels) > 12 else "")
            facts.append((f"labels of {task}", shown))
    if trained:
        hyper = run["hyper"]
        facts += [
            ("trainable parameters", f"{trained['trainable_parameters']:,} of {trained['total_parameters']:,} "
             f"({trained['head_parameters']:,} in the head)"),
            ("training", f"{trained['steps']} steps, {trained['examples']:,} examples, learning rate {hyper['lr']:g}, batch "
             f"{hyper['batch_size']}, at most {hyper['max_length']} tokens, seed {record['seed']}, protocol {record['protocol']}"),
        ]  # fmt: skip
    if record["versions"]:
        names = ("adapters-xtl", "adapters", "peft", "transformers", "torch")
        facts.append(("versions", ", ".join(f"{name} {record['versions'][name]}" for name in names
                                            if name in record["versions"])))  # fmt: skip
    return facts


def _data(record: Mapping[str, Any]) -> list[str]:
    data = record["data"]
    if data["source"] == "foreign":
        return [f"Not on record: it was not trained by adapters_xtl but taken in from a module that {_library(record)} saved."]
    if not data["train"]:
        return ["None: it is as it was drawn, before any training."]
    lines = []
    for task, part in data["train"].items():
        count = f"{part['examples']:,} examples" + (f" of {part['rows']:,} rows" if part["rows"] != part["examples"] else "")
        lines.append(f"- {task}: {count}, {_what(data, part['forms'])}")
    digests = record["run"]["data"].get("train", [])
    if data["source"] != "embedded" and digests:
        lines += ["", f"sha256 of the files read: {', '.join(f'`{sha[:16]}…`' for sha in digests[:8])}"
                  + (f" and {len(digests) - 8} more" if len(digests) > 8 else "")]  # fmt: skip
    return lines


def _what(data: Mapping[str, Any], forms: Iterable[str]) -> str:
    """What rows are, as far as it is known."""
    if data["source"] == "embedded":
        return "the sample rows that ship with adapters_xtl (written for it, not taken from the data set the task is named after)"
    said = []
    for form in forms:
        note = data.get("notes", {}).get(form)
        revision = data["revisions"].get(repo_of(form), "")
        if data["source"] == "hub":
            said.append(f"{form}" + (f" at revision `{revision[:12]}`" if revision else ""))
        elif data["rows"]:
            said.append(f"{data['rows']} (in the columns of {form})")
        elif note is None:
            said.append(f"rows of a local directory in the columns of {form}; that they are that data set is not on record")
        elif _stands_in(note):
            said.append(f"not {form}, whose columns they have: {note}")
        else:
            said.append(form + (f", {note}" if note else "") + ", as the mirror they were read from states")
    return "; ".join(said)


def _scores(record: Mapping[str, Any]) -> list[str]:
    lines: list[str] = []
    for name, entry in record["metrics"].items():
        task = _task(name)
        title = f": {task.title}" if task else ""
        forms = record["data"]["report"].get(name, [])
        lines += [f"### {name}{title}, split {entry['split']}, protocol {entry['protocol']}", ""]
        lines += [f"Rows: {_what(record['data'], forms)}.", ""] if forms else []
        if entry.get("selected_on"):
            lines += ["The same rows chose the checkpoint, so this score is optimistic.", ""]
        lines += [_transfer(record, name, entry), ""] if _transfer(record, name, entry) else []
        lines += score_table(entry)
        notes = list(task.notes) if task else []
        lines += [f"- {note}" for note in notes] + [""] * bool(notes)
    return lines


def _transfer(record: Mapping[str, Any], name: str, entry: Mapping[str, Any]) -> str:
    """What may be said of languages other than English."""
    others = [language for language in entry["languages"] if language != "en"]
    if not others:
        return ""
    if record["backbone"]["location"] in UNLABELLED:
        return (f"Zero-shot in {', '.join(others)}: modules and head were trained on English rows only, and the backbone has "
                "seen no labels.")  # fmt: skip
    return (f"Trained on English rows, scored in {', '.join(others)}. Whether the backbone has seen labels of this task before "
            "is not known, or it has: so this is no claim of transfer without labels.")  # fmt: skip


def _use(record: Mapping[str, Any], stack: Sequence[str], fused: Sequence[str]) -> list[str]:
    folders: list[str] = []
    for name in stack:
        folders.append(name if name not in folders else f"{name}_{folders.count(name) + 1}")
    task = record["task"]
    target = "TARGET-TASK"
    known = [name for name in ("xnli", "pawsx", "xquad") if name != task]
    target = known[0]
    lines = ["With adapters_xtl (`ID` is this bundle's name on its hub, or its directory):".replace("`ID` is", "by"), "", "```sh"]
    lines = ["With adapters_xtl, from the directory that holds this bundle as `" + folders[-1] + "`:", "", "```sh",
             f"xtl hub verify {folders[-1]}",
             f"xtl recipe {target} --on {folders[-1]} --method {record['method']} --backbone {record['backbone']['name']}",
             "```", ""]  # fmt: skip
    lines += [f"With {_library(record)} alone; {_named(folders)}:", "", "```python", *_snippet(record, folders, fused), "```"]
    if record["labels"]:
        lines += ["", "`head/<task>/model.safetensors` holds the head: plain linear layers over the last hidden states, described "
                  "in `config.json` beside it."]  # fmt: skip
    return lines


def _named(folders: Sequence[str]) -> str:
    names = ", ".join(f"`{name}`" for name in folders)
    return f"the bundle lies in the directory {names}" if len(folders) == 1 else f"the bundles lie in the directories {names}"


def _snippet(record: Mapping[str, Any], folders: Sequence[str], fused: Sequence[str]) -> list[str]:
    """Python that loads the stack with the library alone; it leaves `model`."""
    backbone, method = record["backbone"], record["method"]
    if method == "full":
        return ["from transformers import AutoModel", "",
                f'model = AutoModel.from_pretrained("{folders[-1]}/module", add_pooling_layer=False).eval()']  # fmt: skip
    name, revision = backbone["location"], backbone["revision"]
    if backbone["name"] in ("mini", "tiny"):
        first = ["from adapters_xtl import backbones, fingerprint  # this encoder is not on a hub", ""]
        load = [f'encoder, tokenizer = backbones.load(fingerprint.resolve("{backbone["name"]}"))']
    else:
        pinned = f', revision="{revision}"' if revision else ""
        first = ["from transformers import AutoModel", ""]
        load = [f'encoder = AutoModel.from_pretrained("{name}"{pinned}, add_pooling_layer=False)']
    if method == "lora":
        links = [f'model = PeftModel.from_pretrained(encoder, "{folders[0]}/module", adapter_name="{folders[0]}")',
                 *(f'model.load_adapter("{each}/module", adapter_name="{each}")' for each in folders[1:])]  # fmt: skip
        active = [f"model.base_model.set_adapter({list(folders)!r})  # active modules add up"] if len(folders) > 1 else []
        return ["from peft import PeftModel", *first, *load, *links, *active, "model.eval()"]
    names = list(fused) if record["compose"] == "fuse" else list(folders)
    loads = [f'model.load_adapter("{folder}/module", load_as="{each}", use_safetensors=True)'
             for folder, each in zip(folders, names, strict=False)]  # fmt: skip
    if record["compose"] == "fuse":
        block = "Fuse"
        loads.append(f'model.load_adapter_fusion("{folders[-1]}/module", use_safetensors=True)')
    else:
        block = "Stack"
    quoted = ", ".join(f'"{each}"' for each in names)
    return ["import adapters", f"from adapters.composition import {block}", *first, *load, "adapters.init(encoder)",
            "model = encoder", *loads, f"model.active_adapters = {block}({quoted})", "model.eval()"]  # fmt: skip


def _licence(record: Mapping[str, Any]) -> str:
    terms = {name: each.licence for name in record["data"]["train"] if (each := _task(name)) and each.licence}
    if record["data"]["source"] == "embedded":
        return f"These weights: {record['licence']}."
    stated = "; ".join(f"{name}: {text}" for name, text in terms.items())
    if record["licence"] == "other":
        own = "No licence of their own was chosen for these weights; the terms of the data they were trained on apply."
    else:
        own = f"These weights: {record['licence']}."
    return f"{own}" + (f" Data sets of these tasks, as their sources state: {stated}." if stated else "")
