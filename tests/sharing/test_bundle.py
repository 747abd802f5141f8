"""What a bundle holds, what its card says, and everything that must be refused before anything of
it is used.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters_xtl.backbones import loading, registry
from adapters_xtl.base import untrusted
from adapters_xtl.base.errors import MismatchError, RequestError
from adapters_xtl.base.files import digest, file_digest, folder_digest, read_json
from adapters_xtl.base.typed_json import from_json
from adapters_xtl.runs.hyper import Hyper
from adapters_xtl.runs.stored_runs import read_run
from adapters_xtl.sharing import bundle, pack
from adapters_xtl.sharing.bundle_card import bundle_card
from adapters_xtl.sharing.bundle_record import BundleRecord
from adapters_xtl.sharing.parents import parent_on_this_machine
from tests.bundles import change, pack_run, reseal, stack, train
from tests.command_line import complaints, xtl


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One bundle of each kind."""
    root, found = tmp_path_factory.mktemp("bundles"), {}
    kinds: dict[str, dict[str, Any]] = {
        "bottleneck": {"task": "mnli"},
        "stack": {"task": "pawsx", "on": "mnli"},
        "lora": {"task": "mnli", "method": "lora"},
        "full": {"task": "mnli", "method": "full"},
        "fuse": {"task": "pawsx", "on": "mnli,qqp", "compose": "fuse"},
        "init": {"task": "pawsx", "on": "mnli", "compose": "init"},
        "span": {"task": "squad1", "method": "lora"},
        "choice": {"task": "csqa"},
        "tag": {"task": "ccg"},
        "upper": {"task": "mnli", "method": "lora", "from_layer": 2},
    }
    for name, options in kinds.items():
        found[name] = pack_run(stack(tmp_path_factory, **options), root / name)
    return found


@pytest.fixture
def bad(made: dict[str, Path], tmp_path: Path) -> Path:
    """A copy to tamper with."""
    return Path(shutil.copytree(made["bottleneck"], tmp_path / "bad"))


def refused(folder: Path) -> str:
    with pytest.raises(MismatchError) as caught:
        bundle.read(folder)
    lines = str(caught.value).splitlines()
    assert all(line.startswith(f"{folder}: ") for line in lines) and len(lines) <= 13
    return str(caught.value)


@pytest.mark.parametrize(
    "kind",
    ["bottleneck", "stack", "lora", "full", "fuse", "init", "span", "choice", "tag", "upper"],
)
def test_a_bundle_is_whole(kind: str, made: dict[str, Path]) -> None:
    folder = made[kind]
    found = bundle.read(folder)
    names = sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )
    manifest = read_json(folder / "manifest.json")
    assert set(manifest) == {"files"} and sorted([*manifest["files"], "manifest.json"]) == names
    assert all(file_digest(folder / name) == sha for name, sha in manifest["files"].items())
    assert {Path(name).suffix for name in names} <= {".json", ".safetensors", ".md"}
    assert all(stat.S_IMODE((folder / name).stat().st_mode) & 0o444 == 0o444 for name in names), (
        "others can read it"
    )
    record = read_json(folder / "bundle.json")
    assert found.digest == digest(manifest["files"]) and found.module_sha256 == folder_digest(
        folder / "module"
    )
    assert (
        record["id"] == found.record.id == digest(record["run"])[:12]
        and record["seed"] == 1
        and record["versions"]["torch"]
    )
    assert (
        record["backbone"]["fingerprint"]
        == digest(record["backbone"]["identity"])
        == found.record.run.backbone
    )
    assert found.task in record["labels"] and record["method"] == record["run"]["method"]
    text = (folder / "README.md").read_text() + json.dumps(record)
    assert str(folder) not in text and "/tmp" not in text, "nothing of this machine"


def test_sizes_are_a_few_megabytes_only_where_the_weights_are(made: dict[str, Path]) -> None:
    def size(kind: str) -> int:
        return sum(path.stat().st_size for path in made[kind].rglob("*") if path.is_file())

    assert size("bottleneck") < 25_000 and size("lora") < 150_000 < 30_000_000 < size("full")


