"""`xtl merge`: what transformers loads of a merged stack gives what the stack gives."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file

import adapters_xtl as xtl
from adapters_xtl import formats
from adapters_xtl.base.errors import RequestError, RunError
from adapters_xtl.base.files import read_json
from adapters_xtl.cli.commands import export as commands
from adapters_xtl.export import merged_model
from adapters_xtl.export.merged_model import merge
from tests import bundles
from tests.command_line import xtl as command
from tests.finished_runs import settings
from tests.small_bert import small_bert

# so many steps and such a rate that without the modules every output would be another one
LEARNS = [
    "train.max_steps=2",
    "train.eval_every=2",
    "train.select_examples=8",
    "train.lr=0.03",
    "train.batch_size=8",
    "train.max_length=64",
]
PAIRS = [
    ("The train was cancelled this morning.", "No train went."),
    ("Поезд сегодня отменили.", "Поезд ушёл вовремя."),
    ("今天的火车取消了。", "没有火车。"),
]
WORDS = ["Angela", "Merkel", "besuchte", "gestern", "die", "Stadt", "Lyon"]


def lora(factory: pytest.TempPathFactory, task: str, on: str = "", **options: Any) -> Path:
    more = options.pop("more", [])
    settings = {
        "set_": [*LEARNS, "eval.max_examples=8", *more],
        "set_parents": LEARNS,
    }
    return bundles.stack(factory, task, on=on, method="lora", **settings, **options)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lora(tmp_path_factory, "pawsx", "qqp")


@pytest.fixture(scope="module")
def merged(stack: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    into = tmp_path_factory.mktemp("merged") / "model"
    merge(str(stack), into, runs=stack.parent.parent)
    return into


def probabilities(stack: Path, inputs: list[Any]) -> np.ndarray:
    model = xtl.load(str(stack), device="cpu", runs=str(stack.parent.parent))
    return np.array([list(row["probabilities"].values()) for row in model.predict(inputs)])


def test_a_pipeline_of_transformers_answers_as_the_stack_does(stack: Path, merged: Path) -> None:
    pipe = transformers.pipeline("text-classification", str(merged), device="cpu", top_k=None)
    answers = pipe([{"text": text, "text_pair": pair} for text, pair in PAIRS])
    labels = read_json(merged / "config.json")["id2label"].values()
    shares = [{each["label"]: each["score"] for each in answer} for answer in answers]
    own = probabilities(stack, PAIRS)
    # the stack answers in bfloat16 here, the pipeline in float32
    assert np.allclose([[share[label] for label in labels] for share in shares], own, atol=0.01)
    plain = transformers.AutoModelForSequenceClassification.from_pretrained(merged)
    assert type(plain).__name__ == "XLMRobertaForSequenceClassification"
    untouched = xtl.load(str(stack), device="cpu", runs=str(stack.parent.parent))
    assert tuple(labels) == untouched.labels


def test_the_card_says_what_it_is_made_of_and_how_exact_it_is(stack: Path, merged: Path) -> None:
    record = read_json(merged / "export.json")
    spec = read_json(stack / "spec.json")
    assert record["stack"] == "qqp>pawsx" and record["module"]["id"] == spec["id"]
    assert [parent["id"] for parent in record["parents"]] == [
        parent["id"] for parent in spec["parents"]
    ]
    exact = record["model"]["comparison"]
    assert 0 < exact["largest_difference"] < exact["tolerance"] < exact["largest_output"] / 1000
    assert exact["as_run"] == "bfloat16" and exact["as_run_difference"] > 0
    card = (merged / "README.md").read_text()
    assert f"{exact['largest_difference']:.2g}" in card and spec["id"] in card
    assert "pipeline_tag: text-classification" in card and "sample rows" in card
    for path in merged.rglob("*"):
        if path.suffix in (".json", ".md"):
            assert str(stack.parent.parent) not in path.read_text()


def test_a_stack_without_its_parent_would_not_pass(
    stack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison sees one module of two missing, and then there is no directory."""
    whole = merged_model.LoadedModule.exported_encoder

    def without_the_parent(self: Any) -> Any:
        self.model.encoder.base_model.set_adapter("pawsx")
        return whole(self)

    monkeypatch.setattr(merged_model.LoadedModule, "exported_encoder", without_the_parent)
    with pytest.raises(RunError, match="nothing was written"):
        merge(str(stack), tmp_path / "model", runs=stack.parent.parent)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "more",
    [
        ["method.use_dora=true"],
        ["method.use_rslora=true", "method.lora_bias=true", 'method.target_modules=["query"]'],
    ],
    ids=["dora", "rslora-bias-query"],
)
# peft takes the bias of a LoRA part for a shard of a matrix
@pytest.mark.filterwarnings("ignore:Adapter 'pawsx'. 4 LoRA tensor")
def test_options_of_lora_are_folded_too(
    more: list[str], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """In the library's own order of merging, DoRA above a parent would take another norm."""
    child = lora(tmp_path_factory, "pawsx", "qqp", more=more)
    found = merge(str(child), tmp_path / "model", runs=child.parent.parent)
    assert found.difference.within and found.difference.largest < 1e-5


def test_a_child_of_its_parents_copy_and_of_upper_layers(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    child = lora(tmp_path_factory, "pawsx", "qqp", compose="init", from_layer=2)
    found = merge(str(child), tmp_path / "model", runs=child.parent.parent)
    assert found.difference.within
    before = bundles.stack(tmp_path_factory, "qqp", method="full")
    found = merge(str(before), tmp_path / "full", runs=before.parent.parent)
    assert found.auto_class == "AutoModelForSequenceClassification" and found.difference.within


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # of the QA pipeline
def test_tags_answers_and_choices_have_their_classes(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    runs: dict[str, Path] = {}
    for task, auto_class, pipeline in (
        ("panx", "AutoModelForTokenClassification", "token-classification"),
        ("squad1", "AutoModelForQuestionAnswering", "question-answering"),
        ("csqa", "AutoModelForMultipleChoice", ""),
    ):
        runs[task] = lora(tmp_path_factory, task)
        found = merge(str(runs[task]), tmp_path / task, runs=runs[task].parent.parent)
        assert (found.auto_class, found.pipeline) == (auto_class, pipeline)
        assert found.difference.within, task
    tagger = transformers.pipeline(
        "token-classification", str(tmp_path / "panx"), device="cpu", ignore_labels=[]
    )
    first = tagger(" ".join(WORDS))[0]
    own = xtl.load(str(runs["panx"]), device="cpu", runs=str(runs["panx"].parent.parent))
    assert first["entity"] == own.predict([{"words": WORDS}])[0]["prediction"][0]
    assert not (tmp_path / "panx" / "head").exists()
    card = (tmp_path / "squad1" / "README.md").read_text()
    assert "leaves out characters" in card.replace("\n", " ")
    assert read_json(tmp_path / "squad1" / "head" / "config.json")["format"] == "span"
    answer = transformers.pipeline("question-answering", str(tmp_path / "squad1"), device="cpu")
    context = "Angela came to Lyon with three friends."
    assert answer(question="Who came?", context=context)["answer"] in context


def test_a_sentence_encoder_gives_the_stacks_vectors(stack: Path, tmp_path: Path) -> None:
    runs = stack.parent.parent
    found = merge(str(stack), tmp_path / "encoder", task="tatoeba", runs=runs)
    assert found.difference.within
    texts = [text for pair in PAIRS for text in pair]
    own = xtl.load(str(stack), device="cpu", runs=str(runs)).embed(texts)
    encoder = transformers.AutoModel.from_pretrained(tmp_path / "encoder", add_pooling_layer=False)
    assert encoder.config.num_hidden_layers == 2  # of 4: state 14 of 24 is pooled
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "encoder")
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        states = encoder(**batch).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1)
    vectors = ((states * mask).sum(1) / mask.sum(1)).numpy()
    assert np.abs(vectors - own).max() < 0.02 * np.abs(own).max()
    assert [entry["path"] for entry in read_json(tmp_path / "encoder" / "modules.json")] == [
        "", "1_Pooling"
    ]  # fmt: skip


def test_sentence_transformers_loads_a_merged_encoder(stack: Path, tmp_path: Path) -> None:
    reason = "pip install 'adapters-xtl[sentence-transformers]'"
    library = pytest.importorskip("sentence_transformers", reason=f"not installed: {reason}")
    runs = stack.parent.parent
    merge(str(stack), tmp_path / "encoder", task="tatoeba", runs=runs)
    texts = [text for pair in PAIRS for text in pair]
    vectors = library.SentenceTransformer(str(tmp_path / "encoder"), device="cpu").encode(texts)
    own = xtl.load(str(stack), device="cpu", runs=str(runs)).embed(texts)
    assert np.abs(vectors - own).max() < 0.02 * np.abs(own).max()


def test_a_head_that_no_class_has_lies_beside_the_encoder(
    stack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a format that names no class of transformers."""
    monkeypatch.setattr(type(formats.load("classify")), "plain_heads", {})
    found = merge(str(stack), tmp_path / "model", runs=stack.parent.parent)
    assert (found.auto_class, found.pipeline) == ("AutoModel", "") and found.difference.within
    head = load_file(str(tmp_path / "model" / "head" / "model.safetensors"))
    assert sorted(head) == ["dense.bias", "dense.weight", "out.bias", "out.weight"]
    described = read_json(tmp_path / "model" / "head" / "config.json")
    assert described["format"] == "classify" and len(described["outputs"]) == 2
    encoder = transformers.AutoModel.from_pretrained(
        tmp_path / "model", add_pooling_layer=False
    ).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    batch = tokenizer(*zip(*PAIRS, strict=True), padding=True, return_tensors="pt")
    with torch.no_grad():
        first = encoder(**batch).last_hidden_state[:, 0]
        inner = torch.tanh(first @ head["dense.weight"].T + head["dense.bias"])
        shares = (inner @ head["out.weight"].T + head["out.bias"]).softmax(-1).numpy()
    assert np.allclose(shares, probabilities(stack, PAIRS), atol=0.01)


def test_sixteen_bits_are_written_and_measured(stack: Path, tmp_path: Path) -> None:
    found = merge(str(stack), tmp_path / "model", bits=16, runs=stack.parent.parent)
    assert found.difference.within and found.difference.largest > 1e-6
    assert read_json(tmp_path / "model" / "config.json")["dtype"] == "bfloat16"


def test_what_cannot_be_merged_is_refused_in_a_line(
    stack: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    runs, out = stack.parent.parent, tmp_path / "model"
    sequential = bundles.stack(tmp_path_factory, "qqp")
    with pytest.raises(RequestError, match=r"bottleneck.*non-linear.*xtl export onnx"):
        merge(str(sequential), out, runs=runs)
    with pytest.raises(RequestError, match=r"4-bit weights"):
        merge(str(lora(tmp_path_factory, "qqp", bits="4")), out, runs=runs)
    with pytest.raises(RequestError, match=r"no head for 'panx'"):
        merge(str(stack), out, task="panx", runs=runs)
    with pytest.raises(RequestError, match="--bits 8"):
        merge(str(stack), out, bits=8, runs=runs)
    (tmp_path / "held").mkdir()
    (tmp_path / "held" / "notes.txt").write_text("mine")
    with pytest.raises(RequestError, match="not empty"):
        merge(str(stack), tmp_path / "held", runs=runs)
    assert sorted(os.listdir(tmp_path)) == ["held"]


def test_a_bundle_of_a_bert_takes_the_classes_of_bert(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    backbone = small_bert(tmp_path_factory.mktemp("bert"))
    run = lora(tmp_path_factory, "qqp", backbone=str(backbone))
    bundle = bundles.pack_run(run, tmp_path / "bundle")
    found = merge(str(bundle), tmp_path / "model", backbone=str(backbone), runs=tmp_path / "none")
    assert found.difference.within
    assert read_json(tmp_path / "model" / "config.json")["architectures"] == [
        "BertForSequenceClassification"
    ]
    record = read_json(tmp_path / "model" / "export.json")
    assert record["module"]["sha256"] == read_json(bundle / "bundle.json")["module_sha256"]
    assert str(backbone) not in (tmp_path / "model" / "export.json").read_text()


def test_the_command_prints_the_difference(stack: Path, tmp_path: Path) -> None:
    payload, shown = commands.merge(
        str(stack),
        tmp_path / "model",
        task="",
        bits="auto",
        backbone=None,
        runs=str(stack.parent.parent),
        allow_mismatch=False,
        notify=lambda text: None,
    )
    assert payload["difference"] < payload["tolerance"]
    assert payload["pipeline"] == "text-classification"
    assert f"{payload['difference']:.2g}" in shown[1] and "pawsx" in shown[1]


def test_a_wrong_flag_costs_one_line(tmp_path: Path) -> None:
    done = command("merge", "no-such-run", tmp_path / "model", "--bits", "12", code=2)
    assert "--bits 12" in done.stderr and len(done.stderr.strip().splitlines()) == 1


@pytest.mark.e2e
def test_the_real_encoder_merges_and_answers(tmp_path: Path) -> None:
    run = bundles.train(
        tmp_path / "runs",
        "mnli",
        method="lora",
        backbone="mini",
        set_=settings(LEARNS, "train.lr=0.001", "eval.max_examples=8"),
    )
    found = merge(str(run), tmp_path / "model", runs=tmp_path / "runs")
    assert found.difference.within
    pipe = transformers.pipeline("text-classification", str(tmp_path / "model"), device="cpu")
    answer = pipe({"text": PAIRS[0][0], "text_pair": PAIRS[0][1]}, top_k=None)
    shares = {each["label"]: each["score"] for each in answer}
    model = xtl.load(str(run), device="cpu", runs=str(tmp_path / "runs"))
    own = model.predict(PAIRS[:1])[0]["probabilities"]
    assert all(abs(shares[label] - own[label]) < 0.02 for label in own)
    assert json.loads((tmp_path / "model" / "export.json").read_text())["stack"] == "mnli"
