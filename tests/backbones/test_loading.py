"""Backbones as models: bits, determinism, digests, tokenizers, and files that are missing or
damaged.
"""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from bitsandbytes.functional import dequantize_4bit
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    BertConfig,
    BertModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForMaskedLM,
)

from adapters_xtl.backbones import Backbone, embedded, loading, registry
from adapters_xtl.backbones.fingerprint import fingerprinted
from adapters_xtl.base.errors import MismatchError, RequestError
from adapters_xtl.models.network import Model, frozen_digest

TINY = registry.NAMED["tiny"]
SIZES = {
    "vocab_size": 40,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "max_position_embeddings": 66,
}


def _tokenizer() -> PreTrainedTokenizerFast:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "hello", "world"]
    inner = Tokenizer(
        models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]")
    )
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=64,
    )


def _bert(folder: Path, *, safe: bool = True, **sizes: int) -> Backbone:
    torch.manual_seed(1)
    BertModel(BertConfig(**{**SIZES, **sizes})).save_pretrained(folder, safe_serialization=safe)
    _tokenizer().save_pretrained(folder)
    return registry.resolve(str(folder))


def _roberta(folder: Path) -> Backbone:
    """With a head, and the encoder under a prefix, as the published ones are."""
    torch.manual_seed(2)
    RobertaForMaskedLM(RobertaConfig(**SIZES, pad_token_id=0)).save_pretrained(folder)
    _tokenizer().save_pretrained(folder)
    return registry.resolve(str(folder))


BUILDERS = {"tiny": lambda folder: TINY, "bert": _bert, "roberta": _roberta}


def _states(encoder: Any, tokenizer: Any) -> torch.Tensor:
    with torch.no_grad():
        inputs = tokenizer(["hello world", "hello"], padding=True, return_tensors="pt")
        found: torch.Tensor = encoder(**inputs).last_hidden_state
    return found


def test_rows_that_4_bit_blocks_do_not_fit_stay_unquantised(tmp_path: Path) -> None:
    tiny, _ = loading.load(TINY, bits=4)
    bert, _ = loading.load(_bert(tmp_path / "bert"), bits=4)
    for encoder, each in (
        (tiny, 1),
        (bert, 6),
    ):  # of tiny's layers only the last, 64 to 32, has rows of 64
        found = [module for module in encoder.modules() if type(module).__name__ == "Linear4bit"]
        assert len(found) == each * encoder.config.num_hidden_layers
    backbone = _bert(tmp_path / "narrow", hidden_size=48, intermediate_size=96)
    with pytest.raises(RequestError, match="multiple of 64"):
        loading.load(backbone, bits=4)
    loading.load(backbone, bits=8)


def _rounding(quantised: torch.nn.Module, exact: torch.nn.Module) -> list[float]:
    """Relative error of every nf4 weight."""
    found = []
    for name, parameter in quantised.named_parameters():
        if hasattr(parameter, "quant_state"):
            weight = exact.get_parameter(name)
            back = dequantize_4bit(parameter.data, parameter.quant_state).float()
            found.append(float((back - weight).norm() / weight.norm()))
    return found


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("bits", [32, 16, 8, 4])
def test_every_architecture_loads_at_every_width_frozen_and_stays_the_same(
    tmp_path: Path, name: str, bits: int, caplog: pytest.LogCaptureFixture
) -> None:
    backbone = BUILDERS[name](tmp_path / "model")
    full = _states(*loading.load(backbone))
    for dtype in ("float32", "bfloat16"):
        encoder, tokenizer = loading.load(backbone, bits=bits, dtype=dtype)
        assert not encoder.training and not any(
            parameter.requires_grad for parameter in encoder.parameters()
        )
        assert encoder.config._attn_implementation == "sdpa"
        assert not hasattr(encoder, "pooler") or encoder.pooler is None
        kinds = {str(parameter.dtype).removeprefix("torch.") for parameter in encoder.parameters()}
        assert (
            kinds
            == {32: {"float32"}, 16: {"bfloat16"}, 8: {"int8", dtype}, 4: {"uint8", dtype}}[bits]
        )
        before = loading.weights_digest(encoder)
        states = _states(encoder, tokenizer)
        assert loading.weights_digest(encoder) == before, "a forward pass changed the backbone"
        assert states.isfinite().all()
        nearness = torch.nn.functional.cosine_similarity(states.float(), full, dim=-1).min()
        assert nearness > {32: 0.9999, 4: 0.95}.get(bits, 0.999)
        assert bits != 4 or max(_rounding(encoder, loading.load(backbone)[0])) < 0.12
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING], (
        "nothing is said in vain"
    )


