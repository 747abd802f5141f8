"""Small mirrors of made-up rows, for the tests of `adapters_xtl.data`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from adapters_xtl.data.sources import Mirror


def mirror_of(
    root: Path,
    files: Mapping[str, Mapping[str, Any]],
    labels: Mapping[str, list[str]] | None = None,
) -> Mirror:
    """A mirror of parquet files, path → columns; `labels`: class names that go into every file's
    metadata.
    """
    for name, columns in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        table = columns if isinstance(columns, pa.Table) else pa.table(dict(columns))
        features = {
            column: (
                {"feature": {"names": names, "_type": "ClassLabel"}, "_type": "List"}
                if pa.types.is_list(table.schema.field(column).type)
                else {"names": names, "_type": "ClassLabel"}
            )
            for column, names in (labels or {}).items()
            if column in table.column_names
        }
        if features:
            table = table.replace_schema_metadata(
                {"huggingface": json.dumps({"info": {"features": features}})}
            )
        pq.write_table(table, path)
    return Mirror(root)


MNLI = "nyu-mll/multi_nli/data/{}-00000-of-00001.parquet"
SQUAD = "rajpurkar/squad/plain_text/{}-00000-of-00001.parquet"
PANX = "google/xtreme/PAN-X.{}/{}-00000-of-00001.parquet"


def nli(count: int = 30, start: int = 0) -> dict[str, list[Any]]:
    numbers = range(start, start + count)
    return {
        "pairID": [f"pair{n}" for n in numbers],
        "premise": [f"premise {n}" for n in numbers],
        "hypothesis": [f"hypothesis {n}" for n in numbers],
        "label": [n % 3 for n in numbers],
    }


def squad(count: int = 30, start: int = 0, prefix: str = "q") -> dict[str, list[Any]]:
    numbers = range(start, start + count)
    return {
        "id": [f"{prefix}{n}" for n in numbers],
        "context": [f"The number is {n}, they say." for n in numbers],
        "question": [f"Which number is it, {n}?" for n in numbers],
        "answers": [{"text": [str(n)], "answer_start": [14]} for n in numbers],
    }


def tagged(count: int = 30, code: str = "en") -> dict[str, Any]:
    return {
        "tokens": [[f"{code}{n}", "in", "Ulm"] for n in range(count)],
        "ner_tags": [[0, 0, 5]] * count,
    }