def test_a_bundle_is_the_same_whenever_it_is_made(
    made: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    again = pack_run(stack(tmp_path_factory, "pawsx", on="mnli"), tmp_path / "again")
    assert bundle.read(again).digest == bundle.read(made["stack"]).digest


def test_parents_stand_in_order_with_their_digests(
    made: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    run = stack(tmp_path_factory, "pawsx", on="mnli,qqp", compose="fuse")
    found = bundle.read(made["fuse"])
    assert [parent.task for parent in found.record.parents] == ["mnli", "qqp"]
    beside = [
        run.parent.parent / parent.task / parent.id / "module" for parent in found.record.parents
    ]
    assert [parent.sha256 for parent in found.record.parents] == [
        folder_digest(path) for path in beside
    ]
    assert pack.default_name(found.module) == "pawsx-on-mnli-qqp-bottleneck-tiny"


def _metadata(card: str) -> dict[str, Any]:
    _, block, _ = card.split("---\n", 2)
    found: dict[str, Any] = yaml.safe_load(block)
    return found


def test_a_card_on_embedded_rows_carries_no_numbers(made: dict[str, Path]) -> None:
    card = (made["stack"] / "README.md").read_text()
    meta, record = _metadata(card), read_json(made["stack"] / "bundle.json")
    assert record["metrics"] == {} and meta["metrics"] == [] and meta["datasets"] == []
    assert (
        meta["library_name"] == "adapters"
        and meta["license"] == "apache-2.0"
        and meta["language"] == ["en"]
    )
    assert {"adapters_xtl", "bottleneck", "pawsx"} <= set(meta["tags"])
    assert "sample rows" in card and "zero-shot" not in card.lower() and "%" not in card
    assert (
        record["parents"][0]["sha256"] in card
        and "[More Information" not in card
        and "TODO" not in card
    )


def test_the_base_model_is_one_that_the_hub_knows(made: dict[str, Path]) -> None:
    record = read_json(made["lora"] / "bundle.json")
    assert _metadata((made["lora"] / "README.md").read_text())["base_model"] == [], (
        "a random encoder has none"
    )
    hub = {
        **record["backbone"],
        "name": "xlmr-large",
        "location": "FacebookAI/xlm-roberta-large",
        "revision": "c" * 40,
    }
    card = bundle_card(from_json(BundleRecord, {**record, "backbone": hub}), ["mnli"])
    assert (
        _metadata(card)["base_model"] == ["FacebookAI/xlm-roberta-large"]
        and _metadata(card)["library_name"] == "peft"
    )
    assert (
        f'AutoModel.from_pretrained("FacebookAI/xlm-roberta-large", revision="{"c" * 40}"' in card
    )


def _recard(record: dict[str, Any], backbone: str, **data: Any) -> str:
    from adapters_xtl.backbones.registry import NAMED

    scores = {"en": {"accuracy": 80.0, "n": 100}, "de": {"accuracy": 70.0, "n": 100}}
    entry = {
        "split": "validation",
        "metric": "accuracy",
        "score": 75.0,
        "languages": scores,
        "protocol": "clean",
    }
    named = {**record["backbone"], "name": backbone, "location": NAMED[backbone].location}
    form = "nyu-mll/multi_nli [default] train"
    train = {"xnli": {"rows": 500, "examples": 500, "forms": [form]}}
    found = {
        "source": "hub",
        "revisions": {"nyu-mll/multi_nli": "a" * 40},
        "train": train,
        "select": {},
        "report": {},
        "mirror": "",
        "stated": {},
        "rows": "",
        **data,
    }
    edited = {"task": "xnli", "backbone": named, "metrics": {"xnli": entry}, "data": found}
    return bundle_card(from_json(BundleRecord, {**record, **edited}), ["xnli"])


def test_zero_shot_is_said_only_where_the_backbone_saw_no_labels(made: dict[str, Path]) -> None:
    record = read_json(made["lora"] / "bundle.json")
    assert "scored in de zero-shot" in _recard(record, "xlmr-large")
    assert "zero-shot" not in _recard(record, "mini").lower() and "labelled" in _recard(
        record, "mini"
    )


def test_rows_are_called_what_they_are(made: dict[str, Path]) -> None:
    record, form = read_json(made["lora"] / "bundle.json"), "nyu-mll/multi_nli [default] train"
    hub = _recard(record, "xlmr-large")
    assert (
        _metadata(hub)["datasets"] == ["nyu-mll/multi_nli"] and f"at revision `{'a' * 12}`" in hub
    )
    mirror = {"source": "mirror", "mirror": "rows-of-ours", "revisions": {}}
    for data, words in (
        ({}, f"rows of `rows-of-ours`, which carry the columns of {form}"),
        ({"stated": {form: "first 500 rows"}}, "(the mirror's README states: first 500 rows)"),
        ({"rows": "SNLI captions"}, f"SNLI captions, in the columns of {form}"),
    ):
        card = _recard(record, "xlmr-large", **mirror, **data)
        assert _metadata(card)["datasets"] == [] and _metadata(card)["license"] == record["licence"]
        assert words in card


def _small_mirror(root: Path, mirror: Path) -> Path:
    """A mirror of one data set, without the list and the README that the outside one has."""
    shutil.copytree(mirror / "nyu-mll/multi_nli", root / "nyu-mll/multi_nli")
    return root


def test_a_card_of_a_run_on_a_mirror(mirror: Path, tmp_path: Path) -> None:
    """The mirror's README says what its rows are, as long as it holds what was trained on."""
    root = _small_mirror(tmp_path / "rows-of-ours", mirror)
    run = train(tmp_path / "runs", "mnli", data=str(root))
    plain = pack_run(run, tmp_path / "plain")
    record, card = read_json(plain / "bundle.json"), (plain / "README.md").read_text()
    (form,) = record["data"]["train"]["mnli"]["forms"]
    assert f"rows of `rows-of-ours`, which carry the columns of {form}" in card
    assert str(tmp_path) not in card and _metadata(card)["datasets"] == []
    scores = record["metrics"]["mnli"]
    assert scores["split"] == "validation" and scores["protocol"] == "clean"
    assert f"**{scores['score']:.2f}**" in card and "chose the checkpoint" in card
    readme = "---\nrows:\n  nyu-mll/multi_nli: captions of another data set\n---\n# Rows\n"
    (root / "README.md").write_text(readme)
    stated = (pack_run(run, tmp_path / "stated") / "README.md").read_text()
    assert "states: captions of another data set" in stated
    for path in (root / "nyu-mll/multi_nli").rglob("train-*.parquet"):
        path.unlink()
    assert "states:" not in (pack_run(run, tmp_path / "another") / "README.md").read_text()


def test_forms_of_which_the_same_is_said_stand_together(made: dict[str, Path]) -> None:
    record = read_json(made["lora"] / "bundle.json")
    forms = {"xnli": [f"google/xtreme [PAN-X.{code}] validation" for code in ("de", "sw")]}
    card = _recard(record, "xlmr-large", report=forms, revisions={"google/xtreme": "b" * 40})
    assert f"Rows: google/xtreme [PAN-X.de, PAN-X.sw] validation at revision `{'b' * 12}`." in card


def test_a_card_says_what_starts_as_a_copy_and_what_is_frozen(made: dict[str, Path]) -> None:
    copied, full = ((made[kind] / "README.md").read_text() for kind in ("init", "full"))
    assert (
        "started as a copy of mnli. It is" in copied
        and "takes its place" in copied
        and "only above" not in copied
    )
    assert (
        "All weights of tiny, fine-tuned for natural language inference" in full
        and "frozen" not in full.split("## ")[0]
    )
    assert "only above exactly these modules" in (made["stack"] / "README.md").read_text()


def test_rows_are_described_for_a_mirror_only(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    with pytest.raises(RequestError, match=r"--rows.*embedded"):
        pack_run(stack(tmp_path_factory, "mnli"), tmp_path / "bundle", rows="SNLI captions")
    with pytest.raises(RequestError, match="takes one line"):
        pack.check_rows("two\nlines", "mirror")


@pytest.mark.parametrize("method", ["bottleneck", "lora", "full"])
def test_a_backbone_in_a_directory_is_called_by_its_name(method: str, tmp_path: Path) -> None:
    """No path of this machine is in what is shared, the libraries' own descriptions included."""
    encoder, tokenizer = loading.load(registry.NAMED["tiny"])
    encoder.save_pretrained(tmp_path / "somebody/tiny-xlmr")
    tokenizer.save_pretrained(tmp_path / "somebody/tiny-xlmr")
    run = train(
        tmp_path / "runs", "qqp", method=method, backbone=str(tmp_path / "somebody/tiny-xlmr")
    )
    folder = pack_run(run, tmp_path / "bundle")
    assert bundle.read(folder).record.backbone.location == "tiny-xlmr"
    for path in folder.rglob("*"):
        assert path.is_dir() or b"somebody" not in path.read_bytes(), path


def test_a_changed_run_is_not_shared(tmp_path: Path) -> None:
    run = train(tmp_path / "runs", "mnli")
    weights = run / "module" / "adapter.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(MismatchError, match=r"adapter\.safetensors: sha256"):
        pack_run(run, tmp_path / "bundle")


# what must be refused
# -------------------------------------------------------------------------------------------------


class Trap:
    """Unpickled, it leaves a file behind."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def _zip(mark: Path) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Trap(mark)))
    return out.getvalue()


@pytest.mark.parametrize(
    "name",
    [
        "module/pytorch_adapter.bin",
        "module/adapter_model.bin",
        "head/mnli/model.pt",
        "a.pkl",
        "module/optimizer.pth",
        "head/mnli/pytorch_model.bin",
        "module/weights.npy",
    ],
)
def test_pickles_are_refused_by_name_and_never_opened(name: str, bad: Path, tmp_path: Path) -> None:
    for content in (pickle.dumps(Trap(tmp_path / "sprung")), _zip(tmp_path / "sprung")):
        (bad / name).write_bytes(content)
        reseal(bad)
        said = refused(bad)
        assert f"{name}: a {Path(name).suffix} file" in said and "pickle" in said
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("weights", ["module/adapter.safetensors", "head/mnli/model.safetensors"])
def test_a_pickle_under_the_name_of_weights(weights: str, bad: Path, tmp_path: Path) -> None:
    for content in (pickle.dumps(Trap(tmp_path / "sprung")), _zip(tmp_path / "sprung")):
        (bad / weights).write_bytes(content)
        reseal(bad)
        assert "a pickle or a zip archive under the name of a safetensors file" in refused(bad)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("setup.py", "code"),
        ("module/run.sh", "code"),
        ("module/extra.json", "unknown file; a module of method bottleneck"),
        ("notes.txt", "unknown file"),
        ("head/xnli/config.json", "differ on whether it is there"),
        ("deep/a/b/c.json", "unknown file"),
        (".hidden", "unknown file"),
        ("module/second.safetensors", "unknown file"),
        (".cache/other/x.json", "unknown file"),
    ],
)
def test_unknown_files_are_refused_by_name(name: str, said: str, bad: Path) -> None:
    (bad / name).parent.mkdir(parents=True, exist_ok=True)
    (bad / name).write_text("{}")
    reseal(bad)
    assert said in refused(bad)


def test_what_the_hubs_own_client_leaves_is_no_part_of_it(bad: Path) -> None:
    (bad / ".gitattributes").write_text("*.safetensors filter=lfs\n")
    (bad / ".cache/huggingface/download").mkdir(parents=True)
    (bad / ".cache/huggingface/download/README.md.metadata").write_text("a\nb\n1\n")
    assert bundle.read(bad).task == "mnli"


def test_links_and_devices_are_refused(bad: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.json"
    outside.write_text((bad / "module/adapter_config.json").read_text())
    (bad / "module/adapter_config.json").unlink()
    (bad / "module/adapter_config.json").symlink_to(outside)
    assert "module/adapter_config.json: a symbolic link" in refused(bad)
    (bad / "module/adapter_config.json").unlink()
    os.mkfifo(bad / "module/adapter_config.json")
    assert "neither a file nor a directory" in refused(bad)
    (bad / "module/adapter_config.json").unlink()
    shutil.move(bad / "head", tmp_path / "head")
    (bad / "head").symlink_to(tmp_path / "head")
    assert "head: a symbolic link" in refused(bad)


@pytest.mark.parametrize("name", ["bundle.json", "manifest.json", "README.md"])
def test_a_link_in_place_of_a_description(name: str, bad: Path, tmp_path: Path) -> None:
    shutil.move(bad / name, tmp_path / name)
    (bad / name).symlink_to(tmp_path / name)
    assert f"{name}: a symbolic link" in refused(bad)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("/etc/passwd", "an absolute path"),
        ("../secret.json", "leads out"),
        ("module/../../x", "leads out"),
        ("C:\\x", "an absolute path"),
        ("..\\x", "leads out"),
        ("module//x", "not a plain file name"),
        ("a\x1b[31m", "not a plain file name"),
        ("", "not a plain file name"),
    ],
)
def test_paths_of_a_manifest_stay_inside(name: str, said: str, bad: Path) -> None:
    change(bad, "manifest.json", lambda value: value["files"].update({name: "0" * 64}))
    found = refused(bad)
    assert said in found and "\x1b" not in found


def test_files_and_manifest_agree(bad: Path) -> None:
    weights = bad / "module/adapter.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-4] + b"\x00\x01\x02\x03")
    said = refused(bad)
    assert (
        "not the manifest's"
        f" {read_json(bad / 'manifest.json')['files']['module/adapter.safetensors']}" in said
    )
    assert file_digest(weights) in said, "both digests are named"
    weights.unlink()
    assert "module/adapter.safetensors: missing, though the manifest names it" in refused(bad)
    weights.write_bytes(whole)
    change(bad, "manifest.json", lambda value: value["files"].pop("README.md") and None)
    assert "README.md: not in the manifest" in refused(bad)
    (bad / "manifest.json").unlink()
    assert "manifest.json: cannot be read" in refused(bad)


def _header(path: Path) -> tuple[dict[str, Any], bytes]:
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def _rewrite(path: Path, header: Any, body: bytes, *, length: int | None = None) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + body)


def _first(header: dict[str, Any]) -> dict[str, Any]:
    name = next(name for name in header if name != "__metadata__")
    found: dict[str, Any] = header[name]
    return found


def _shift(header: dict[str, Any]) -> None:
    entry = _first(header)
    entry["data_offsets"] = [offset + 4 for offset in entry["data_offsets"]]


HEADERS: dict[str, tuple[Callable[[Path, dict[str, Any], bytes], None], str]] = {
    "oversized": (
        lambda path, header, body: _rewrite(path, header, body, length=1 << 40),
        "announces a header of",
    ),
    "longer than the file": (
        lambda path, header, body: _rewrite(path, header, b"", length=100_000),
        "but the file has",
    ),
    "empty": (lambda path, header, body: path.write_bytes(b""), "too short"),
    "no JSON": (lambda path, header, body: _rewrite(path, b"not json at all", body), "no JSON"),
    "trailing bytes": (
        lambda path, header, body: _rewrite(path, header, body + b"x" * 9),
        "not fully covered",
    ),
    "cut short": (
        lambda path, header, body: _rewrite(path, header, body[:-9]),
        "not fully covered",
    ),
    "twice the same key": (
        lambda path, header, body: _rewrite(
            path, (json.dumps(header)[:-1] + ', "x": 1, "x": 2}').encode(), body
        ),
        "the key 'x' occurs twice",
    ),
    "overlap": (
        lambda path, header, body: _shift(header) or _rewrite(path, header, body),
        "invalid offset",
    ),
    "lying shape": (
        lambda path, header, body: (
            _first(header).update(shape=[1 << 30]) or _rewrite(path, header, body)
        ),
        "no valid safetensors file",
    ),
    "negative shape": (
        lambda path, header, body: (
            _first(header).update(shape=[-2]) or _rewrite(path, header, body)
        ),
        "integer `-2`",
    ),
    "unknown dtype": (
        lambda path, header, body: _first(header).update(dtype="O") or _rewrite(path, header, body),
        "unknown variant `O`",
    ),
    "deep": (
        lambda path, header, body: _rewrite(path, b'{"a":' * 50_000 + b"1" + b"}" * 50_000, body),
        "nested deeper",
    ),
    "metadata": (
        lambda path, header, body: _rewrite(path, {**header, "__metadata__": {"a": {}}}, body),
        "expected a string",
    ),
}


@pytest.mark.parametrize("weights", ["module/adapter.safetensors", "head/mnli/model.safetensors"])
@pytest.mark.parametrize("kind", list(HEADERS))
def test_lying_headers_are_refused(kind: str, weights: str, bad: Path) -> None:
    tamper, said = HEADERS[kind]
    tamper(bad / weights, *_header(bad / weights))
    reseal(bad)
    found = refused(bad)
    assert f"{weights.rsplit('/', 1)[0]}" in found and said in found


@pytest.mark.parametrize("weights", ["module/adapter.safetensors", "head/mnli/model.safetensors"])
@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), float("-inf")], ids=["nan", "inf", "minus inf"]
)
@pytest.mark.parametrize("where", ["all", "the last number"])
def test_weights_that_are_no_numbers_are_refused(
    where: str, value: float, weights: str, bad: Path
) -> None:
    """A network with them still gives labels and scores."""
    header, body = _header(bad / weights)
    number = struct.pack("<f", value)
    body = number * (len(body) // 4) if where == "all" else body[:-4] + number
    _rewrite(bad / weights, header, body)
    reseal(bad)
    assert "NaN or infinite" in refused(bad)


def test_a_header_of_any_length_is_read(bad: Path) -> None:
    """Its length comes first and may look like the beginning of a pickle (0x80) or of an archive
    ("PK").
    """
    weights = bad / "module/adapter.safetensors"
    header, body = _header(weights)
    for length in (*range(2000, 2257), 0x4B50):
        _rewrite(weights, json.dumps(header).encode().ljust(length), body)
        assert len(untrusted.tensors(weights)) == 16


@given(st.binary(max_size=400))
@settings(max_examples=300, deadline=None)
def test_no_bytes_crash_the_header_reader(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.safetensors"
    for text in (data, struct.pack("<Q", len(data)) + data):
        path.write_bytes(text)
        try:
            untrusted.tensors(path)
        except untrusted.Refusal as refusal:
            assert "\n" not in str(refusal)


@given(st.integers(0, 20_000), st.integers(0, 255))
@settings(max_examples=150, deadline=None)
def test_one_changed_byte_anywhere_is_found(
    made: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, at: int, value: int
) -> None:
    folder = tmp_path_factory.getbasetemp() / "flipped"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(made["bottleneck"], folder)
    names = sorted(path for path in folder.rglob("*") if path.is_file())
    path = names[at % len(names)]
    data = bytearray(path.read_bytes())
    place = at % len(data)
    if data[place] == value:
        return
    data[place] = value
    path.write_bytes(bytes(data))
    try:
        known = bundle.read(folder).digest
    except (MismatchError, RequestError):
        return
    assert path.name == "manifest.json" and known == bundle.read(made["bottleneck"]).digest, (
        "only its spaces may change"
    )


def _shape(path: Path, edit: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Rewrites a safetensors file with other tensors, headers right."""
    header, _ = _header(path)
    shapes = edit(
        {name: entry["shape"] for name, entry in header.items() if name != "__metadata__"}
    )
    made: dict[str, Any] = {}
    end = 0
    for name, shape in shapes.items():
        size = 4
        for length in shape:
            size *= length
        made[name], end = (
            {"dtype": "F32", "shape": shape, "data_offsets": [end, end + size]},
            end + size,
        )
    _rewrite(path, made, b"\0" * end)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (
            lambda shapes: {
                name: [{32: 64}.get(each, each) for each in shape] for name, shape in shapes.items()
            },
            "has shape",
        ),
        (lambda shapes: dict(list(shapes.items())[:-1]), "lacks 1 of its 16 tensors"),
        (
            lambda shapes: {**shapes, "embeddings.word_embeddings.weight": [4, 32]},
            "does not call for",
        ),
        (
            lambda shapes: {
                name.replace("layer.3", "layer.7"): shape for name, shape in shapes.items()
            },
            "lacks 4 of its 16",
        ),
        (lambda shapes: {}, "lacks 16"),
    ],
    ids=[
        "another hidden size",
        "one too few",
        "one too many",
        "a layer that is not there",
        "nothing",
    ],
)
def test_shapes_are_those_of_the_backbone(
    edit: Callable[[dict[str, Any]], dict[str, Any]], said: str, bad: Path
) -> None:
    _shape(bad / "module/adapter.safetensors", edit)
    reseal(bad)
    assert said in refused(bad)


def test_a_backbone_cannot_be_talked_into_other_sizes(bad: Path) -> None:
    """Sizes that fit the weights do not help: the fingerprint is the digest of the whole config."""

    def other(value: dict[str, Any]) -> None:
        value["backbone"]["identity"]["config"]["hidden_size"] = 64

    change(bad, "bundle.json", other)
    reseal(bad)
    assert "the backbone's fingerprint is not the digest of its identity" in refused(bad)


def _drop(value: dict[str, Any], key: str) -> None:
    del value[key]


def _config(value: dict[str, Any], **options: Any) -> None:
    value["config"].update(options)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda value: value.update(config="https://example.org/config"), "no table 'config'"),
        (lambda value: _config(value, architecture="prefix_tuning"), "option architecture"),
        (lambda value: _config(value, phm_layer=True), "option phm_layer"),
        (lambda value: _config(value, non_linearity="__import__('os')"), "non_linearity"),
        (lambda value: _config(value, reduction_factor=1e-9), "reduction_factor"),
        (lambda value: _config(value, reduction_factor=4), "has shape"),
        (lambda value: _config(value, leave_out=[3]), "does not call for"),
        (lambda value: _config(value, surprise=1), "option surprise = 1: unknown"),
        (lambda value: value.update(hidden_size=1024), "made for hidden size 1024"),
        (lambda value: value.update(name="../mnli"), "the adapter's name"),
        (lambda value: [], "no JSON object"),
        (lambda value: _drop(value["config"], "mh_adapter"), "lacks the option mh_adapter"),
        (lambda value: _config(value, stochastic_depth=[]), "option stochastic_depth"),
        (lambda value: _config(value, residual_before_ln=1), "residual_before_ln"),
        (
            lambda value: _config(value, residual_before_ln="post_add", original_ln_before=False),
            "needs original_ln_before",
        ),
    ],
)
def test_options_of_adapters_that_bundles_do_not_carry(
    edit: Callable[[Any], Any], said: str, bad: Path
) -> None:
    change(bad, "module/adapter_config.json", edit)
    reseal(bad)
    assert said in refused(bad)


