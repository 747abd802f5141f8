"""The options of bottleneck adapters: their table, their check, and the sizes that they give."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from adapters_xtl.backbones.shape import Shape
from adapters_xtl.base.untrusted import Refusal, printable, safe_name
from adapters_xtl.methods import _options
from adapters_xtl.methods._method import ModuleSpec, TensorShapes

__all__ = [
    "REDUCTION_FACTOR",
    "bottleneck_shapes",
    "bottleneck_width",
    "check",
    "elements",
    "fusion_shapes",
    "named_config",
    "places_of",
    "tensors_of",
]

REDUCTION_FACTOR = 16

# flag → the block after which it puts a bottleneck
PLACES = {"mh_adapter": "attention.output", "output_adapter": "output"}
# names that `transformers.activations.ACT2FN` and `adapters` know
ACTIVATIONS = (
    "gelu",
    "gelu_10",
    "gelu_accurate",
    "gelu_fast",
    "gelu_new",
    "gelu_orig",
    "gelu_python",
    "gelu_python_tanh",
    "gelu_pytorch_tanh",
    "laplace",
    "leakyrelu",
    "leaky_relu",
    "linear",
    "mish",
    "quick_gelu",
    "relu",
    "relu2",
    "relu6",
    "sigmoid",
    "silu",
    "swish",
    "tanh",
)
# those with weights of their own
TRAINED_ACTIVATIONS = ("prelu", "xielu")
_FLAGS = (
    "mh_adapter",
    "output_adapter",
    "original_ln_before",
    "original_ln_after",
    "ln_after",
    "is_parallel",
    "use_gating",
    "adapter_residual_before_ln",
)
_OF_PHM = "it belongs to phm_layer, which is not supported here"
_PHM_DEFAULTS: Mapping[str, Any] = {
    "phm_dim": 4,
    "factorized_phm_W": True,
    "shared_W_phm": False,
    "shared_phm_rule": True,
    "factorized_phm_rule": False,
    "phm_c_init": "normal",
    "phm_init_range": 0.0001,
    "learn_phm": True,
    "hypercomplex_nonlinearity": "glorot-uniform",
    "phm_rank": 1,
    "phm_bias": True,
}
_REFUSED: Mapping[str, str] = {
    "ln_before": "the library registers its layer norm twice, and safetensors saves a tensor once",
    "init_weights_seed": "the seed is set here by --seed",
    "inv_adapter": "invertible adapters stand at the embeddings, below every other module",
    "inv_adapter_reduction_factor": "invertible adapters are not supported here",
    "cross_adapter": "an encoder has no cross attention",
    "leave_out": "it is set here by --from-layer",
    "architecture": "it is set here by --method",
    "phm_layer": "hypercomplex layers share weights among layers, which are not saved here",
    "stochastic_depth": "it is for vision models",
    **dict.fromkeys(_PHM_DEFAULTS, _OF_PHM),
}
# what `adapters` takes where nothing is said
_LIBRARY_DEFAULTS: Mapping[str, Any] = {
    "original_ln_before": False,
    "original_ln_after": True,
    "ln_before": False,
    "ln_after": False,
    "init_weights": "bert",
    "init_weights_seed": None,
    "is_parallel": False,
    "scaling": 1.0,
    "use_gating": False,
    "residual_before_ln": True,
    "adapter_residual_before_ln": False,
    "inv_adapter": None,
    "inv_adapter_reduction_factor": None,
    "cross_adapter": False,
    "leave_out": [],
    "dropout": 0.0,
    "phm_layer": False,
    "stochastic_depth": 0.0,
    **_PHM_DEFAULTS,
}
_OPTIONS_OF_FUSION = (
    "key",
    "query",
    "value",
    "query_before_ln",
    "regularization",
    "residual_before",
    "temperature",
    "value_before_softmax",
    "value_initialized",
    "dropout_prob",
)
REQUIRED = ("mh_adapter", "output_adapter", "reduction_factor", "non_linearity")
_OFF: tuple[Any, ...] = (None, False, 0)

SMALLEST_FACTOR, LARGEST_FACTOR = 1e-3, 1e6


def _one_factor(value: Any) -> Any:
    try:
        return _options.number(SMALLEST_FACTOR, LARGEST_FACTOR)(value)
    except ValueError as error:
        raise ValueError(
            f"takes a number above 0 ({SMALLEST_FACTOR:g} to {LARGEST_FACTOR:g})"
        ) from error


def _factors(value: Any) -> Any:
    """Reads reduction_factor: a number, or a table of layer → number with a "default"."""
    if not isinstance(value, Mapping):
        return _one_factor(value)
    for key in value:
        if key != "default" and not (str(key).isascii() and str(key).isdigit()):
            raise ValueError(
                "takes a table of layer numbers and default, e.g. {0 = 8, default = 16}"
            )
    return {str(key): _one_factor(entry) for key, entry in value.items()}


def _activation(value: Any) -> str:
    """Reads non_linearity, in any case."""
    name = value.lower() if isinstance(value, str) else value
    if name in TRAINED_ACTIVATIONS:
        raise ValueError("its own weights would train, which are not counted and saved here")
    return str(_options.one_of(*ACTIVATIONS)(name))


def _scale(value: Any) -> Any:
    """Reads scaling: a number other than 0, "learned", or "channel"."""
    if isinstance(value, str):
        return _options.one_of("learned", "channel")(value)
    scale = float(_options.number(-1e6, 1e6)(value))
    if not scale:
        raise ValueError("with 0 the module computes nothing")
    return scale


_PARSERS: Mapping[str, _options.Parser] = {
    **dict.fromkeys(_FLAGS, _options.flag),
    "reduction_factor": _factors,
    "non_linearity": _activation,
    "init_weights": _options.one_of("bert", "mam_adapter", "houlsby"),
    "scaling": _scale,
    "residual_before_ln": _options.one_of(True, False, "post_add"),
    "dropout": _options.number(0, 1, below=True),
}


def check(spec: ModuleSpec, recorded: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """See `Method.check`. `recorded`: options that are recorded even at their default."""
    options, problems = _options.read_options(
        spec.options,
        _PARSERS,
        _REFUSED,
        _LIBRARY_DEFAULTS,
        "BnConfig of `adapters`",
        recorded,
    )
    if not problems:
        problems = [*_at_odds(options, spec), *_unmatched_layers(options, spec.shape)]
    return options, problems


def places_of(options: Mapping[str, Any]) -> list[str]:
    """Where a module stands in each layer: "attention", "output"."""
    places = ["attention"] if options.get("mh_adapter", False) else []
    return [*places, "output"] if options.get("output_adapter", True) else places


def bottleneck_width(options: Mapping[str, Any], hidden: int, layer: int) -> int:
    """Width of the bottleneck in an encoder layer."""
    factor = options.get("reduction_factor", REDUCTION_FACTOR)
    if isinstance(factor, Mapping):
        factor = factor.get(str(layer), factor.get("default", REDUCTION_FACTOR))
    return max(1, int(hidden // float(factor)))


def tensors_of(options: Mapping[str, Any], hidden: int, layer: int) -> TensorShapes:
    """Name → shape of one bottleneck's tensors."""
    width = bottleneck_width(options, hidden, layer)
    parts: TensorShapes = {
        "adapter_down.0.weight": (width, hidden),
        "adapter_down.0.bias": (width,),
        "adapter_up.weight": (hidden, width),
        "adapter_up.bias": (hidden,),
    }
    if options.get("ln_after"):
        parts |= {"adapter_norm_after.weight": (hidden,), "adapter_norm_after.bias": (hidden,)}
    if options.get("use_gating"):
        parts |= {"gate.weight": (1, hidden), "gate.bias": (1,)}
    scaling = options.get("scaling", 1.0)
    if isinstance(scaling, str):
        parts["scaling"] = (1,) if scaling == "learned" else (hidden,)
    return parts


