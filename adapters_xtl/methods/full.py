"""Full fine-tuning: every weight of the encoder trains. Nothing stacks; a child starts from its
parent's weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters_xtl.backbones.shape import linear_sizes, shape
from adapters_xtl.base.errors import MismatchError
from adapters_xtl.base.untrusted import Refusal, printable, safe_name
from adapters_xtl.methods._method import Link, Method, ModuleSpec, ShortLived, TensorShapes

if TYPE_CHECKING:
    from torch import nn

__all__ = ["METHOD", "Full"]

LEARNING_RATE = 1e-5  # Phang et al. 2020, first author's code
LEARNING_RATES = {"mini": 5e-5, "tiny": 1e-3}

# what transformers writes into a config.json beyond the backbone's own: its defaults
_WRITTEN_DEFAULTS: Mapping[str, tuple[Any, ...]] = {
    "classifier_dropout": (None,),
    "position_embedding_type": ("absolute",),
    "use_cache": (True,),
    "hidden_act": ("gelu",),
    "layer_norm_eps": (1e-12, 1e-5),
    "initializer_range": (0.02,),
    "hidden_dropout_prob": (0.1,),
    "pad_token_id": (0, 1),
    "attention_probs_dropout_prob": (0.1,),
    "bos_token_id": (0,),
    "eos_token_id": (2,),
}
_SIZES = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "vocab_size",
    "max_position_embeddings",
    "type_vocab_size",
)
_NOTES = ("architectures", "dtype", "torch_dtype", "transformers_version")
_DTYPES = ("float32", "bfloat16", "float16", None)


class Full(Method):
    learning_rate = LEARNING_RATE
    learning_rates = LEARNING_RATES
    compositions: Mapping[str, str] = {"init": "copy"}
    whole_encoder = True
    not_folded = ""
    library = "transformers"
    colour = "#7A7A7A"

    def check(self, spec: ModuleSpec) -> tuple[dict[str, Any], list[str]]:
        return {}, [f"method.{name}: full fine-tuning has no options" for name in spec.options]

    def count(self, spec: ModuleSpec) -> int:
        return spec.shape.parameters

    def attach(
        self,
        encoder: nn.Module,
        chain: Sequence[Link],
        options: Mapping[str, Any],
        *,
        from_layer: int = 0,
        fuse: bool = False,
        train: bool = True,
    ) -> nn.Module:
        from safetensors.torch import load_file

        source = next(
            (
                link.directory or link.start
                for link in reversed(chain)
                if link.directory or link.start
            ),
            None,
        )
        if source is not None:
            lacking = encoder.load_state_dict(
                load_file(str(source / "model.safetensors")), strict=False
            )
            if lacking.missing_keys or lacking.unexpected_keys:
                raise MismatchError(
                    f"{source}: these weights are of another encoder"
                    f" ({(lacking.missing_keys or lacking.unexpected_keys)[0]})"
                )
        encoder.requires_grad_(train)
        return encoder

    def fold(self, encoder: nn.Module) -> nn.Module:
        return encoder

    def save(self, encoder: nn.Module, name: str, directory: Path) -> None:
        from safetensors.torch import save_file

        model: Any = encoder
        description, weights = self.module_files()
        directory.mkdir(parents=True, exist_ok=True)
        state = {
            key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()
        }
        save_file(state, str(directory / weights), metadata={"format": "pt"})
        (directory / description).write_text(model.config.to_json_string(), encoding="utf-8")

    # ------------------------------------------------------------------ files

    def module_files(self, fused: bool = False) -> tuple[str, str]:
        return "config.json", "model.safetensors"

    def tensor_shapes(
        self,
        description: Mapping[str, Any],
        backbone: Mapping[str, Any],
        held: Iterable[str],
        fused: bool = False,
    ) -> TensorShapes | None:
        """A whole encoder's. Its config.json must be the backbone's, and bring no code."""
        _check_description(description, backbone)
        form = shape(backbone, "its backbone")
        hidden = form.hidden
        shapes: TensorShapes = {
            "embeddings.word_embeddings.weight": (form.vocab, hidden),
            "embeddings.position_embeddings.weight": (form.positions, hidden),
            "embeddings.token_type_embeddings.weight": (form.types, hidden),
            "embeddings.LayerNorm.weight": (hidden,),
            "embeddings.LayerNorm.bias": (hidden,),
        }
        for name, (inputs, outputs) in linear_sizes(form).items():
            shapes |= {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}
        for layer in range(form.layers):
            for block in ("attention.output", "output"):
                start = f"encoder.layer.{layer}.{block}.LayerNorm"
                shapes |= {f"{start}.weight": (hidden,), f"{start}.bias": (hidden,)}
        return shapes

    def loading_code(
        self,
        imports: Sequence[str],
        load: Sequence[str],
        folders: Sequence[str],
        names: Sequence[str],
        fused: bool,
    ) -> list[str]:
        return [
            "from transformers import AutoModel",
            "",
            f'model = AutoModel.from_pretrained("{folders[-1]}/module",'
            " add_pooling_layer=False).eval()",
        ]

    # ------------------------------------------------------------------ memory

    memory_counted = True

    def short_lived(self, compute: int, states: int, wide: bool) -> ShortLived:
        return ShortLived(states=2 if compute == states else 4.5, inner=1.45, inner_kept=True)


METHOD = Full()


def _check_description(description: Mapping[str, Any], backbone: Mapping[str, Any]) -> None:
    for option in ("model_type", "num_attention_heads", *_SIZES, *_WRITTEN_DEFAULTS):
        if option not in description and backbone.get(option) is not None:
            raise Refusal(f"its description lacks the option {option}")
    architectures = description.get("architectures") or []
    if (
        any(description.get(option) not in _DTYPES for option in ("dtype", "torch_dtype"))
        or not isinstance(description.get("transformers_version", ""), str)
        or not isinstance(architectures, list)
        or not all(map(safe_name, architectures))
    ):
        raise Refusal("option dtype, architectures or transformers_version is malformed")
    for option, value in description.items():
        if option in _NOTES:
            continue
        start = f"option {printable(option, 40)} = {printable(value, 40)}: its backbone has"
        if option in backbone and value != backbone[option]:
            raise Refusal(f"{start} {backbone[option]!r}")
        if option not in backbone and value not in _WRITTEN_DEFAULTS.get(option, ()):
            raise Refusal(f"{start} none")