@pytest.mark.parametrize(
    ("kind", "edit", "said"),
    [
        ("bottleneck", lambda value: value.update(version="adapters.nonsense"), "option version"),
        ("bottleneck", lambda value: value.update(surprise=[1]), "option surprise"),
        (
            "fuse",
            lambda value: value.update(adapter_names=["a", "b"]),
            "adapter_names differ",
        ),
        (
            "fuse",
            lambda value: _config(value, value_initialized="x" * 9),
            "option value_initialized",
        ),
        (
            "full",
            lambda value: value.update(auto_map={"AutoModel": "evil.Model"}),
            "option auto_map",
        ),
        ("full", lambda value: value.update(hidden_act="relu"), "its backbone has 'gelu'"),
        ("full", lambda value: value.update(is_decoder=True), "option is_decoder"),
        ("full", lambda value: value.update(dtype="os"), "option dtype"),
        ("full", lambda value: _drop(value, "hidden_size"), "lacks the option hidden_size"),
        ("fuse", lambda value: _config(value, dropout_prob=1e308), "option dropout_prob"),
        (
            "fuse",
            lambda value: _drop(value["config"], "temperature"),
            "lacks the option temperature",
        ),
    ],
)
def test_other_descriptions(
    kind: str, edit: Callable[[Any], Any], said: str, made: dict[str, Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(made[kind], tmp_path / "bad"))
    (name,) = [path.name for path in (folder / "module").glob("*.json")]
    change(folder, f"module/{name}", edit)
    reseal(folder)
    assert said in refused(folder)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("megatron_config", {"a": 1}),
        ("auto_mapping", {"base_model_class": "X", "parent_library": "os"}),
        ("target_modules", "(a+)+$"),
        ("target_modules", ["query", "(a+)+$"]),
        ("modules_to_save", ["embeddings"]),
        ("init_lora_weights", "pissa"),
        ("layer_replication", [[0, 4]]),
        ("trainable_token_indices", [1, 2]),
        ("peft_type", "PROMPT_TUNING"),
        ("bias", "all"),
        ("r", 10**12),
        ("rank_pattern", {"(a+)+$": 4}),
        ("eva_config", {"rho": 2}),
        ("unheard_of", True),
        ("fan_in_fan_out", True),
        ("lora_dropout", 1.0),
        ("megatron_core", "os"),
        ("task_type", "SEQ_CLS"),
        ("task_type", "nonsense"),
        ("corda_config", False),
        ("arrow_config", {}),
        ("use_bdlora", {}),
        ("trainable_token_indices", False),
        ("init_lora_weights", 1),
    ],
)
def test_options_of_peft_that_bundles_do_not_carry(
    option: str, value: Any, made: dict[str, Path], tmp_path: Path
) -> None:
    """Some import a module by name, some are regular expressions, some change the backbone: none
    reaches the library.
    """
    folder = Path(shutil.copytree(made["lora"], tmp_path / "bad"))
    change(folder, "module/adapter_config.json", lambda config: config.update({option: value}))
    reseal(folder)
    assert f"{option} " in refused(folder)


