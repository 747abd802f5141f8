"""Other tools load our modules and give our hidden states; modules that other tools saved are taken
in and evaluate.
"""

from __future__ import annotations

import json
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import adapters
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModel, AutoModelForSequenceClassification

from adapters_xtl import methods
from adapters_xtl.backbones import embedded, loading, registry
from adapters_xtl.base.errors import MismatchError, RequestError
from adapters_xtl.base.files import read_json, write_json
from adapters_xtl.cli.commands import hub as commands
from adapters_xtl.cli.commands import recipe
from adapters_xtl.evaluation.predict import predict
from adapters_xtl.models.assembly import trained_model
from adapters_xtl.models.context import Context
from adapters_xtl.models.network import Host, Model
from adapters_xtl.planning.finished_modules import plan_scoring
from adapters_xtl.runs.store import Store
from tests.bundles import QUICK, cache, pack_run, stack, train
from tests.command_line import complaints, xtl

SENTENCES = [
    "The train to Lyon was cancelled this morning.",
    "Der Zug kam pünktlich an.",
    "电影很好看。",
]


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny encoder as a plain checkpoint directory, for scripts that know nothing of us."""
    embedded.prepare(lambda text: None)
    folder = tmp_path_factory.mktemp("checkpoints") / "tiny-xlmr"
    encoder, tokenizer = loading.load(registry.NAMED["tiny"])
    encoder.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XTL_CACHE", str(cache(tmp_path / "cache")))


def ours(module: Path, task: str = "tatoeba", backbone: str | None = None) -> Model:
    """A module as `xtl evaluate` has it, in float32."""
    asked = recipe.request(
        task=task,
        on="",
        set_=[],
        set_parents=[],
        data="embedded",
        device="cpu",
        runs=str(module.parent),
        backbone=backbone,
    )
    store = Store(module.parent.parent)
    planned = plan_scoring(asked, str(module), store)
    return trained_model(Context(planned, store, Host(), lambda text: None), planned.target).float()


@torch.inference_mode()
def states(model: Any, tokenizer: Any) -> torch.Tensor:
    batch = tokenizer(SENTENCES, padding=True, return_tensors="pt")
    batch.pop("token_type_ids", None)
    found = model(**batch).last_hidden_state
    result: torch.Tensor = found * batch["attention_mask"].unsqueeze(-1)
    return result


def assert_ours(module: Path, model: Any) -> None:
    """Hidden states of another loading are ours, and not the bare backbone's."""
    mine = ours(module)
    encoder, tokenizer = loading.load(registry.NAMED["tiny"])
    wanted, bare = states(mine.encoder, tokenizer), states(encoder, tokenizer)
    assert torch.allclose(states(model, tokenizer), wanted, atol=1e-6)
    assert (wanted - bare).abs().max() > 1e-4, "the module does something"


# out
# ------------------------------------------------------------------------------------------------------------------


def test_adapters_own_loader(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, backbone: Path
) -> None:
    run = stack(tmp_path_factory, "mnli")
    folder = pack_run(run, tmp_path / "bundle")
    encoder: Any = AutoModel.from_pretrained(backbone, add_pooling_layer=False).eval()
    adapters.init(encoder)
    name = encoder.load_adapter(str(folder / "module"), set_active=True, use_safetensors=True)
    assert name == "mnli"
    assert_ours(run, encoder)


def test_pefts_own_loader(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, backbone: Path
) -> None:
    run = stack(tmp_path_factory, "mnli", method="lora")
    folder = pack_run(run, tmp_path / "bundle")
    encoder: Any = AutoModel.from_pretrained(backbone, add_pooling_layer=False)
    assert_ours(run, PeftModel.from_pretrained(encoder, str(folder / "module")).eval())


