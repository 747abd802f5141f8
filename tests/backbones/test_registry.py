"""Names of backbones, checkpoint directories and hub ids, and the fingerprints of what they mean."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from adapters_xtl.backbones import Backbone, registry
from adapters_xtl.backbones.fingerprint import fingerprinted
from adapters_xtl.base.errors import RequestError
from tests.hub_client import asking
from tests.hub_server import Failure, HubServer, commit

CONFIG = {
    "model_type": "xlm-roberta",
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "vocab_size": 100,
    "max_position_embeddings": 66,
    "architectures": ["XLMRobertaModel"],
}
SHA = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XTL_CACHE", str(tmp_path / "cache"))
    registry._hub.cache_clear()
    yield
    registry._hub.cache_clear()


def _checkpoint(folder: Path, **files: str | bytes | None) -> Path:
    """A directory with the right names; `a__json=…` sets a file a.json, None leaves it out."""
    content: dict[str, str | bytes | None] = {
        "config.json": json.dumps(CONFIG),
        "model.safetensors": b"weights",
        "tokenizer.json": "{}",
        "tokenizer_config.json": "{}",
    }
    content |= {name.replace("__", "."): value for name, value in files.items()}
    folder.mkdir(parents=True)
    for name, value in content.items():
        if value is not None:
            (folder / name).write_bytes(value.encode() if isinstance(value, str) else value)
    return folder


def _taken(folder: Path) -> str:
    return fingerprinted(registry.resolve(str(folder))).fingerprint


@pytest.mark.parametrize("name", registry.NAMED)
def test_named_backbones_resolve(name: str) -> None:
    assert registry.resolve(name) is registry.NAMED[name]


def test_hub_ids_resolve_without_network() -> None:
    assert registry.resolve("user/model-x.1") == Backbone("user/model-x.1", "hub", "user/model-x.1")
    assert registry.resolve("user/model@v1.0") == Backbone(
        "user/model@v1.0", "hub", "user/model", revision="v1.0"
    )
    assert registry.resolve("xlm-roberta-large").location == "FacebookAI/xlm-roberta-large"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("minni", "unknown backbone 'minni'; did you mean 'mini'?"),
        ("xlmr_large", "unknown backbone 'xlmr_large'; did you mean 'xlmr-large'?"),
        ("a b/c", "unknown backbone 'a b/c'"),
        ("./nowhere", "--backbone ./nowhere: no such directory"),
        ("~/no/where", "--backbone ~/no/where: no such directory"),
        ("models/xlmr/base", "--backbone models/xlmr/base: no such directory"),
        ("/nowhere", "--backbone /nowhere: no such directory"),
    ],
)
def test_wrong_names_get_one_line(name: str, message: str) -> None:
    with pytest.raises(RequestError) as caught:
        registry.resolve(name)
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"config__json": None}, "no config.json"),
        ({"model__safetensors": None}, "no weights (model.safetensors or pytorch_model.bin)"),
        ({"tokenizer__json": None}, "no tokenizer (tokenizer.json, sentencepiece.bpe.model"),
        (
            {"config__json": json.dumps({**CONFIG, "model_type": "t5"})},
            "model_type 't5' is not one of xlm-roberta,",
        ),
        ({"config__json": "{"}, "config.json: no JSON"),
        ({"config__json": "[]"}, "config.json: holds no JSON object"),
        (
            {
                "model__safetensors": None,
                "model__safetensors__index__json": '{"weight_map": {"a": "model-1.safetensors"}}',
            },
            "no model-1.safetensors, which the weights' index names",
        ),
        (
            {"model__safetensors": None, "model__safetensors__index__json": "{}"},
            "index.json names no files",
        ),
        (
            {"config__json": None, "model__safetensors": None, "adapter_config__json": "{}"},
            "it holds an adapter",
        ),
    ],
)
def test_directories_that_are_no_checkpoint_say_what_is_lacking(
    tmp_path: Path, files: Any, message: str
) -> None:
    folder = _checkpoint(tmp_path / "bad", **files)
    with pytest.raises(RequestError) as caught:
        registry.resolve(str(folder))
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"--backbone {folder}: ")


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match="a file, not a directory"):
        registry.resolve(str(tmp_path / "file"))


def test_fingerprints_follow_content_and_not_place_or_format(tmp_path: Path) -> None:
    base = _taken(_checkpoint(tmp_path / "a"))
    assert len(base) == 64 and _taken(tmp_path / "a") == base
    written = {
        **CONFIG,
        "_name_or_path": "x",
        "transformers_version": "4.0",
        "torch_dtype": "float16",
    }
    del written["architectures"]
    same = _checkpoint(
        tmp_path / "b", config__json=json.dumps(written), pytorch_model__bin="other", README__md="!"
    )
    assert _taken(same) == base
    different = {
        "config__json": json.dumps({**CONFIG, "num_hidden_layers": 3}),
        "model__safetensors": "Weights",
        "tokenizer__json": "[]",
        "tokenizer_config__json": '{"do_lower_case": true}',
    }
    found = {
        _taken(_checkpoint(tmp_path / name, **{name: value})) for name, value in different.items()
    }
    assert len(found | {base}) == 5
    (tmp_path / "a" / "model.safetensors").write_bytes(b"changed in place")
    assert _taken(tmp_path / "a") != base


def test_sharded_and_pickled_weights_and_vocabularies_are_listed(tmp_path: Path) -> None:
    index = (
        '{"weight_map": {"x": "m-2.safetensors", "y": "m-1.safetensors", "z": "m-1.safetensors"}}'
    )
    shards = _checkpoint(
        tmp_path / "shards",
        model__safetensors=None,
        model__safetensors__index__json=index,
        **{"m-1__safetensors": "1", "m-2__safetensors": "2"},
    )
    assert registry.files(registry.resolve(str(shards))) == (
        "config.json",
        "m-1.safetensors",
        "m-2.safetensors",
        "model.safetensors.index.json",
        "tokenizer.json",
        "tokenizer_config.json",
    )
    pickled = _checkpoint(
        tmp_path / "bin",
        model__safetensors=None,
        pytorch_model__bin="x",
        tokenizer__json=None,
        vocab__json="{}",
        merges__txt="",
    )
    assert registry.files(registry.resolve(str(pickled))) == (
        "config.json",
        "pytorch_model.bin",
        "vocab.json",
        "merges.txt",
        "tokenizer_config.json",
    )


def test_mini_and_tiny_need_no_files() -> None:
    found = {name: fingerprinted(registry.NAMED[name]).fingerprint for name in ("mini", "tiny")}
    assert found["mini"].startswith("561818e38596") and found["tiny"] != found["mini"]
    assert found["tiny"] == fingerprinted(registry.NAMED["tiny"]).fingerprint
    assert registry.config(registry.NAMED["mini"])["hidden_size"] == 384
    assert registry.config(registry.NAMED["tiny"])["num_hidden_layers"] == 4
    assert (
        "no finding" not in registry.NAMED["tiny"].note
        and "test no finding" in registry.NAMED["mini"].note
    )


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub on loopback with the model `user/model`, whose weights are kept in LFS."""
    root = tmp_path / "hub"
    _checkpoint(root / "user/model", pytorch_model__bin="the same in another format")
    with HubServer(root) as server, asking(server, tmp_path / "home", monkeypatch):
        yield server