def test_float16_weights_where_asked_for() -> None:
    encoder, _ = loading.load(TINY, bits=16, dtype="float16")
    assert {parameter.dtype for parameter in encoder.parameters()} == {torch.float16}


@pytest.mark.parametrize("bits", [8, 4])
def test_gradients_pass_through_quantised_layers_and_leave_them_alone(bits: int) -> None:
    encoder, tokenizer = loading.load(TINY, bits=bits)
    before = loading.weights_digest(encoder)
    _states(
        encoder, tokenizer
    )  # in eval mode first: bitsandbytes must not repack what training needs
    encoder.train()
    inputs = torch.randn(2, 5, 32, requires_grad=True)
    encoder(inputs_embeds=inputs).last_hidden_state.square().sum().backward()
    assert inputs.grad is not None and inputs.grad.abs().sum() > 0
    assert loading.weights_digest(encoder) == before


def test_what_bitsandbytes_does_to_a_bias_is_no_change_of_the_backbone() -> None:
    """It turns an int8 layer's bias into its input's type: under CUDA's autocast float32, as layer
    norms give it.
    """
    encoder, tokenizer = loading.load(registry.NAMED["tiny"], bits=8, dtype="bfloat16")
    model = Model(encoder, tokenizer, {})
    before = frozen_digest(model)
    layer: Any = encoder.encoder.layer[0].intermediate.dense
    layer(torch.ones(1, layer.in_features))
    assert layer.bias.dtype == torch.float32 and frozen_digest(model) == before
    with torch.no_grad():
        layer.bias[0] += 1
    assert frozen_digest(model) != before


def test_tiny_is_the_same_every_time_and_leaves_the_random_state_alone() -> None:
    torch.manual_seed(7)
    state = torch.random.get_rng_state()
    first, _ = loading.load(TINY)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(8)
    second, _ = loading.load(TINY)
    assert loading.weights_digest(first) == loading.weights_digest(second)
    assert (first.config.num_hidden_layers, first.config.hidden_size, first.config.vocab_size) == (
        4,
        32,
        250_037,
    )


def test_digests_see_one_bit_a_name_a_type_and_a_buffer() -> None:
    encoder, _ = loading.load(TINY)
    base = loading.weights_digest(encoder)
    found = {base}
    with torch.no_grad():
        weight = encoder.encoder.layer[3].output.dense.weight
        kept = weight[0, 0].clone()
        weight[0, 0] = torch.nextafter(kept, torch.tensor(9.0))
        found.add(loading.weights_digest(encoder))
        weight[0, 0] = kept
    assert loading.weights_digest(encoder) == base
    encoder.register_buffer("extra", torch.zeros(1))
    found.add(loading.weights_digest(encoder))
    del encoder.extra
    found.add(loading.weights_digest(encoder.to(torch.bfloat16)))
    found.add(loading.weights_digest(torch.nn.ModuleDict({"inner": encoder})))
    assert len(found) == 5


def test_layers_keeps_the_first_so_many(tmp_path: Path) -> None:
    whole, tokenizer = loading.load(TINY)
    part, _ = loading.load(TINY, layers=2)
    assert part.config.num_hidden_layers == 2
    inputs = tokenizer("hello world", return_tensors="pt")
    with torch.no_grad():
        expected = whole(**inputs, output_hidden_states=True).hidden_states[2]
        assert torch.equal(part(**inputs).last_hidden_state, expected)
    with pytest.raises(RequestError, match=r"tiny.*4 layers.*5"):
        loading.load(TINY, layers=5)


def test_a_directory_with_minis_files_is_mini() -> None:
    backbone = fingerprinted(registry.resolve(str(embedded.prepare())))
    assert (
        backbone.fingerprint
        == embedded.FINGERPRINT
        == fingerprinted(registry.NAMED["mini"]).fingerprint
    )


def test_tokenizers_load_without_the_false_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    from transformers import AutoTokenizer, XLMRobertaTokenizerFast

    plain = AutoTokenizer.from_pretrained(embedded.prepare())
    assert isinstance(plain, XLMRobertaTokenizerFast) and plain.model_max_length == 512
    ours = loading.tokenizer(registry.NAMED["mini"])
    assert loading.tokenizer_digest(ours) == loading.tokenizer_digest(plain)
    folder = tmp_path / "bert"
    backbone = _bert(folder)
    written = json.loads((folder / "config.json").read_text())["transformers_version"]
    assert written > "4.57.2", "from that version on transformers would warn"
    assert loading.tokenizer(backbone).name_or_path == str(folder)
    assert not caplog.records and "regex" not in capfd.readouterr().err


