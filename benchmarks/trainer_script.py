"""The script one would write by hand: `transformers.Trainer` with `peft` (LoRA) or `AdapterTrainer`
with `adapters` (bottleneck), on one cut of rows; prints one line of JSON.

    python -m benchmarks.trainer_script JOB.json

"stock" is what the libraries' documentation shows: float32, batches in random order, padded to
their longest row. "tuned" adds what an expert would: bf16 and `group_by_length`. `train_speed.py`
writes the job (see `Job`) and starts this.

The timed part is `train()` and one `evaluate()` on the dev rows. Then the dev rows are predicted
and scored by the package's metrics.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

IGNORED = -100
LINEAR = ("query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense")


@dataclass(frozen=True)
class Job:
    """What is trained.

    format     "classify" (pairs), "tag" or "span"
    train, dev parquet files in the hub's columns
    parents    module directories that lie below, frozen, lowest first
    hyper      as a run of the package has them
    """

    tuned: bool
    format: str
    scorer: str
    metric: str
    labels: list[str]
    train: str
    dev: str
    encoder: str
    method: str
    options: dict[str, Any]
    parents: list[str]
    from_layer: int
    hyper: dict[str, Any]
    seed: int
    device: str


# ---------------------------------------------------------------------- rows → features


def label_ids(rows: Any, column: str, labels: Sequence[str]) -> Any:
    """A function from the rows' classes (names or the file's numbers) to the task's numbers."""
    feature = rows.features[column]
    names = getattr(getattr(feature, "feature", feature), "names", None)
    number = {name: place for place, name in enumerate(labels)}
    return lambda value: number[names[value] if isinstance(value, int) else value]


def pairs(rows: Any, tokenizer: Any, job: Job) -> Any:
    label_id = label_ids(rows, "label", job.labels)

    def encode(batch: dict[str, list[Any]]) -> dict[str, Any]:
        encoded = tokenizer(
            batch["premise"],
            batch["hypothesis"],
            truncation=True,
            max_length=job.hyper["max_length"],
        )
        encoded["labels"] = [label_id(value) for value in batch["label"]]
        return encoded

    return rows.map(encode, batched=True, remove_columns=rows.column_names)


def tagged(rows: Any, tokenizer: Any, job: Job) -> Any:
    label_id = label_ids(rows, "ner_tags", job.labels)

    def encode(batch: dict[str, list[Any]]) -> dict[str, Any]:
        encoded = tokenizer(
            batch["tokens"],
            is_split_into_words=True,
            truncation=True,
            max_length=job.hyper["max_length"],
        )
        encoded["labels"] = [
            [
                label_id(tags[word]) if word is not None and word != before else IGNORED
                for before, word in zip([None, *words], words, strict=False)
            ]
            for tags, words in (
                (tags, encoded.word_ids(number)) for number, tags in enumerate(batch["ner_tags"])
            )
        ]
        return encoded

    return rows.map(encode, batched=True, remove_columns=rows.column_names)