def elements(tensor_shape: tuple[int, ...]) -> int:
    return math.prod(tensor_shape)


def _at_odds(options: Mapping[str, Any], spec: ModuleSpec) -> list[str]:
    """Options without effect beside the others, or that would take another module's place."""
    problems = []
    if not places_of(options):
        problems.append(
            "method.mh_adapter and method.output_adapter are both off: nothing would train"
        )
    parallel = options.get("is_parallel", False)
    if parallel and spec.compose == "stack":
        problems.append(
            "method.is_parallel: a parallel adapter reads the block's input, so its parents' output"
            " would be lost; not possible with --compose stack"
        )
    if parallel and options.get("original_ln_before"):
        problems.append("method.original_ln_before: without effect beside is_parallel")
    if "residual_before_ln" in options and (parallel or not options.get("original_ln_before")):
        problems.append(
            "method.residual_before_ln: without effect unless original_ln_before is true and"
            " is_parallel false"
        )
    if options.get("adapter_residual_before_ln") and (parallel or not options.get("ln_after")):
        problems.append(
            "method.adapter_residual_before_ln: without effect unless ln_after is true and"
            " is_parallel false"
        )
    return problems


def _unmatched_layers(options: Mapping[str, Any], form: Shape) -> list[str]:
    """What is wrong with the layers of a table of reduction factors."""
    factors = options.get("reduction_factor")
    if not isinstance(factors, Mapping):
        return []
    layer_names = {str(layer) for layer in range(form.layers)}
    stray = sorted(set(factors) - layer_names - {"default"}, key=int)
    if stray:
        return [
            f"method.reduction_factor: layer {stray[0]} does not exist; the backbone has layers 0"
            f" to {form.layers - 1}"
        ]
    missing = sorted(layer_names - set(factors), key=int)
    if missing and "default" not in factors:
        return [f"method.reduction_factor: no factor for layer {missing[0]}, and no default"]
    return []


