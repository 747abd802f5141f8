"""The heads of the formats as model classes of transformers have them: names of classes and layers.

A model of transformers whose layers compute what a head of ours computes can stand in its place:
the sequence head is that of XLM-R and RoBERTa, BERT's pooler and classifier, or the pooler and
classifier under which all three choose among texts. Other architectures have no entry.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = [
    "MULTIPLE_CHOICE",
    "QUESTION_ANSWERING",
    "SEQUENCE_CLASSIFICATION",
    "TOKEN_CLASSIFICATION",
    "PlainHead",
    "PlainHeads",
]


@dataclass(frozen=True)
class PlainHead:
    """How a head stands in a model class of transformers.

    auto_class  the class that loads the model, e.g. "AutoModelForTokenClassification"
    pipeline    name of the `transformers.pipeline` that runs it; "" where there is none
    layers      linear layer of the head → the same layer of the model
    fields      fields of the model's output that hold the head's outputs, one an output where they
                are several
    labelled    whether the model's labels are the head's class names
    choices     whether the model reads inputs as (examples, choices, tokens)
    lacks       one sentence on what the model does not do of what the head does; "" for nothing
    """

    auto_class: str
    pipeline: str
    layers: Mapping[str, str]
    fields: tuple[str, ...] = ("logits",)
    labelled: bool = True
    choices: bool = False
    lacks: str = ""


PlainHeads = Mapping[str, PlainHead]  # model type → its class

_OWN = {"dense": "classifier.dense", "out": "classifier.out_proj"}
_POOLED_ROBERTA = {"dense": "roberta.pooler.dense", "out": "classifier"}
_POOLED_BERT = {"dense": "bert.pooler.dense", "out": "classifier"}


def _sequence(layers: Mapping[str, str]) -> PlainHead:
    return PlainHead("AutoModelForSequenceClassification", "text-classification", layers)


def _choice(layers: Mapping[str, str]) -> PlainHead:
    return PlainHead("AutoModelForMultipleChoice", "", layers, labelled=False, choices=True)


SEQUENCE_CLASSIFICATION: PlainHeads = {
    "xlm-roberta": _sequence(_OWN),
    "roberta": _sequence(_OWN),
    "bert": _sequence(_POOLED_BERT),
}
MULTIPLE_CHOICE: PlainHeads = {
    "xlm-roberta": _choice(_POOLED_ROBERTA),
    "roberta": _choice(_POOLED_ROBERTA),
    "bert": _choice(_POOLED_BERT),
}
TOKEN_CLASSIFICATION: PlainHeads = dict.fromkeys(
    ("xlm-roberta", "roberta", "bert"),
    PlainHead("AutoModelForTokenClassification", "token-classification", {"out": "classifier"}),
)
QUESTION_ANSWERING: PlainHeads = dict.fromkeys(
    ("xlm-roberta", "roberta", "bert"),
    PlainHead(
        "AutoModelForQuestionAnswering",
        "question-answering",
        {"out": "qa_outputs"},
        fields=("start_logits", "end_logits"),
        labelled=False,
        lacks=(
            "Its answers begin and end with whole pieces of the tokenizer: the stack also leaves"
            " out characters of the first and the last piece, such as a full stop."
        ),
    ),
)