@pytest.mark.parametrize(
    ("task", "options"),
    [
        ("mnli", {}),
        ("mnli", {"method": "lora"}),
        ("mnli", {"method": "full"}),
        ("pawsx", {"on": "mnli"}),
        ("pawsx", {"on": "mnli", "method": "lora"}),
        ("pawsx", {"on": "mnli,qqp"}),
        ("pawsx", {"on": "mnli,qqp", "method": "lora"}),
        ("pawsx", {"on": "mnli,qqp", "compose": "fuse"}),
        ("pawsx", {"on": "mnli", "compose": "init"}),
        ("pawsx", {"on": "mnli", "method": "full", "compose": "init"}),
        ("mnli", {"method": "lora", "from_layer": 2}),
        ("mnli", {"from_layer": 2}),
    ],
    ids=str,
)
def test_the_snippet_of_a_card_loads_the_whole_stack(
    task: str,
    options: dict[str, Any],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the card says is run as it stands, in a directory that holds the bundles by the names it
    gives them.
    """
    run = stack(tmp_path_factory, task, **options)
    folder = pack_run(run, tmp_path / task)
    for parent in read_json(run / "spec.json")["parents"]:
        if not (tmp_path / parent["task"]).exists():
            pack_run(run.parent.parent / parent["task"] / parent["id"], tmp_path / parent["task"])
    (snippet,) = re.findall(r"```python\n(.+?)```", (folder / "README.md").read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(snippet, names)
    assert_ours(run, names["model"])


# in
# -------------------------------------------------------------------------------------------------------------------

ADAPTERS = """
import sys, torch, adapters
from transformers import AutoConfig
torch.manual_seed(3)
model = adapters.XLMRobertaAdapterModel.from_pretrained(sys.argv[1])
model.add_adapter("theirs", config=sys.argv[3])
labels = ["neutral", "contradiction", "entailment"]
model.add_classification_head("theirs", num_labels=3, id2label=dict(enumerate(labels)))
model.train_adapter("theirs")
for name, parameter in model.named_parameters():
    if parameter.requires_grad:
        torch.nn.init.normal_(parameter, std=0.3)
model.save_adapter(sys.argv[2], "theirs", use_safetensors=sys.argv[4] == "safe")
model.eval()
ids = torch.tensor([[0, 581, 7, 2], [0, 99, 2345, 2]])
torch.save(model(ids).logits.detach(), sys.argv[2] + "/expected.logits")
"""
PEFT = """
import sys, torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSequenceClassification
torch.manual_seed(3)
model = AutoModelForSequenceClassification.from_pretrained(sys.argv[1], num_labels=3)
model = get_peft_model(model, LoraConfig(task_type="SEQ_CLS", r=4, lora_alpha=8, target_modules=["query", "value"]))
for name, parameter in model.named_parameters():
    if parameter.requires_grad:
        torch.nn.init.normal_(parameter, std=0.3)
model.save_pretrained(sys.argv[2])
model.eval()
ids = torch.tensor([[0, 581, 7, 2], [0, 99, 2345, 2]])
torch.save(model(ids).logits.detach(), sys.argv[2] + "/expected.logits")
"""


def script(text: str, *arguments: str | Path) -> None:
    """A plain script of another tool, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", text, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def take(
    source: Path, task: str, runs: Path, backbone: Path | str | None, labels: str = ""
) -> dict[str, Any]:
    payload, _ = commands.import_(
        source, task, backbone=str(backbone) if backbone else None, labels=labels, runs=str(runs)
    )
    return payload