def named_config(description: Mapping[str, Any], form: Shape) -> tuple[str, dict[str, Any]]:
    """(the adapter's name, its table of options) of a description that `adapters` wrote.

    Refusal for every key that this version does not know.
    """
    if description.get("hidden_size", form.hidden) != form.hidden:
        raise Refusal(
            f"made for hidden size {printable(description['hidden_size'], 20)}; its backbone has"
            f" {form.hidden}"
        )
    config, name = description.get("config"), description.get("name")
    texts = ("model_class", "model_name", "model_type", "config_id", "version")
    for option, value in description.items():
        plain = option in ("config", "hidden_size", "name", "adapter_names") or (
            option in texts and isinstance(value, str)
        )
        if not plain or (option == "version" and not re.fullmatch(r"adapters\.\d+(\.\w+)*", value)):
            raise Refusal(
                f"option {printable(option, 40)} = {printable(value, 40)}: unknown to this version"
            )
    if not isinstance(config, dict):
        # a text there would be looked up, or fetched
        raise Refusal("its description holds no table 'config'")
    if not isinstance(name, str) or not all(map(safe_name, name.split(","))) or "." in name:
        raise Refusal(f"the adapter's name {printable(name, 40)!r} is not a plain name")
    if description.get("adapter_names", name.split(",")) != name.split(","):
        raise Refusal("its adapter_names differ from the names in its name")
    return name, config


