"""The files of one checkpoint, in a directory or on the hub, and what keeps them from being one.

No weights are loaded here. A checkpoint is a config.json of a supported architecture, weights
(model.safetensors, or pytorch_model.bin where that is all there is) and a tokenizer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters_xtl.backbones import config as config_file
from adapters_xtl.base.errors import RequestError
from adapters_xtl.base.extras import explain_lacking
from adapters_xtl.base.files import file_digest
from adapters_xtl.base.untrusted import printable

__all__ = ["Checkpoint", "checkpoint_in"]

# in order of preference; a tokenizer.json alone needs no conversion
TOKENIZERS = (
    ("tokenizer.json",),
    ("sentencepiece.bpe.model",),
    ("vocab.txt",),
    ("vocab.json", "merges.txt"),
)
TOKENIZER_SETTINGS = ("added_tokens.json", "special_tokens_map.json", "tokenizer_config.json")
# in order of preference; each may be sharded under an index
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
# what converting a sentencepiece model takes, by the names they are imported as
SENTENCEPIECE = ("sentencepiece", "google.protobuf")
# tokenizer classes whose vocabulary files transformers can convert without more files or libraries
CONVERTIBLE = ("XLMRobertaTokenizer", "RobertaTokenizer", "BertTokenizer")


@dataclass(frozen=True)
class Checkpoint:
    """The files of one checkpoint. `where` begins every complaint about it.

    names   files at its top level
    read    file name → where it lies on this machine (a hub's file is fetched)
    sha256  file name → digest of its content (a hub's weights are not fetched for it)
    """

    where: str
    names: frozenset[str]
    read: Callable[[str], Path]
    sha256: Callable[[str], str]
    revision: str = ""

    def config(self, *, sizes_only: bool = False) -> dict[str, Any]:
        """The checked config.json; `sizes_only` as in `read_config`."""
        if "config.json" not in self.names:
            raise RequestError(f"{self.where}: no config.json")
        path = self.read("config.json")
        return config_file.read_config(path, self.where, sizes_only=sizes_only)

    def weights(self) -> tuple[str, ...]:
        """Names of the weight files: model.safetensors if there is one, other formats only where
        there is not.
        """
        for name in WEIGHTS:
            if name in self.names:
                return (name,)
            if f"{name}.index.json" in self.names:
                index = config_file.read_object(self.read(f"{name}.index.json"), self.where)
                shards = index.get("weight_map")
                if not isinstance(shards, dict) or not shards:
                    raise RequestError(f"{self.where}: {name}.index.json names no files")
                return tuple(sorted({printable(shard) for shard in shards.values()}))
        return ()

    def index(self) -> tuple[str, ...]:
        """Name of the index of sharded weights, if they are sharded."""
        weights = self.weights()
        sharded = bool(weights) and weights[0] not in WEIGHTS
        names = (f"{name}.index.json" for name in WEIGHTS if sharded)
        return tuple(name for name in names if name in self.names)[:1]

    def tokenizer(self) -> tuple[str, ...]:
        """Names of the tokenizer's files: tokenizer.json if there is one, else a vocabulary; and
        the settings beside it.
        """
        for vocabulary in TOKENIZERS:
            if self.names.issuperset(vocabulary):
                settings = (name for name in TOKENIZER_SETTINGS if name in self.names)
                return (*vocabulary, *settings)
        return ()

    def check(self) -> None:
        """RequestError, one line, with everything that keeps the files from being a checkpoint
        that can be read here.
        """
        if problems := list(self._problems()):
            raise RequestError(f"{self.where}: not a checkpoint: {'; '.join(problems)}")

    def _problems(self) -> Iterator[str]:
        if "config.json" in self.names:
            try:
                self.config()
            except RequestError as error:
                yield str(error).removeprefix(f"{self.where}: ")
        else:
            yield "no config.json"
            if "adapter_config.json" in self.names:
                yield "it holds an adapter, which is a module and not a backbone"
        weights = self.weights()
        if not weights:
            yield f"no weights ({' or '.join(WEIGHTS)})"
        for name in weights:
            if name not in self.names:
                yield f"no {name}, which the weights' index names"
        tokenizer = self.tokenizer()
        if not tokenizer:
            yield f"no tokenizer ({', '.join(' with '.join(names) for names in TOKENIZERS)})"
            return
        settings: dict[str, Any] = {}
        if "tokenizer_config.json" in tokenizer:
            path = self.read("tokenizer_config.json")
            settings = config_file.check_tokenizer_config(path, self.where)
        if tokenizer[0] != "tokenizer.json":
            yield from _conversion_problems(tokenizer[0], settings)


def _conversion_problems(vocabulary: str, settings: dict[str, Any]) -> Iterator[str]:
    """What a vocabulary without a tokenizer.json lacks for being converted into one."""
    advice = "or put the tokenizer.json beside it that `tokenizer.save_pretrained` writes"
    kind = str(settings.get("tokenizer_class") or "").removesuffix("Fast")
    if kind and kind not in CONVERTIBLE:
        yield (
            f"its tokenizer is a {printable(kind, 40)}, of which {vocabulary} alone is not enough:"
            f" put a tokenizer.json beside it ({', '.join(CONVERTIBLE)} need none)"
        )
    if vocabulary == "sentencepiece.bpe.model":
        lacking = explain_lacking(f"{vocabulary} without a tokenizer.json", SENTENCEPIECE)
        if lacking:
            yield f"{lacking}, {advice}"


def checkpoint_in(path: Path, where: str, named: str = "") -> Checkpoint:
    """The checkpoint that lies in a directory. RequestError when it is none.

    `named`: what the message about a directory that is not there offers instead.
    """
    if not path.exists():
        raise RequestError(f"{where}: no such directory{named}")
    if not path.is_dir():
        raise RequestError(f"{where}: a file, not a directory with a checkpoint")
    try:
        names = frozenset(item.name for item in path.iterdir() if item.is_file())
    except OSError as error:
        raise RequestError(f"{where}: cannot be listed ({error.strerror})") from error

    def sha256(name: str) -> str:
        try:
            return file_digest(path / name, remember=True)
        except OSError as error:
            raise RequestError(f"{where}: {name} cannot be read ({error.strerror})") from error

    return Checkpoint(where, names, path.joinpath, sha256)