def _bare(made: dict[str, Path], kind: str, tmp_path: Path, edit: Callable[[Path], None]) -> str:
    """What is said of a bundle whose description was edited, its digests made right again."""
    folder = Path(shutil.copytree(made[kind], tmp_path / kind))
    (description,) = (folder / "module").glob("*.json")
    edit(description)
    change(
        folder,
        "bundle.json",
        lambda value: value.update(module_sha256=folder_digest(folder / "module")),
    )
    reseal(folder)
    return refused(folder)


@pytest.mark.parametrize("kind", ["bottleneck", "lora", "full", "fuse"])
@pytest.mark.parametrize("text", ["null", "0", "[]", "{}"])
def test_a_description_that_describes_nothing(
    kind: str, text: str, made: dict[str, Path], tmp_path: Path
) -> None:
    """JSON's null most of all: weights must never go unchecked for it."""
    said = _bare(made, kind, tmp_path, lambda path: path.write_text(text) and None)
    assert (
        "no JSON object" in said
        or "lacks" in said
        or "no table 'config'" in said
        or "peft_type" in said
    )


def test_a_head_for_longer_inputs_than_its_backbone_reads(bad: Path) -> None:
    """514 positions of XLM-R are 512 tokens: one more, and a long text would end in the middle of a
    prediction.
    """
    change(bad, "head/mnli/config.json", lambda value: value["lengths"].update(max_length=512))
    reseal(bad)
    assert bundle.read(bad)
    change(bad, "head/mnli/config.json", lambda value: value["lengths"].update(max_length=513))
    reseal(bad)
    assert (
        "head/mnli: its lengths are out of range (its backbone reads at most 512 tokens)"
        in refused(bad)
    )