@torch.inference_mode()
def logits(model: Model, task: str) -> torch.Tensor:
    ids = torch.tensor([[0, 581, 7, 2], [0, 99, 2345, 2]])
    found: torch.Tensor = model(
        task, {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, with_loss=False
    )["outputs"]
    return found


@pytest.mark.parametrize("config", ["seq_bn", "double_seq_bn", "par_bn"])
def test_an_adapter_saved_by_adapters_evaluates(
    config: str, backbone: Path, tmp_path: Path
) -> None:
    script(ADAPTERS, backbone, tmp_path / "theirs", config, "safe")
    taken = take(tmp_path / "theirs", "mnli", tmp_path / "runs", backbone)
    assert taken["head"] == "mnli" and taken["method"] == "bottleneck" and not taken["notes"]
    run = Path(taken["path"])
    model = ours(run, "mnli", str(backbone))
    assert model.specs["mnli"].labels == ("neutral", "contradiction", "entailment"), "its own order"
    wanted = torch.load(tmp_path / "theirs/expected.logits", weights_only=True)
    assert torch.allclose(logits(model, "mnli"), wanted, atol=1e-5)
    assert take(tmp_path / "theirs", "mnli", tmp_path / "runs", backbone)["reused"] is True
    rows = [{"id": "1", "text": "a", "pair": "b", "label": "neutral"}]
    assert (
        predict(model, "mnli", rows, device="cpu", dtype="float32")[0]["prediction"]
        in model.specs["mnli"].labels
    )


def test_a_lora_saved_by_peft_evaluates(backbone: Path, tmp_path: Path) -> None:
    script(PEFT, backbone, tmp_path / "theirs")
    alone = take(tmp_path / "theirs", "mnli", tmp_path / "first", backbone)
    assert (
        alone["head"] is None
        and "--labels (entailment" not in alone["notes"][0]
        and "--labels" in alone["notes"][0]
    )
    taken = take(
        tmp_path / "theirs", "mnli", tmp_path / "runs", backbone, "contradiction,entailment,neutral"
    )
    assert taken["head"] == "mnli" and taken["id"] != alone["id"]
    model = ours(Path(taken["path"]), "mnli", str(backbone))
    assert model.specs["mnli"].labels == ("contradiction", "entailment", "neutral")
    wanted = torch.load(tmp_path / "theirs/expected.logits", weights_only=True)
    assert torch.allclose(logits(model, "mnli"), wanted, atol=1e-5)


VARIANTS = """
import sys, torch, adapters
from adapters import SeqBnConfig
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSequenceClassification
ids = torch.tensor([[0, 581, 7, 2], [0, 99, 2345, 2]])
full = "roberta.encoder.layer.0.attention.self.query"

def fresh():
    torch.manual_seed(3)
    labels = dict(enumerate(["neutral", "contradiction", "entailment"]))
    return AutoModelForSequenceClassification.from_pretrained(
        sys.argv[1], id2label=labels, label2id={name: number for number, name in labels.items()})

def finish(model, name):
    model.eval()
    torch.save(model(ids).logits.detach(), f"{sys.argv[2]}/{name}/expected.logits")

def draw(model):
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.3)

for name, adapter, options in (
    ("an odd name", "nli multi@ukp/1", {}), ("a seed", "a", {"init_weights_seed": 7}),
    ("by layer", "a", {"reduction_factor": {"1": 4, "default": 16}, "leave_out": [0]}),
    ("gates", "a", {"use_gating": True, "ln_after": True, "scaling": "learned", "non_linearity": "gelu"}),
    ("invertible", "a", {"inv_adapter": "nice", "inv_adapter_reduction_factor": 2}),
):
    model = fresh()
    adapters.init(model)
    model.add_adapter(adapter, config=SeqBnConfig(**options))
    model.train_adapter(adapter)
    draw(model)
    model.save_adapter(f"{sys.argv[2]}/{name}", adapter, use_safetensors=True)
    finish(model, name)
for name, options in (
    ("dora", {"use_dora": True}), ("rslora", {"use_rslora": True}), ("saved head", {"modules_to_save": ["classifier"]}),
    ("ranks by full name", {"rank_pattern": {full: 8}, "alpha_pattern": {full: 32}}), ("bias", {"bias": "all"}),
    ("a pattern", {"rank_pattern": {r"layer\\.[01]\\..*query": 8}}), ("pissa", {"init_lora_weights": "pissa"}),
    ("words", {"target_modules": ["query", "word_embeddings"]}),
):
    options = {"target_modules": ["query", "value"], **options}
    model = get_peft_model(fresh(), LoraConfig(task_type="SEQ_CLS", r=4, **options))
    draw(model)
    model.save_pretrained(f"{sys.argv[2]}/{name}")
    finish(model, name)
get_peft_model(fresh(), LoraConfig(r=2, target_modules=["key"]), adapter_name="mine").save_pretrained(sys.argv[2] + "/named")
"""


def test_other_ways_to_save_are_taken_in_or_refused_by_name(backbone: Path, tmp_path: Path) -> None:
    """Odd configurations of both libraries: what is taken in gives their own logits, the rest says
    what works.
    """
    script(VARIANTS, backbone, tmp_path)
    runs, labels = tmp_path / "runs", "neutral,contradiction,entailment"
    for name in (
        "an odd name",
        "a seed",
        "by layer",
        "gates",
        "dora",
        "rslora",
        "saved head",
        "ranks by full name",
    ):
        taken = take(tmp_path / name, "mnli", runs, backbone, labels)
        assert taken["head"] == "mnli", (name, taken["notes"])
        wanted = torch.load(tmp_path / name / "expected.logits", weights_only=True)
        assert torch.allclose(
            logits(ours(Path(taken["path"]), "mnli", str(backbone)), "mnli"), wanted, atol=1e-4
        ), name
    refusals = {
        "invertible": (
            "option inv_adapter = nice: .*taken in are bottleneck adapters without invertible"
        ),
        "bias": (
            "option bias = all: .*taken in is LoRA on the encoder's linear layers, with bias none"
        ),
        "a pattern": "option rank_pattern = .*patterns of plain names",
        "pissa": "option init_lora_weights = pissa",
        "words": r"holds tensor .*lora_embedding_A.*linear layers",
    }
    for name, said in refusals.items():
        with pytest.raises(MismatchError, match=said) as caught:
            take(tmp_path / name, "mnli", runs, backbone, labels)
        assert "\n" not in str(caught.value)
    with pytest.raises(RequestError, match=r"did you mean its mine\?"):
        take(tmp_path / "named", "mnli", runs, backbone)


def test_a_hubs_cache_is_made_of_links(backbone: Path, tmp_path: Path) -> None:
    script(ADAPTERS, backbone, tmp_path / "blobs", "seq_bn", "safe")
    (tmp_path / "snapshot").mkdir()
    for path in (tmp_path / "blobs").iterdir():
        (tmp_path / "snapshot" / path.name).symlink_to(path)
    assert take(tmp_path / "snapshot", "mnli", tmp_path / "runs", backbone)["head"] == "mnli"


def test_what_has_a_record_of_its_own_is_not_taken_in(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The module of a stack alone would lose its parents."""
    run = stack(tmp_path_factory, "pawsx", on="mnli")
    folder = pack_run(run, tmp_path / "bundle")
    for source in (run, run / "module", folder, folder / "module"):
        with pytest.raises(RequestError, match="record of its own"):
            take(source, "pawsx", tmp_path / "runs", "tiny")


def test_an_adapter_of_another_type_of_model(backbone: Path, tmp_path: Path) -> None:
    script(ADAPTERS, backbone, tmp_path / "theirs", "seq_bn", "safe")
    config = read_json(tmp_path / "theirs/adapter_config.json")
    write_json(tmp_path / "theirs/adapter_config.json", {**config, "model_type": "bert"})
    with pytest.raises(MismatchError, match=r"'bert'.*'xlm-roberta'"):
        take(tmp_path / "theirs", "mnli", tmp_path / "runs", backbone)


def test_the_whole_way_on_the_command_line(backbone: Path, tmp_path: Path) -> None:
    """Taken in, scored, stacked on, shared, and pulled by somebody else."""
    script(PEFT, backbone, tmp_path / "theirs")
    runs = ("--runs", tmp_path / "runs")
    done = xtl(
        "hub",
        "import",
        tmp_path / "theirs",
        "--task",
        "mnli",
        "--backbone",
        backbone,
        "--labels",
        "contradiction,entailment,neutral",
        "--json",
        *runs,
    )
    path = json.loads(done.stdout)["path"]
    scored = json.loads(
        xtl("evaluate", path, "--data", "embedded", "--backbone", backbone, "--json", *runs).stdout
    )
    assert scored["metrics"]["tasks"]["mnli"]["languages"]["en"]["n"] > 100
    child = json.loads(
        xtl(
            "recipe",
            "pawsx",
            "--on",
            path,
            "--method",
            "lora",
            "--backbone",
            backbone,
            "--data",
            "embedded",
            "--languages",
            "de",
            "--json",
            *runs,
            *(word for setting in QUICK for word in ("--set", setting)),
        ).stdout
    )
    assert child["metrics"]["train"]["steps"] == 2
    assert "runs" in xtl("runs", *runs).stdout
    drive = f"file:{tmp_path / 'drive'}"
    xtl("hub", "push", child["path"], drive, "--with-parents", "--licence", "cc-by-4.0")
    listed = json.loads(xtl("hub", "list", drive, "--json").stdout)["bundles"]
    assert [each["stack"] for each in listed] == ["mnli", "mnli>pawsx"]
    card = (
        Path(json.loads(xtl("hub", "pull", listed[0]["place"], "--json").stdout)["path"])
        / "README.md"
    )
    text = card.read_text()
    assert "Not on record: adapters_xtl did not train it" in text and "learning rate" not in text
    assert str(tmp_path) not in text, "a local path is nobody else's affair"


def test_a_module_without_a_usable_head_is_a_parent_and_embeds(
    backbone: Path, tmp_path: Path
) -> None:
    encoder: Any = AutoModel.from_pretrained(backbone, add_pooling_layer=False)
    torch.manual_seed(5)
    model = get_peft_model(
        encoder, LoraConfig(r=2, target_modules=r".*\.(query|key)", layers_to_transform=None)
    )
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    model.save_pretrained(str(tmp_path / "theirs"))
    _, tokenizer = loading.load(registry.NAMED["tiny"])
    wanted = states(model.eval(), tokenizer)
    taken = take(tmp_path / "theirs", "mnli", tmp_path / "runs", backbone)
    assert taken["head"] is None and "it has no head: it can be a parent" in taken["notes"][0]
    run = Path(taken["path"])
    assert torch.allclose(
        states(ours(run, "tatoeba", str(backbone)).encoder, tokenizer), wanted, atol=1e-6
    )
    with pytest.raises(RequestError) as caught:
        ours(run, "mnli", str(backbone))
    assert "has no head for 'mnli'" in str(caught.value) and "\n" not in str(caught.value)
    child = train(tmp_path / "runs", "pawsx", on=str(run), method="lora", backbone=str(backbone))
    assert read_json(child / "provenance.json")["lineage"]["parents"][0]["id"] == run.name


def test_taken_in_by_the_name_of_its_backbone(backbone: Path, tmp_path: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(str(backbone), num_labels=3)
    theirs = get_peft_model(model, LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query"]))
    theirs.save_pretrained(str(tmp_path / "x"))
    assert read_json(tmp_path / "x/adapter_config.json")["base_model_name_or_path"] == str(backbone)
    assert take(tmp_path / "x", "mnli", tmp_path / "runs", None)["method"] == "lora"


def test_what_cannot_be_taken_in(backbone: Path, tmp_path: Path) -> None:
    script(ADAPTERS, backbone, tmp_path / "pickled", "seq_bn", "pickled")
    (tmp_path / "pickled/expected.logits").unlink()
    runs = tmp_path / "runs"
    with pytest.raises(
        RequestError,
        match=r"pytorch_adapter\.bin.*use_safetensors",
    ):
        take(tmp_path / "pickled", "mnli", runs, backbone)
    with pytest.raises(RequestError, match="`adapters` or `peft`"):
        take(backbone, "mnli", runs, backbone)
    with pytest.raises(RequestError, match="no such directory"):
        take(tmp_path / "nowhere", "mnli", runs, backbone)
    script(ADAPTERS, backbone, tmp_path / "lora", "lora", "safe")
    with pytest.raises(MismatchError, match="option architecture = lora"):
        take(tmp_path / "lora", "mnli", runs, backbone)
    script(ADAPTERS, backbone, tmp_path / "fine", "seq_bn", "safe")
    with pytest.raises(MismatchError, match=r"32.*384"):
        take(tmp_path / "fine", "mnli", runs, "mini")
    with pytest.raises(RequestError, match=r"'mnlj'.*'mnli'"):
        take(tmp_path / "fine", "mnlj", runs, backbone)
    with pytest.raises(RequestError, match=r"--labels.*'neutral'"):
        take(tmp_path / "fine", "mnli", runs, backbone, "neutrl,contradiction,entailment")
    for labels in ("neutral,neutral,entailment", "neutral,entailment", "neutral,,entailment", ","):
        with pytest.raises(RequestError, match=f"--labels {labels}: "):
            take(tmp_path / "fine", "mnli", runs, backbone, labels)
    other = take(tmp_path / "fine", "qqp", runs, backbone)
    assert other["head"] is None and "have other names" in other["notes"][0]
    weights = tmp_path / "fine/adapter.safetensors"
    weights.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(MismatchError, match="pickle"):
        take(tmp_path / "fine", "mnli", runs, backbone)
    done = xtl(
        "hub",
        "import",
        tmp_path / "pickled",
        "--task",
        "mnli",
        "--runs",
        runs,
        "--backbone",
        backbone,
        code=2,
    )
    assert len(complaints(done)) == 1
    shutil.rmtree(tmp_path / "pickled")


def test_other_labels_and_another_head_are_runs_of_their_own(
    backbone: Path, tmp_path: Path
) -> None:
    """What is corrected in a second import stands in the second run, and the first stays."""
    script(ADAPTERS, backbone, tmp_path / "theirs", "seq_bn", "safe")
    runs, order = tmp_path / "runs", ["contradiction", "entailment", "neutral"]
    ids = set()
    for labels in (order, order[::-1], order):
        taken = take(tmp_path / "theirs", "mnli", runs, backbone, ",".join(labels))
        assert read_json(Path(taken["path"]) / "head/mnli/config.json")["labels"] == labels
        ids.add(taken["id"])
    assert len(ids) == 2 and taken["reused"]
    first = Path(taken["path"]) / "head/mnli/model.safetensors"
    head = tmp_path / "theirs/model_head.safetensors"
    data = head.read_bytes()
    head.write_bytes(data[:-4] + bytes([data[-4] ^ 1, *data[-3:]]))
    other = take(tmp_path / "theirs", "mnli", runs, backbone, ",".join(order))
    assert other["id"] not in ids
    changed = Path(other["path"]) / "head/mnli/model.safetensors"
    assert changed.read_bytes() != first.read_bytes()


def test_forms_are_those_of_the_libraries(tmp_path: Path) -> None:
    forms = [form for name in methods.names() if (form := methods.load(name).foreign)]
    assert {file for form in forms for file in (form.weights, form.pickle)} == {
        "adapter.safetensors",
        "pytorch_adapter.bin",
        "adapter_model.safetensors",
        "adapter_model.bin",
    }
