"""What a backbone's config.json may say: a stranger's file, read before any library sees it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters_xtl.backbones import registry
from adapters_xtl.backbones.config import encoder_settings, read_config
from adapters_xtl.base.errors import RequestError

SOUND: dict[str, Any] = {
    "model_type": "xlm-roberta",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "vocab_size": 1000,
    "max_position_embeddings": 66,
    "type_vocab_size": 1,
    "pad_token_id": 1,
}
ABSENT = object()


def written(folder: Path, text: str | None = None, **changes: Any) -> Path:
    """A config.json; ABSENT leaves a key out."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {key: value for key, value in (SOUND | changes).items() if value is not ABSENT}
    path = folder / "config.json"
    path.write_text(json.dumps(config) if text is None else text)
    return path


def refused(path: Path) -> str:
    with pytest.raises(RequestError) as caught:
        read_config(path, "backbone x")
    message = str(caught.value)
    assert message.startswith("backbone x: config.json") and "\n" not in message
    assert len(message) < 800
    return message


def test_a_sound_config_is_read_whole_and_given_on_in_part(tmp_path: Path) -> None:
    more = {"architectures": ["A"], "_name_or_path": "/home/x", "anything": {"a": 1}}
    config = read_config(written(tmp_path, layer_norm_eps=1e-5, **more), "backbone x")
    assert config["anything"] == {"a": 1}
    given_on = encoder_settings(config)
    assert given_on["layer_norm_eps"] == 1e-5 and given_on["hidden_size"] == 32
    assert not set(more) & set(given_on) and "model_type" not in given_on


@pytest.mark.parametrize("name", ["mini", "tiny"])
def test_the_named_configs_pass(tmp_path: Path, name: str) -> None:
    config = registry.config(registry.NAMED[name])
    assert read_config(written(tmp_path, json.dumps(config)), "x") == config


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("_attn_implementation_internal", "someone/kernel"),
        ("_attn_implementation_internal", {"": "someone/kernel"}),
        ("_attn_implementation", "someone/kernel:layer"),
        ("_attn_implementation", "flash_attention_2"),
        ("attn_implementation", "paged|someone/kernel"),
        ("attn_implementation", 1),
        ("auto_map", {"AutoModel": "code.Model"}),
        ("auto_map", ["code.Model"]),
        ("custom_pipelines", {"x": {"impl": "code.Pipeline"}}),
        ("trust_remote_code", True),
        ("quantization_config", {"load_in_8bit": True}),
        ("transformers_weights", "other.safetensors"),
        ("pruned_heads", {"0": [1]}),
        ("is_decoder", True),
        ("add_cross_attention", True),
        ("chunk_size_feed_forward", 3),
        ("chunk_size_feed_forward", -1),
        ("chunk_size_feed_forward", "8"),
        ("hidden_act", "xielu"),
        ("hidden_act", ["gelu"]),
        ("position_embedding_type", "rotary"),
        ("model_type", "t5"),
        ("model_type", "xlm-robertaa"),
        ("model_type", None),
        ("model_type", ["bert"]),
        ("model_type", ABSENT),
        ("num_hidden_layers", 10**9),
        ("num_hidden_layers", 0),
        ("num_hidden_layers", -1),
        ("num_hidden_layers", 2.0),
        ("num_hidden_layers", "2"),
        ("num_hidden_layers", True),
        ("num_hidden_layers", None),
        ("num_hidden_layers", ABSENT),
        ("hidden_size", 33),
        ("hidden_size", [32]),
        ("vocab_size", 10**39),
        ("max_position_embeddings", 2),
        ("max_position_embeddings", ABSENT),
        ("type_vocab_size", 0),
        ("pad_token_id", None),
        ("pad_token_id", 1000),
        ("pad_token_id", -1),
        ("hidden_dropout_prob", 1),
        ("hidden_dropout_prob", "0.1"),
        ("attention_probs_dropout_prob", -0.1),
        ("layer_norm_eps", None),
        ("initializer_range", 1e300),
        ("bos_token_id", "x"),
    ],
    ids=lambda value: "absent" if value is ABSENT else str(value),
)
def test_what_is_wrong_is_named_by_its_key(tmp_path: Path, key: str, value: Any) -> None:
    assert key in refused(written(tmp_path, **{key: value}))


def test_several_faults_are_told_in_one_line(tmp_path: Path) -> None:
    message = refused(written(tmp_path, hidden_size=-1, auto_map={"a": "b"}, vocab_size=None))
    assert "hidden_size is -1" in message and "auto_map" in message
    assert "vocab_size is null" in message


@pytest.mark.parametrize(
    ("text", "token"),
    [
        ("", "no JSON"),
        ("{", "no JSON"),
        ("[]", "no JSON object"),
        ("null", "no JSON object"),
        ('{"hidden_size": NaN}', "NaN"),
        ('{"hidden_size": 1e999}', "out of range"),
        ('{"hidden_size": 1' + "0" * 400 + "}", "40 digits"),
        ('{"model_type": "bert", "model_type": "roberta"}', "twice"),
        ('{"x": "\\ud800"}', "surrogate"),
        ('{"\\udc00": 1}', "surrogate"),
        ("[" * 100_000, "deep"),
        ('{"a":' * 200 + "1" + "}" * 200, "deep"),
    ],
)
def test_texts_that_are_no_sound_json(tmp_path: Path, text: str, token: str) -> None:
    assert token in refused(written(tmp_path, text))