@pytest.mark.parametrize("option", ["r", "target_modules"])
def test_what_a_lora_is_must_be_said(option: str, made: dict[str, Path], tmp_path: Path) -> None:
    def edit(path: Path) -> None:
        path.write_text(
            json.dumps({key: value for key, value in read_json(path).items() if key != option})
        )

    assert f"lacks the option {option}" in _bare(made, "lora", tmp_path, edit)


def test_a_file_without_an_end_is_not_read(bad: Path) -> None:
    """Sparse files of a terabyte: refused by their size, at once."""
    os.truncate(bad / "README.md", 1 << 40)
    os.truncate(bad / "module/adapter.safetensors", 1 << 40)
    said = refused(bad)
    assert "README.md: longer than" in said and "not fully covered" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 100_000, "nested deeper"),
        ('{"a":' * 100 + "1" + "}" * 100, "nested deeper"),
        ('{"a": 1, "a": 2}', "occurs twice"),
        ("x" * (2 << 20), "longer than"),
        ("NaN", "no JSON value"),
        ('{"a": 1e999}', "out of range"),
        ("[-Infinity]", "no JSON"),
        ('{"a": ' + "9" * 5000 + "}", "more than 40 digits"),
        ("\udcff", "not UTF-8"),
        ("", "no JSON"),
        ("[]", "expected"),
    ],
)
def test_json_bombs_are_refused(text: str, said: str, bad: Path) -> None:
    (bad / "manifest.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert f"manifest.json: {said}" in refused(bad) or said in refused(bad)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda value: value.pop("run") and None, "lacks the key 'run'"),
        (lambda value: value["run"]["hyper"].update(lr=0.5), "is not the digest of its run"),
        (lambda value: value.update(id="0" * 12), "is not the digest of its run"),
        (lambda value: value.update(extra=1), "unknown key 'extra'"),
        (lambda value: value.update(format=1), "format 1"),
        (lambda value: value.update(format=True), "format True"),
        (lambda value: value.update(format=2.0), "format 2.0"),
        (lambda value: value.update(method="lora"), "'method' and its run differ"),
        (lambda value: value.update(task="../../x"), "the key 'task' is"),
        (
            lambda value: value["backbone"].update(fingerprint="0" * 64),
            "the backbone's fingerprint",
        ),
        (lambda value: value.update(module_sha256="0" * 64), "its digest is"),
        (
            lambda value: value.update(labels={"xnli": []}),
            "a head for a task that its run was not trained on",
        ),
        (
            lambda value: value["labels"].update(mnli=["a", "b", "c"]),
            "its labels are not those of bundle.json",
        ),
        (
            lambda value: value.update(
                parents=[{"task": "a", "id": "b", "sha256": "c", "where": []}]
            ),
            "the key 'parents.0.id' is",
        ),
        (lambda value: value.update(metrics={"mnli": {"score": "high"}}), "'metrics.mnli"),
        (lambda value: value.update(licence="\n"), "the key 'licence' is"),
        (lambda value: value["backbone"].update(name="\x1b[2J"), "the key 'backbone.name' is"),
        (lambda value: [], "no JSON object"),
    ],
)
def test_the_record_is_held_to_itself(edit: Callable[[Any], Any], said: str, bad: Path) -> None:
    change(bad, "bundle.json", edit)
    reseal(bad)
    found = refused(bad)
    assert said in found and "\x1b" not in found