def test_the_hub_gives_the_fingerprint_of_the_same_directory_and_no_weights_are_fetched(
    hub: HubServer,
) -> None:
    folder = hub.root / "user/model"
    found = fingerprinted(registry.resolve("user/model"))
    assert found.fingerprint == _taken(folder) and found.revision == commit(folder)
    assert hub.sent(".safetensors") == hub.sent(".bin") == 0 < hub.sent("config.json")
    assert registry.config(found) == CONFIG
    asked = len(hub.log)
    fingerprinted(registry.resolve("user/model"))
    registry.config(registry.resolve("user/model"))
    listed = [sent.path for sent in hub.log[asked:] if "/resolve/" not in sent.path]
    assert not listed, "what a repository holds is asked once a process"


@pytest.mark.slow  # the hub's own client waits before it asks again
@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (Failure(401, "RepoNotFound", "Invalid username or password."), "no model repository"),
        (Failure(404, "RevisionNotFound", "no revision"), "no such revision"),
        (Failure(403, "GatedRepo", "restricted"), "gated"),
        (Failure(500), "500.*--backbone mini"),
        (Failure(500, when="/resolve/.*config"), "user/model"),
    ],
    ids=str,
)
def test_a_hub_that_does_not_answer_gives_one_line(
    hub: HubServer, failure: Failure, message: str
) -> None:
    hub.fail["user/model"] = failure
    with pytest.raises(RequestError, match=message) as caught:
        fingerprinted(registry.resolve("user/model"))
    assert "\n" not in str(caught.value) and "user/model" in str(caught.value)


def test_nobody_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hub").mkdir()
    with HubServer(tmp_path / "hub") as server:
        pass
    with (
        asking(server, tmp_path / "home", monkeypatch),
        pytest.raises(RequestError, match=r"connection refused.*--backbone mini"),
    ):
        fingerprinted(registry.resolve("user/model"))


def test_a_hub_models_config_is_checked_before_anything_else_is_fetched(hub: HubServer) -> None:
    config = {**CONFIG, "_attn_implementation_internal": "someone/kernel"}
    (hub.root / "user/model/config.json").write_text(json.dumps(config))
    with pytest.raises(RequestError, match="_attn_implementation_internal"):
        fingerprinted(registry.resolve("user/model"))
    with pytest.raises(RequestError, match="_attn_implementation_internal"):
        registry.config(registry.resolve("user/model"))
    assert not hub.sent(".safetensors")


def test_offline_the_cache_is_read_or_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    backbone = registry.resolve("user/model")
    with pytest.raises(RequestError, match="HF_HUB_OFFLINE"):
        fingerprinted(backbone)
    folder = _checkpoint(tmp_path / "hub" / "models--user--model" / "snapshots" / SHA)
    (tmp_path / "hub" / "models--user--model" / "refs").mkdir()
    (tmp_path / "hub" / "models--user--model" / "refs" / "main").write_text(SHA)
    found = fingerprinted(backbone)
    assert (found.fingerprint, found.revision) == (_taken(folder), SHA)
    (folder / "model.safetensors").unlink()
    registry._hub.cache_clear()
    with pytest.raises(RequestError, match=r"HF_HUB_OFFLINE.*no weights"):
        fingerprinted(backbone)
    shutil.rmtree(folder)


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys; from adapters_xtl.backbones import checkpoint, embedded, registry; print({'torch', 'transformers'} &"
        " set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