def test_files_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    assert "cannot be read" in refused(path)
    path.mkdir()
    assert "not a regular file" in refused(path)
    path.rmdir()
    os.mkfifo(path)
    assert "not a regular file" in refused(path)
    path.unlink()
    path.symlink_to(path)
    assert "cannot be read" in refused(path)
    path.unlink()
    path.write_bytes(b'{"a": "\xff"}')
    assert "UTF-8" in refused(path)
    path.write_bytes(b" " * (9 << 20))
    assert "longer" in refused(path)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)  # on a busy machine
@given(changes=st.dictionaries(st.sampled_from([*SOUND, "hidden_act", "auto_map"]), _JSON))
def test_any_values_are_read_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, changes: dict[str, Any]
) -> None:
    path = written(tmp_path_factory.getbasetemp() / "any", **changes)
    try:
        config = read_config(path, "x")
    except RequestError as error:
        assert "\n" not in str(error)
    else:
        assert 1 <= config["num_hidden_layers"] <= 1024 and not config.get("auto_map")


# A package `kernels` that writes down that it was asked for code.
KERNELS = """
import enum, pathlib
class Mode(enum.Flag):
    INFERENCE = 1; TRAINING = 2; TORCH_COMPILE = 4
class Device:
    def __init__(self, *a, **k): pass
class LayerRepository:
    def __init__(self, *a, **k): pass
def get_kernel(*a, **k):
    with open(pathlib.Path(__file__).with_name("called"), "a") as file: file.write(str(a))
    raise SystemExit("foreign code ran")
def register_kernel_mapping(*a, **k): pass
def replace_kernel_forward_from_hub(*a, **k): pass
def use_kernel_forward_from_hub(*a, **k): return lambda made: made
def kernelize(model, *a, **k): return model
"""
SCRIPT = """
import json, sys
from pathlib import Path
from adapters_xtl.backbones import Backbone, loading, registry
from adapters_xtl.base.errors import RequestError
from transformers import AutoConfig, AutoModel
from transformers.integrations import hub_kernels
assert hub_kernels._kernels_available
folder = Path(sys.argv[1])
encoder, tokenizer = loading.load(registry.NAMED["tiny"])
encoder.save_pretrained(folder); tokenizer.save_pretrained(folder)
sound = json.loads((folder / "config.json").read_text())
loading.load(registry.resolve(str(folder)))
import peft, kernels
from bitsandbytes.backends.cpu import ops
assert getattr(ops, "gemm_4bit_forward_kernel", None) is None and kernels.get_kernel
for key in ("_attn_implementation_internal", "_attn_implementation", "attn_implementation"):
    (folder / "config.json").write_text(json.dumps({**sound, key: "someone/kernel"}))
    for call in (lambda: registry.resolve(str(folder)),
                 lambda: loading.load(Backbone("x", "directory", str(folder))),
                 lambda: loading.load(Backbone("x", "directory", str(folder)), bits=4)):
        try: call()
        except RequestError as error: print(key in str(error))
        else: print("loaded")
(folder / "config.json").write_text(
    json.dumps({**sound, "_attn_implementation_internal": "someone/kernel"}))
print("sound so far", flush=True)
AutoModel.from_pretrained(folder, attn_implementation="sdpa")
"""


def test_no_kernel_of_a_stranger_is_fetched(tmp_path: Path) -> None:
    """With the package `kernels` installed, a directory's config.json names a hub repository as
    its attention, and bitsandbytes is imported, which on some CPUs fetches a kernel. The last line
    of the script shows that transformers alone would fetch it.
    """
    package = tmp_path / "site" / "kernels"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(KERNELS)
    information = tmp_path / "site" / "kernels-0.9.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: kernels\nVersion: 0.9.0\n")
    path = os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", ""), os.getcwd()])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "model")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )
    answers = done.stdout.split("sound so far")[0].split()
    assert answers == ["True"] * 9, done.stdout + done.stderr[-2000:]
    assert "foreign code ran" in done.stderr, "the library alone fetches it: the test has teeth"
    assert (package / "called").read_text() == "('someone/kernel',)", "and nothing else"


def test_tokenizer_settings_that_name_code_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    written(folder)
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "tokenizer.json").write_text("{}")
    for text, token in (
        ('{"auto_map": {"AutoTokenizer": ["code.T", null]}}', "auto_map"),
        ('{"trust_remote_code": true}', "trust_remote_code"),
        ('{"tokenizer_class": 3}', "tokenizer_class"),
        ("{", "no JSON"),
    ):
        (folder / "tokenizer_config.json").write_text(text)
        with pytest.raises(RequestError, match=token) as caught:
            registry.resolve(str(folder))
        assert "tokenizer_config.json" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("files", "settings_of_it", "token"),
    [
        (("sentencepiece.bpe.model",), {}, "sentencepiece"),
        (("vocab.txt", "bpe.codes"), {"tokenizer_class": "PhobertTokenizer"}, "PhobertTokenizer"),
        (("vocab.txt",), {"tokenizer_class": "BertJapaneseTokenizer"}, "BertJapaneseTokenizer"),
    ],
)
def test_vocabularies_that_cannot_be_converted_say_what_to_do(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    files: tuple[str, ...],
    settings_of_it: dict[str, Any],
    token: str,
) -> None:
    monkeypatch.setattr("adapters_xtl.base.extras.installed", lambda name: False)
    folder = tmp_path / "model"
    written(folder)
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings_of_it))
    for name in files:
        (folder / name).write_text("x")
    with pytest.raises(RequestError, match=token) as caught:
        registry.resolve(str(folder))
    assert "tokenizer.json" in str(caught.value) and "\n" not in str(caught.value)
    (folder / "tokenizer.json").write_text("{}")
    assert registry.resolve(str(folder)).source == "directory"
