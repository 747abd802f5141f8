"""One number for a pair of texts. An example: {"id"?, "first", "second", "value"?: number}."""

import numpy as np

from adapters_xtl.formats import Fault, Format, pad, text_fault, text_items


class Regress(Format):
    fields = ("first", "second")
    gold_fields = ("value",)
    input_help = '{"first": …, "second": …}'

    def fault(self, example, labels):
        if not isinstance(example.get("value"), int | float):
            return Fault("no gold value", False)
        return text_fault(example, "first", "second")

    def output_names(self, labels):
        return ("value",)

    def encode(self, examples, labels, tokenizer, lengths, *, train):
        return text_items(
            tokenizer,
            lengths,
            [example["first"] for example in examples],
            [example["second"] for example in examples],
            [{"value": example.get("value")} for example in examples],
        )

    def collate(self, items, tokenizer, multiple=1):
        values = np.array([item.gold["value"] or 0.0 for item in items], dtype=np.float32)
        return {**pad(items, tokenizer, multiple), "values": values}

    def loss(self, outputs, batch):
        """Mean squared error of the outputs (B, 1)."""
        return {"loss": ((outputs[:, 0].float() - batch["values"]) ** 2).mean()}

    def decode(self, examples, items, outputs, labels):
        """{"id", "prediction": number, "gold": number or None}."""
        return [
            {
                "id": examples[item.owner].get("id"),
                "prediction": float(output[0]),
                "gold": examples[item.owner].get("value"),
            }
            for item, output in zip(items, outputs, strict=True)
        ]


FORMAT = Regress()