def _plain_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """An adapter's table of options from outside, with the library's defaults filled in.

    Refusal names the first option that is not one of a plain bottleneck adapter.
    """
    # what is known to be no plain adapter tells more than what is unknown, and is said first
    for option, value in sorted(config.items(), key=lambda item: item[0] not in _REFUSED):
        where = f"option {printable(option, 40)} = {printable(value, 40)}"
        if option == "leave_out":
            if not isinstance(value, list) or not all(
                type(layer) is int and 0 <= layer < 10**4 for layer in value
            ):
                raise Refusal("option leave_out is no list of layers")
        elif option in _PHM_DEFAULTS:
            continue  # of use only with phm_layer, which is off
        elif option in _REFUSED:
            if isinstance(value, str) or value not in _OFF:
                raise Refusal(f"{where}: bundles carry plain bottleneck adapters")
        elif option not in _PARSERS:
            raise Refusal(f"{where}: unknown to this version")
        else:
            try:
                _PARSERS[option](value)
            except ValueError as error:
                raise Refusal(f"{where}: {error}") from error
    for option in REQUIRED:
        if option not in config:
            raise Refusal(f"its description lacks the option {option}")
    if type(config.get("scaling", 1.0)) is int:  # the library takes no whole number
        raise Refusal(f"option scaling = {config['scaling']}: a number such as 1.0")
    factors = config["reduction_factor"]
    if isinstance(factors, Mapping) and not factors:
        raise Refusal("option reduction_factor = {}: a number above 0, or one for each layer")
    if config.get("residual_before_ln") == "post_add" and not config.get("original_ln_before"):
        raise Refusal("option residual_before_ln = post_add needs original_ln_before")
    return {**_LIBRARY_DEFAULTS, **config}


def bottleneck_shapes(name: str, config: Mapping[str, Any], form: Shape) -> TensorShapes:
    config = _plain_config(config)
    if problems := _unmatched_layers(config, form):
        raise Refusal(problems[0].removeprefix("method."))
    shapes: TensorShapes = {}
    for layer in sorted(set(range(form.layers)) - set(config["leave_out"])):
        for block in (block for flag, block in PLACES.items() if config[flag]):
            shapes |= {
                f"encoder.layer.{layer}.{block}.adapters.{name}.{part}": sizes
                for part, sizes in tensors_of(config, form.hidden, layer).items()
            }
    if not shapes:
        raise Refusal("its description puts an adapter into no layer")
    return shapes


def fusion_shapes(
    name: str, config: Mapping[str, Any], form: Shape, held: Iterable[str]
) -> TensorShapes:
    """An AdapterFusion layer's. Its places are its parents'; each one that is there must be there
    up to the top layer.
    """
    for option, value in config.items():
        rate = option == "dropout_prob" and (
            value is None or (isinstance(value, int | float) and 0 <= value < 1)
        )
        if option not in _OPTIONS_OF_FUSION or not (isinstance(value, bool) or rate):
            raise Refusal(
                f"option {printable(option, 40)} = {printable(value, 40)}: unknown to this version"
            )
    missing = set(_OPTIONS_OF_FUSION) - set(config)
    if missing:
        raise Refusal(f"its description lacks the option {min(missing)}")
    parts: TensorShapes = {}
    for part in ("query", "key"):
        if config[part]:
            parts |= {f"{part}.weight": (form.hidden, form.hidden), f"{part}.bias": (form.hidden,)}
    if config["value"]:
        parts["value.weight"] = (form.hidden, form.hidden)
    fusion_tensor = re.compile(
        r"encoder\.layer\.(\d+)\.(attention\.output|output)\.adapter_fusion_layer\."
        rf"{re.escape(name)}\..+"
    )
    lowest: dict[str, int] = {}
    for tensor in held:
        if match := fusion_tensor.fullmatch(tensor):
            lowest[match[2]] = min(lowest.get(match[2], form.layers), int(match[1]))
    if not lowest or not parts:
        raise Refusal(f"holds no fusion layer '{name}'")
    return {
        f"encoder.layer.{layer}.{block}.adapter_fusion_layer.{name}.{part}": sizes
        for block, low in lowest.items()
        for layer in range(low, form.layers)
        for part, sizes in parts.items()
    }
