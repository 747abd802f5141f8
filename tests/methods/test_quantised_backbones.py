"""A method whose library knows no quantised layers: refused in one line, not in the first step."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters_xtl import methods
from adapters_xtl.base.errors import RequestError
from tests.finished_runs import run_recipe

# (IA)³ of `peft` scales what layers compute; on the CPU its float32 scales meet int8 layers' bfloat16
IA3 = """
from adapters_xtl.methods import Method


class IA3(Method):
    bits = (32, 16, 8, 4)

    def count(self, spec):
        return spec.shape.layers * (2 * spec.shape.hidden + spec.shape.inner)

    def attach(self, encoder, chain, options, *, from_layer=0, fuse=False, train=True):
        from peft import IA3Config, get_peft_model

        config = IA3Config(
            target_modules=["key", "value", "intermediate.dense"], feedforward_modules=[]
        )
        model = get_peft_model(encoder, config, adapter_name=chain[-1].name)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(train and "ia3_" in name)
        return model

    def save(self, encoder, name, directory):
        from safetensors.torch import save_file

        scales = {key: value for key, value in encoder.named_parameters() if "ia3_" in key}
        directory.mkdir(parents=True)
        save_file(scales, str(directory / "module.safetensors"))
        (directory / "module.json").write_text("{}")


METHOD = IA3()
"""
QUICK = ("train.max_steps=1", "train.select_examples=8")


def test_a_method_that_cannot_compute_on_a_quantised_backbone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "ia3.py").write_text(IA3)
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(tmp_path / "methods")])
    runs = tmp_path / "runs"
    with pytest.raises(RequestError, match=r"--bits 8: method ia3 .*--bits 32") as refused:
        run_recipe(runs, "mnli", method="ia3", bits="8", set_=QUICK, set_parents=())
    assert "\n" not in str(refused.value) and refused.value.exit_code == 2
    assert not (runs / "failed").exists()
    whole = run_recipe(runs, "mnli", method="ia3", bits="32", set_=QUICK, set_parents=())
    assert whole["metrics"]["train"]["steps"] == 1
