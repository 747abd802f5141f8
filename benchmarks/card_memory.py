"""Which methods fit which card: the memory that `xtl plan` predicts, as one JSON.

    .venv/bin/python benchmarks/card_memory.py

Nothing is trained, and no GPU is asked: the figures follow from the backbone's config. Each method
trains PAN-X on XLM-R Large in batches of 32 sequences of 128 tokens with AdamW; a full fine-tuning
holds the weights in 32 bits, a module stands on frozen weights of 16. The JSON goes to
benchmarks/results/card-memory.json.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

RESULT = Path(__file__).parent / "results" / "card-memory.json"
CARDS = (8, 16)  # GiB
METHODS = ("full", "bottleneck", "lora")
PLAN = [
    "plan",
    "panx",
    "--backbone",
    "xlmr-large",
    "--device",
    "cuda",
    "--set",
    "train.max_length=128",
    "--set",
    "train.batch_size=32",
    "--set",
    "train.optimizer=adamw",
]
KEPT = ("bits", "dtype", "optimizer", "batch", "micro_batch", "checkpointing", "needs_bytes")


def plan(*flags: str) -> dict[str, object]:
    """What `xtl plan` says; {"fits": False, "error"} where the budget is too small."""
    done = subprocess.run(
        [sys.executable, "-m", "adapters_xtl", *PLAN, *flags, "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 2:
        return {"fits": False, "error": done.stderr.strip().removeprefix("xtl: ")}
    done.check_returncode()
    planned = json.loads(done.stdout)
    return {"fits": True, **{key: planned[key] for key in KEPT}}


def main() -> None:
    rows = []
    for method in METHODS:
        cards = {str(card): plan("--method", method, "--memory", str(card)) for card in CARDS}
        rows.append({"method": method, "cards": cards})
    command = f"xtl {' '.join(PLAN)} --method METHOD --memory GIB --json"
    RESULT.write_text(json.dumps({"command": command, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