def test_the_highest_id_of_a_tokenizer_is_that_of_its_table() -> None:
    """Of a list of pieces with added tokens, and of a table whose ids have gaps."""
    pieces = models.Unigram([("<unk>", 0.0), ("a", -1.0), ("b", -2.0)], unk_id=0)
    words = models.WordLevel({"<unk>": 0, "a": 7, "b": 3}, unk_token="<unk>")
    for model, added, expected in ((pieces, [], 2), (pieces, ["<new>"], 3), (words, [], 7)):
        tokenizer = Tokenizer(model)
        tokenizer.add_tokens(added)
        wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
        assert loading._highest_id(wrapped) == expected == max(wrapped.get_vocab().values())


def test_tokenizer_digests_follow_content_and_not_padding() -> None:
    first, second = _tokenizer(), _tokenizer()
    first(["hello world", "hello"], padding=True, truncation=True, max_length=3)
    assert loading.tokenizer_digest(first) == loading.tokenizer_digest(second)
    second.add_tokens(["more"])
    assert loading.tokenizer_digest(first) != loading.tokenizer_digest(second)


def test_pickled_weights_are_read_and_never_run(tmp_path: Path) -> None:
    backbone = _bert(tmp_path / "bin", safe=False)
    assert (tmp_path / "bin" / "pytorch_model.bin").is_file()
    safe = _bert(tmp_path / "safe")
    assert torch.equal(_states(*loading.load(backbone)), _states(*loading.load(safe)))
    ran = tmp_path / "ran"
    torch.save({"embeddings": _Runs(str(ran))}, tmp_path / "bin" / "pytorch_model.bin")
    with pytest.raises(RequestError, match="weights cannot be read") as caught:
        loading.load(replace(backbone, fingerprint=""))
    assert "\n" not in str(caught.value) and not ran.exists()


class _Runs:
    """Unpickled carelessly, it writes a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return open, (self.path, "w")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda folder: (folder / "model.safetensors").write_bytes(b"\x08" + bytes(20)),
            "weights cannot be read",
        ),
        (
            lambda folder: (folder / "model.safetensors").write_bytes(
                (folder / "model.safetensors").read_bytes()[:-500]
            ),
            "weights cannot be read",
        ),
        (
            lambda folder: (folder / "model.safetensors").unlink(),
            "no weights|weights cannot be read",
        ),
        (lambda folder: _edit(folder, hidden_size=32), "weights cannot be read"),
        (
            lambda folder: _edit(folder, num_hidden_layers=3),
            r"weights lack 16 of .*, e\.g\. encoder\.layer\.2",
        ),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), "tokenizer cannot be read"),
    ],
    ids=["garbage", "cut short", "gone", "other sizes", "more layers", "tokenizer"],
)
def test_damaged_files_give_one_line(tmp_path: Path, damage: Any, message: str) -> None:
    backbone = _bert(tmp_path / "model")
    damage(tmp_path / "model")
    with pytest.raises(RequestError, match=message) as caught:
        loading.load(backbone)
    assert "\n" not in str(caught.value) and "Traceback" not in str(caught.value)


def _edit(folder: Path, **changes: Any) -> None:
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | changes))


def test_a_directory_that_changed_since_it_was_fingerprinted_is_refused(tmp_path: Path) -> None:
    backbone = fingerprinted(_bert(tmp_path / "model"))
    loading.load(backbone)
    _edit(tmp_path / "model", layer_norm_eps=1e-5)
    with pytest.raises(MismatchError, match=backbone.fingerprint[:12]):
        loading.load(backbone)


def test_a_cached_hub_model_loads_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sha = "0123456789abcdef0123456789abcdef01234567"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    folder = tmp_path / "hub" / "models--user--model" / "snapshots" / sha
    folder.mkdir(parents=True)
    directory = _bert(folder)
    (folder.parent.parent / "refs").mkdir()
    (folder.parent.parent / "refs" / "main").write_text(sha)
    registry._hub.cache_clear()
    backbone = fingerprinted(registry.resolve("user/model"))
    assert backbone.fingerprint == fingerprinted(directory).fingerprint
    encoder, tokenizer = loading.load(backbone)
    assert torch.equal(_states(encoder, tokenizer), _states(*loading.load(directory)))
    registry._hub.cache_clear()