def spans(rows: Any, tokenizer: Any, job: Job) -> Any:
    """As transformers' run_qa.py: windows of the context, an answer outside of one is at `<s>`."""

    def encode(batch: dict[str, list[Any]]) -> dict[str, Any]:
        encoded = tokenizer(
            batch["question"],
            batch["context"],
            truncation="only_second",
            max_length=job.hyper["max_length"],
            stride=min(job.hyper["stride"], job.hyper["max_length"] // 3),
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        owners = encoded.pop("overflow_to_sample_mapping")
        starts, ends = [], []
        for number, (offsets, owner) in enumerate(
            zip(encoded["offset_mapping"], owners, strict=True)
        ):
            answers = batch["answers"][owner]
            low, high = _answer(answers)
            parts = encoded.sequence_ids(number)
            inside = [
                place
                for place, (part, (first, last)) in enumerate(zip(parts, offsets, strict=True))
                if part == 1 and first < high and last > low
            ]
            context = [offsets[place] for place, part in enumerate(parts) if part == 1]
            whole = bool(context) and context[0][0] <= low and context[-1][1] >= high
            starts.append(inside[0] if inside and whole else 0)
            ends.append(inside[-1] if inside and whole else 0)
            encoded["offset_mapping"][number] = [
                list(edges) if part == 1 else [-1, -1]
                for part, edges in zip(parts, offsets, strict=True)
            ]
        encoded["start_positions"], encoded["end_positions"], encoded["owner"] = (
            starts,
            ends,
            owners,
        )
        return encoded

    # one batch, so that `owner` counts from the first row of all
    return rows.map(encode, batched=True, batch_size=None, remove_columns=rows.column_names)


def _answer(answers: dict[str, list[Any]]) -> tuple[int, int]:
    if not answers["text"]:
        return -1, -1
    start = answers["answer_start"][0]
    return start, start + len(answers["text"][0])


FEATURES = {"classify": pairs, "tag": tagged, "span": spans}
ASIDE = ("offset_mapping", "owner")  # what the model does not take


# ---------------------------------------------------------------------- the model


def built_model(job: Job) -> Any:
    """The model with a fresh head and one module that trains."""
    import transformers

    auto = {
        "classify": transformers.AutoModelForSequenceClassification,
        "tag": transformers.AutoModelForTokenClassification,
        "span": transformers.AutoModelForQuestionAnswering,
    }[job.format]
    labels = {} if job.format == "span" else {"num_labels": len(job.labels)}
    model = auto.from_pretrained(job.encoder, classifier_dropout=job.hyper["dropout"], **labels)
    return with_lora(model, job) if job.method == "lora" else with_bottleneck(model, job)


def with_lora(model: Any, job: Job) -> Any:
    from peft import LoraConfig, TaskType, get_peft_model

    layers: dict[str, Any] = {"target_modules": list(LINEAR)}
    if job.from_layer:
        every = range(job.from_layer, model.config.num_hidden_layers)
        layers |= {"layers_to_transform": list(every), "layers_pattern": "layer"}
    options = {**job.options, **layers}
    if not job.parents:
        kinds = {"classify": "SEQ_CLS", "tag": "TOKEN_CLS", "span": "QUESTION_ANS"}
        return get_peft_model(model, LoraConfig(**options, task_type=TaskType[kinds[job.format]]))
    # several adapters at once and a head: peft has no such call, this is what one writes
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    base, names = model.base_model_prefix, [f"parent{n}" for n in range(len(job.parents))]
    model = get_peft_model(model, LoraConfig(**options), adapter_name=names[0])
    for name, folder in zip(names, job.parents, strict=True):
        if name not in model.peft_config:
            model.add_adapter(name, LoraConfig(**options))
        weights = load_file(str(Path(folder) / "adapter_model.safetensors"))
        renamed = {
            key.replace("base_model.model.", f"base_model.model.{base}.", 1): value
            for key, value in weights.items()
        }
        lacking = set_peft_model_state_dict(model, renamed, adapter_name=name).unexpected_keys
        assert not lacking, lacking
    model.add_adapter("child", LoraConfig(**options))
    model.base_model.set_adapter([*names, "child"])
    for key, parameter in model.named_parameters():
        own = ".child." in key or f".{base}." not in key
        parameter.requires_grad_(own)
    return model


def with_bottleneck(model: Any, job: Job) -> Any:
    import adapters
    from adapters import BnConfig
    from adapters.composition import Stack

    adapters.init(model)
    names = [f"parent{number}" for number in range(len(job.parents))]
    for name, folder in zip(names, job.parents, strict=True):
        model.load_adapter(folder, load_as=name, with_head=False, use_safetensors=True)
    model.add_adapter(
        "child", config=BnConfig(**job.options, leave_out=list(range(job.from_layer)))
    )
    model.train_adapter("child")
    if names:
        model.active_adapters = Stack(*names, "child")
    return model


class Counting:
    """A collator that counts the tokens it is given and those it hands on, padding included."""

    def __init__(self, collate: Any) -> None:
        self.collate = collate
        self.tokens = self.padded = self.examples = 0

    def __call__(self, features: list[dict[str, Any]]) -> Any:
        batch = self.collate(features)
        self.tokens += sum(len(feature["input_ids"]) for feature in features)
        self.padded += batch["input_ids"].numel()
        self.examples += len(features)
        return batch


def trainer_of(job: Job, model: Any, tokenizer: Any, train: Any, dev: Any, aside: str) -> Any:
    import transformers

    hyper = job.hyper
    arguments = transformers.TrainingArguments(
        aside,
        per_device_train_batch_size=hyper["batch_size"],
        per_device_eval_batch_size=hyper["batch_size"],
        learning_rate=hyper["lr"],
        num_train_epochs=hyper["epochs"],
        max_steps=hyper["max_steps"] or -1,
        warmup_ratio=hyper["warmup"],
        weight_decay=hyper["weight_decay"],
        max_grad_norm=hyper["clip"],
        bf16=job.tuned,
        group_by_length=job.tuned,
        seed=job.seed,
        use_cpu=job.device == "cpu",
        label_names=["start_positions", "end_positions"] if job.format == "span" else ["labels"],
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    collator = (
        transformers.DataCollatorForTokenClassification
        if job.format == "tag"
        else transformers.DataCollatorWithPadding
    )
    kind: Any = transformers.Trainer
    if job.method == "bottleneck":
        from adapters import AdapterTrainer as kind
    return kind(
        model=model,
        args=arguments,
        train_dataset=train.remove_columns([n for n in ASIDE if n in train.column_names]),
        eval_dataset=dev.remove_columns([n for n in ASIDE if n in dev.column_names]),
        data_collator=Counting(collator(tokenizer)),
    )


# ---------------------------------------------------------------------- outputs → score


def predictions(job: Job, rows: Any, features: Any, outputs: Any) -> list[dict[str, Any]]:
    """As the package's metrics take them; a word that was cut off has the first label."""
    if job.format == "classify":
        label_id = label_ids(rows, "label", job.labels)
        return [
            {"prediction": job.labels[best], "gold": job.labels[label_id(gold)]}
            for best, gold in zip(outputs.argmax(-1), rows["label"], strict=True)
        ]
    if job.format == "tag":
        label_id = label_ids(rows, "ner_tags", job.labels)
        predicted = []
        for best, targets, gold in zip(
            outputs.argmax(-1), features["labels"], rows["ner_tags"], strict=True
        ):
            tags = [job.labels[best[n]] for n, target in enumerate(targets) if target != IGNORED]
            tags += job.labels[:1] * (len(gold) - len(tags))
            predicted.append(
                {"prediction": tags, "gold": [job.labels[label_id(tag)] for tag in gold]}
            )
        return predicted
    best: list[tuple[float, str]] = [(-np.inf, "")] * len(rows)
    contexts = rows["context"]
    for feature, start, end in zip(features, *outputs, strict=True):
        offsets, context = feature["offset_mapping"], contexts[feature["owner"]]
        starts, ends = (np.argsort(-scores[: len(offsets)])[:20] for scores in (start, end))
        for first in starts:
            for last in ends:
                if offsets[first][0] < 0 or offsets[last][0] < 0 or not 0 <= last - first < 30:
                    continue
                text = context[offsets[first][0] : offsets[last][1]]
                best[feature["owner"]] = max(
                    best[feature["owner"]], (float(start[first] + end[last]), text)
                )
    return [
        {"id": question, "prediction": text, "gold": answers["text"]}
        for question, answers, (_, text) in zip(rows["id"], rows["answers"], best, strict=True)
    ]


def run(job: Job) -> dict[str, Any]:
    import torch
    import transformers
    from datasets import load_dataset

    from adapters_xtl import metrics

    transformers.set_seed(job.seed)
    tokenizer = transformers.AutoTokenizer.from_pretrained(job.encoder)
    files = {"train": job.train, "dev": job.dev}
    rows = load_dataset("parquet", data_files=files)
    train, dev = (FEATURES[job.format](rows[split], tokenizer, job) for split in ("train", "dev"))
    model = built_model(job)
    with tempfile.TemporaryDirectory() as aside:
        trainer = trainer_of(job, model, tokenizer, train, dev, aside)
        started = time.monotonic()
        trainer.train()
        count = trainer.data_collator
        tokens, padded, examples = count.tokens, count.padded, count.examples
        trainer.evaluate()
        seconds = time.monotonic() - started
        trainer.args.group_by_length = False  # with it, predictions come in another order than rows
        outputs = trainer.predict(trainer.eval_dataset).predictions
    scored = predictions(job, rows["dev"], dev, outputs)
    return {
        "seconds": round(seconds, 3),
        "steps": trainer.state.global_step,
        "examples": examples,
        "tokens": tokens,
        "padded_tokens": padded,
        "score": metrics.get(job.scorer).score(scored, "en")[job.metric],
        "device_peak_bytes": torch.cuda.max_memory_allocated() if job.device == "cuda" else None,
        "trainable_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
    }


def main(arguments: Sequence[str]) -> int:
    """Runs the jobs whose files are named; a line of JSON each."""
    for path in arguments:
        print(json.dumps(run(Job(**json.loads(Path(path).read_text(encoding="utf-8"))))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