@pytest.mark.parametrize(
    "edit",
    [
        lambda run: run.update(data=None),
        lambda run: run["data"].update(train=True),
        lambda run: run.update(hyper={}),
        lambda run: run["hyper"].update(unheard_of=1),
        lambda run: run["hyper"].update(lr="high"),
        lambda run: run.update(bits="32"),
        lambda run: run.update(dtype="float13"),
        lambda run: run.update(from_layer=-1),
        lambda run: run.update(from_layer=9),
        lambda run: run.update(tasks=[["mnli", "one"]]),
        lambda run: run.update(x=1),
        lambda run: run.update(protocol="other"),
        lambda run: run.update(bits=8),
        lambda run: _drop(run, "seed"),
    ],
)
def test_a_run_that_is_none_is_refused_though_its_digest_is_right(
    edit: Callable[[Any], Any], bad: Path
) -> None:
    """Whoever tampers can compute digests, too: what is read is still what a run is made of."""

    def all_of_it(value: dict[str, Any]) -> None:
        edit(value["run"])
        value["id"] = digest(value["run"])[:12]

    change(bad, "bundle.json", all_of_it)
    reseal(bad)
    assert "bundle.json: " in refused(bad)


def test_a_setting_of_a_newer_version_is_named(bad: Path) -> None:
    def newer(value: dict[str, Any]) -> None:
        value["run"]["hyper"]["momentum"] = 0.9
        value["id"] = digest(value["run"])[:12]

    change(bad, "bundle.json", newer)
    reseal(bad)
    found = refused(bad)
    assert "run.hyper.momentum" in found and "newer version" in found


