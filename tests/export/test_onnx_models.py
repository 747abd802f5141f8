"""`xtl export onnx`: onnxruntime gives what the stack gives, whatever the batch and the length."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import transformers

import adapters_xtl as xtl
from adapters_xtl.base.errors import RequestError, RunError
from adapters_xtl.base.files import read_json
from adapters_xtl.cli.commands import export as commands
from adapters_xtl.export import onnx_model, sample_inputs
from adapters_xtl.export.onnx_model import export_onnx
from adapters_xtl.tasks import load
from tests import bundles
from tests.small_bert import small_bert

TEXTS = [
    ("Le magasin ouvre tous les jours au matin, sauf le dimanche", "The shop opens at nine"),
    ("Der Laden hat offen", "The shop opens at nine"),
    ("a", "b"),
]
SETTINGS = ["train.max_steps=4", "train.eval_every=4", "train.select_examples=20", "train.lr=0.03"]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bottleneck stack on a BERT, whose inputs have token types besides."""
    backbone = small_bert(tmp_path_factory.mktemp("bert"))
    settings = {"set_": SETTINGS, "set_parents": SETTINGS, "backbone": str(backbone)}
    return bundles.stack(tmp_path_factory, "pawsx", on="qqp", **settings)


def answers(folder: Path, texts: list[tuple[str, str]] | list[str]) -> np.ndarray:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
    batch = tokenizer(list(texts), padding=True, truncation=True, return_tensors="np")
    names = [value.name for value in session.get_inputs()]
    outputs: np.ndarray = session.run(None, {name: batch[name] for name in names})[0]
    return outputs


def test_a_bottleneck_stack_answers_in_onnxruntime(stack: Path, tmp_path: Path) -> None:
    runs = stack.parent.parent
    payload, shown = commands.onnx(
        str(stack),
        tmp_path / "onnx",
        task="",
        backbone=None,
        runs=str(runs),
        allow_mismatch=False,
        notify=lambda text: None,
    )
    assert 0 < payload["difference"] < payload["tolerance"]
    assert "50 sample rows of pawsx (Latin, CJK, Hangul)" in shown[1]
    head = read_json(tmp_path / "onnx" / "head.json")
    model = xtl.load(str(stack), device="cpu", runs=str(runs))
    assert tuple(head["labels"]) == model.labels
    for texts in (TEXTS, TEXTS[:1], TEXTS[2:]):
        logits = answers(tmp_path / "onnx", texts)
        shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        own = [list(row["probabilities"].values()) for row in model.predict(texts)]
        assert np.allclose(shares, own, atol=0.01)
    assert payload["inputs"] == ["input_ids", "attention_mask", "token_type_ids"]
    record = read_json(tmp_path / "onnx" / "export.json")
    assert record["stack"] == "qqp>pawsx" and record["method"] == "bottleneck"


def test_a_lora_module_gives_sentence_vectors(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    run = bundles.stack(tmp_path_factory, "qqp", method="lora", set_=SETTINGS)
    runs = run.parent.parent
    written = export_onnx(str(run), tmp_path / "onnx", task="tatoeba", runs=runs)
    assert written.output == "vectors" and written.difference.within
    texts = [text for pair in TEXTS for text in pair]
    own = xtl.load(str(run), device="cpu", runs=str(runs)).embed(texts)
    vectors = answers(tmp_path / "onnx", texts)
    assert vectors.shape == own.shape and np.abs(vectors - own).max() < 0.02 * np.abs(own).max()


def test_what_stands_in_the_way_is_said_and_nothing_is_written(
    stack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, find_spec = stack.parent.parent, importlib.util.find_spec
    with monkeypatch.context() as patch:
        patch.setattr(
            importlib.util,
            "find_spec",
            lambda name, *rest: None if name == "onnxscript" else find_spec(name, *rest),
        )
        with pytest.raises(RequestError, match=r"onnxscript.*adapters-xtl\[onnx\]"):
            export_onnx(str(stack), tmp_path / "onnx", runs=runs)

    def broken(*arguments: object, **options: object) -> None:
        raise NotImplementedError("aten::unheard_of has no translation\nand a long story")

    monkeypatch.setattr(onnx_model.torch.onnx, "export", broken)
    with pytest.raises(RunError, match=r"aten::unheard_of has no translation\)$"):
        export_onnx(str(stack), tmp_path / "onnx", runs=runs)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("task", ["mnli", "squad1", "ccg", "hellaswag", "bucc"])
def test_rows_of_three_scripts_are_compared(task: str) -> None:
    """Tasks in English alone borrow the rows of others of their format."""
    inputs = sample_inputs.sample_inputs(load(task))
    assert len(inputs.examples) == 50 and len(inputs.scripts) == 3
    assert "LATIN" in inputs.scripts
