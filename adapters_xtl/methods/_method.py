"""`Method`: the base class of every method, with what holds for most of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters_xtl.backbones.shape import LINEAR_LAYERS, Shape
from adapters_xtl.base.errors import nearest

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "APART",
    "COMPOSES",
    "AfterBlock",
    "ForeignForm",
    "KeptAfterBlock",
    "Link",
    "LowRank",
    "Method",
    "ModuleSpec",
    "ShortLived",
    "TensorShapes",
    "adapter_name",
]

COMPOSES = ("stack", "init", "fuse", "sum")
APART = ("fuse", "sum")  # the parents know nothing of each other: each stands on the bare backbone
OURS = "adapters_xtl"
_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
TensorShapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Link:
    """One module of a stack.

    directory  where it was saved; None for a fresh one
    start      for a fresh one: the saved module whose weights it starts from
    """

    name: str
    directory: Path | None = None
    start: Path | None = None


# parts of the names that the libraries give to what they add, by which they find it again, and the
# attributes of the `torch.nn` containers that hold it
_NAMES_IN_USE = (
    "base_model.model.encoder.layer",
    "base_layer.weight",
    "lora_A.lora_B.lora_",
    "lora_magnitude_vector.bias",
    "adapters",
    "adapter_fusion_layer",
)


def adapter_name(link_name: str) -> str:
    """The name under which a library knows a module: the link's own, but for one that it would take
    for something else. Names of files and tensors of other modules stay as they are.
    """
    from torch import nn

    containers = (nn.ModuleDict(), nn.ParameterDict())
    in_use = any(hasattr(container, link_name) for container in containers) or any(
        link_name in name for name in (*_NAMES_IN_USE, *LINEAR_LAYERS)
    )
    return f"module_of_{link_name}" if in_use else link_name


@dataclass(frozen=True)
class ModuleSpec:
    """What decides which tensors a module has.

    options     the method's options
    shape       of the backbone
    from_layer  lowest layer that gets a module
    compose     how it meets its parents, one of `COMPOSES`; "" for one without parents
    """

    options: Mapping[str, Any]
    shape: Shape
    from_layer: int = 0
    compose: str = ""

    @property
    def fused(self) -> bool:
        return self.compose == "fuse"


@dataclass(frozen=True)
class LowRank:
    """Trained low-rank parts beside linear layers, for the memory plan.

    layers   for each of `LINEAR_LAYERS`, whether it has one
    rank     width of the part
    dropout  rate at which its input is dropped
    """

    layers: tuple[bool, ...] = (False,) * len(LINEAR_LAYERS)
    rank: int = 0
    dropout: float = 0.0


@dataclass(frozen=True)
class AfterBlock:
    """A place after an encoder layer's block, for the memory plan.

    place       "attention" or "output" (the feed-forward block)
    layer       number of the encoder layer
    parents     number of modules below the one that trains
    element     bytes of an element of the block's output
    compute     bytes of an element in matrix products
    gradient    whether a gradient passes through the block's output
    """

    place: str
    layer: int
    parents: int
    element: int
    compute: int
    gradient: bool


@dataclass(frozen=True)
class KeptAfterBlock:
    """What autograd keeps of a module after a block: bytes a token, bytes whatever the batch, and
    bytes of an element of the module's output.
    """

    token: float
    fixed: float
    element: int


@dataclass(frozen=True)
class ShortLived:
    """What lives for a moment in the top layer of a training step, in multiples of known tensors.

    Which tensors these are depends on the order in which Python's frames and autograd's graph let
    go, so the factors are measured: tests/memory/test_memory.py holds them against real steps.

    states       going forward: of one token's hidden states
    inner        going back: of the output of the feed-forward block's first layer
    inner_kept   whether autograd keeps that output anyway, so that going forward adds none
    inner_copied whether going forward also makes a float32 copy of it
    """

    states: float
    inner: float
    inner_kept: bool = False
    inner_copied: bool = False


@dataclass(frozen=True)
class ForeignForm:
    """How a module looks that a library saved without us, to be taken in by `xtl hub import`.

    weights          name of its safetensors file, by which it is recognised
    pickle           name under which the library saves a pickle, which is never opened
    resave           the library's call that saves safetensors instead
    backbone_key     key of its adapter_config.json that names the backbone
    limits           one clause on what is taken in, for refusals
    head_prefix      prefix of the head's tensors in the same file; "" where there are none
    head_files       (weights, description, pickle) of a head saved beside it; () for none
    """

    weights: str
    pickle: str
    resave: str
    backbone_key: str
    limits: str
    head_prefix: str = ""
    head_files: tuple[str, ...] = ()


class Method:
    """Everything about one way to add trained parameters to an encoder.

    A method is one file of this folder that ends in `METHOD = YourMethod()`; its stem is the name
    given to `--method`. Importing the file imports no library: functions that need one import it
    inside. `attach`, `save` and `count` must be written; the rest has defaults.
    """

    name: str = ""  # the file's stem; set by `methods.load`

    # ------------------------------------------------------------------ settings

    defaults: Mapping[str, Any] = {}
    """Options and their default values; they are part of a run's identity."""
    defaults_by_backbone: Mapping[str, Mapping[str, Any]] = {}
    """Named backbone → the default values that were chosen for it, where they differ."""
    learning_rate: float = 1e-4
    """Peak learning rate on a backbone that `learning_rates` does not name."""
    learning_rates: Mapping[str, float] = {}
    """Named backbone → peak learning rate chosen for it."""
    compositions: Mapping[str, str] = {"init": "copy"}
    """compose → how a child's parameters meet its parents', as tables and records say it."""
    bits: tuple[int, ...] = (32,)
    """Bits that the backbone's weights may have while the method trains."""
    takes_from_layer: bool = False
    """Whether `--from-layer K` keeps the module out of the layers below K."""
    whole_encoder: bool = False
    """Whether the module is the whole encoder instead of parameters added to it."""

    not_folded: str = "nothing here says how its parameters become part of the encoder's weights"
    """Why a module cannot become part of the encoder's own weights; "" where `fold` does that."""

    @property
    def has_random_modules(self) -> bool:
        """Whether an untrained module changes what the backbone computes (`--on random`): it is
        added beside the backbone's weights, or `randomize` moves it.
        """
        return "stack" in self.compositions or type(self).randomize is not Method.randomize

    # ------------------------------------------------------------------ how it is shown

    title: str = ""
    """The module in a few words with an article, e.g. "A LoRA module"."""
    fused_title: str = ""
    """The same of a fused module."""
    library: str = OURS
    """The Python library that loads the module, as model cards name it; with another than ours,
    `loading_code` is written too."""
    colour: str = ""
    """Colour of its points in plots (#rrggbb); "" for the next free one."""

    @property
    def has_own_library(self) -> bool:
        """Whether a library other than ours loads the module."""
        return self.library != OURS

    # ------------------------------------------------------------------ options and sizes

    def defaults_on(self, backbone: str) -> dict[str, Any]:
        """Default options on the backbone of this name."""
        return {**self.defaults, **self.defaults_by_backbone.get(backbone, {})}

    def rate_on(self, backbone: str) -> float:
        """Default peak learning rate on the backbone of this name."""
        return self.learning_rates.get(backbone, self.learning_rate)

    def check(self, spec: ModuleSpec) -> tuple[dict[str, Any], list[str]]:
        """(options as they are recorded, what is wrong with them, one line each).

        The check is complete: what it lets pass can be attached. It imports no library. By default
        an option takes what its default is one of; where that is a float, 2 is recorded as 2.0.
        """
        options = dict(spec.options)
        problems = [
            f"method.{name}: {self.name} has no such option{nearest(name, self.defaults)}"
            for name in spec.options
            if name not in self.defaults
        ]
        for name, default in self.defaults.items():
            value = spec.options.get(name, default)
            if type(default) is float and type(value) is int:
                options[name] = float(value)
            elif type(value) is not type(default):
                kind = _KINDS.get(type(default), type(default).__name__)
                problems.append(f"method.{name}={value!r}: takes {kind}")
        return options, problems

    def count(self, spec: ModuleSpec) -> int:
        """Number of parameters that train in one module, heads left out, from sizes alone."""
        raise NotImplementedError

    # ------------------------------------------------------------------ the network

    def prepare(self, encoder: nn.Module) -> nn.Module:
        """The encoder made ready by the library, before the random seed is set.

        What a library draws or changes once an encoder, not once a module, belongs here: the
        weights of a module must not depend on what was attached before it.
        """
        return encoder

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
        """The encoder with every link active, in order.

        With `train` the last link's parameters, and only they, require gradients; without, none do.
        The options are the fresh link's; a saved one brings its own. `fuse`: the last link joins
        the others, which stand side by side. RunError when a layer did not get its module.
        """
        raise NotImplementedError

    def detach(self, encoder: nn.Module) -> nn.Module | None:
        """The bare frozen encoder with every module taken off and its weights as before; None where
        that cannot be done, and the backbone is loaded anew.
        """
        return None

    def fold(self, encoder: nn.Module) -> nn.Module:
        """The plain encoder that computes what the encoder with its active modules computes in
        evaluation; the encoder itself is used up. To be written where `not_folded` is "".
        """
        raise NotImplementedError

    @property
    def merges(self) -> bool:
        """Whether `merged` is there."""
        return type(self).merged is not Method.merged

    def merged(self, encoder: nn.Module, dtype: str) -> AbstractContextManager[object]:
        """A context in which the active modules are part of the encoder's own weights, in the type
        that products are computed in: evaluation without their products. Afterwards everything is
        as before, bit by bit.
        """
        raise NotImplementedError

    def save(self, encoder: nn.Module, name: str, directory: Path) -> None:
        """Writes the module `name` as the files of `module_files`."""
        raise NotImplementedError

    def randomize(self, encoder: nn.Module) -> None:
        """Moves a fresh module off a starting point that computes nothing (`--on random`)."""

    def sum_options(self, options: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], list[str]]:
        """(options of the module that adds up modules of these options, why there can be none, one
        line each). To be written, like `add_up`, where `compositions` has "sum".
        """
        raise NotImplementedError

    def add_up(self, encoder: nn.Module, names: Sequence[str], name: str) -> None:
        """Adds to an encoder on which the modules `names` stand, each trained on the bare encoder,
        the module `name`: what it computes is the sum of what they do. `save` then writes it.
        """
        raise NotImplementedError

    def products(self, encoder: nn.Module) -> Iterable[nn.Linear]:
        """Linear layers, modules attached, whose weight and bias only their own product reads:
        in training these may stand in the compute type. None where nothing is known.
        """
        return ()

    def penalty(self, encoder: nn.Module) -> Any:
        """A term of the loss that a fused module adds, a scalar tensor; None for none."""
        return None

    # ------------------------------------------------------------------ files

    def module_files(self, fused: bool = False) -> tuple[str, str]:
        """Names of the two files that `save` writes: a JSON description and the weights."""
        return "module.json", "module.safetensors"

    def tensor_shapes(
        self,
        description: Mapping[str, Any],
        backbone: Mapping[str, Any],
        held: Iterable[str],
        fused: bool = False,
    ) -> TensorShapes | None:
        """Name → shape of every tensor that the weights file must hold, by its description and the
        backbone's config.json; None where they are not known one by one, and only their number of
        parameters is checked.

        held   names of the tensors in the file, for what only they tell

        The description may be a stranger's: what it says beyond plain modules is refused by name,
        with Refusal. Libraries draw at random what a file lacks and ignore what it has too much.
        """
        return None

    def loading_code(
        self,
        imports: Sequence[str],
        load: Sequence[str],
        folders: Sequence[str],
        names: Sequence[str],
        fused: bool,
    ) -> list[str]:
        """Lines of Python for a model card that load a stack into `model`.

        imports, load   lines that import and leave `encoder`, the bare backbone
        folders         bundle directories, lowest first
        names           names under which the modules of the stack are loaded, without a fused one
        """
        return ["import adapters_xtl", "", f'model = adapters_xtl.load("./{folders[-1]}")']

    # ------------------------------------------------------------------ modules of others

    foreign: ForeignForm | None = None
    """How modules look that the method's library saved without us; None: none are taken in."""

    def foreign_description(
        self, config: Mapping[str, Any], names: dict[str, str]
    ) -> dict[str, Any]:
        """The description, for our headless encoder, of a module that others saved.

        names   name in its file → name in the encoder; may be changed here
        """
        raise NotImplementedError

    def foreign_options(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The options that such a module's run records."""
        raise NotImplementedError

    # ------------------------------------------------------------------ memory

    memory_counted: bool = False
    """Whether the functions below describe what this method's backward pass keeps. False: the plan
    counts every linear layer as one that trains, which is an upper estimate, and says so."""
    options_counted: frozenset[str] = frozenset()
    """With `memory_counted`: options whose activations are counted, or that have none."""

    def low_rank(self, options: Mapping[str, Any]) -> LowRank:
        """The trained low-rank parts beside the layers' linear layers."""
        return LowRank()

    def kept_after_block(self, spec: ModuleSpec, after: AfterBlock) -> KeptAfterBlock | None:
        """What autograd keeps of the modules after a block; None where there are none."""
        return None

    def short_lived(self, compute: int, states: int, wide: bool) -> ShortLived:
        """What lives for a moment only.

        compute, states   bytes of an element in matrix products and between layers
        wide              whether linear layers give elements wider than `compute` (quantised ones
                          do)
        """
        # the largest of the methods that are measured
        return ShortLived(states=5.5, inner=2.45)