def test_a_setting_that_an_older_version_did_not_have_is_its_default(bad: Path) -> None:
    def older(value: dict[str, Any]) -> None:
        del value["run"]["hyper"]["cap"]
        value["id"] = digest(value["run"])[:12]

    change(bad, "bundle.json", older)
    reseal(bad)
    assert bundle.read(bad).record.run.hyper.cap == Hyper().cap


def test_everything_wrong_is_said_at_once(bad: Path) -> None:
    (bad / "x.pkl").write_bytes(b"")
    (bad / "module/adapter_config.json").unlink()
    found = refused(bad).splitlines()
    assert len(found) >= 3 and any("x.pkl" in line for line in found)
    assert any("adapter_config.json" in line for line in found)


def test_what_is_no_bundle(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(RequestError, match="no such directory"):
        bundle.read(tmp_path / "nowhere")
    with pytest.raises(RequestError, match=r"no bundle\.json, so no bundle$"):
        bundle.read(tmp_path)
    with pytest.raises(RequestError, match=r"run directory.*xtl hub push"):
        bundle.read(stack(tmp_path_factory, "mnli"))


def test_the_command_refuses_in_one_line_each(bad: Path) -> None:
    assert "all as" not in xtl("hub", "verify", bad).stderr
    (bad / "module/evil.pkl").write_bytes(pickle.dumps(Trap(bad / "sprung")))
    done = xtl("hub", "verify", bad, code=2)
    assert (
        any("module/evil.pkl: a .pkl file" in line for line in complaints(done))
        and not (bad / "sprung").exists()
    )


def test_fuse_layers_are_complete(made: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made["fuse"], tmp_path / "bad"))
    _shape(
        folder / "module/model_adapter_fusion.safetensors",
        lambda shapes: {name: shape for name, shape in shapes.items() if "layer.2" not in name},
    )
    reseal(folder)
    assert "lacks 5 of its 20 tensors" in refused(folder)


def test_an_untrained_parent_can_be_shared(tmp_path: Path) -> None:
    child = read_run(train(tmp_path / "runs", "pawsx", on="random")).module
    above = parent_on_this_machine(child, child.parents[0], print)
    assert above is not None
    folder = pack_run(above.path, tmp_path / "bundle")
    assert not bundle.read(folder).record.labels
    assert "before any training" in (folder / "README.md").read_text()
