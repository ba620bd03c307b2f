"""The card of a shipped model: what it is, how it was made, what it scores. Written as models/<name>.json."""

import hashlib
import json
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path

from training.model import Shape


@dataclass(frozen=True, slots=True)
class Card:
    """Everything a reader needs to judge the file, or to make it again."""

    name: str
    file: str
    bytes: int
    sha256: str
    architecture: str
    weights: int
    shape: dict[str, float]
    quantisation: str
    tokenizer: dict[str, str | int]
    chat_template: str
    data_seed: int
    steps: int
    batch: int
    final_loss: float
    held_out_seed: int
    held_out_examples: dict[str, int]
    held_out_accuracy: dict[str, dict[str, float]]
    torch_against_f16: float
    machine: str
    command: str

    def write(self, path: Path) -> None:
        """Write the card as JSON."""
        path.write_text(json.dumps(asdict(self), ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def digest(path: Path) -> str:
    """Return a file's SHA-256 in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def shape_dict(shape: Shape) -> dict[str, float]:
    """Return the shape's sizes by name."""
    return asdict(shape)


def machine() -> str:
    """Describe the machine in words, without naming it."""
    return f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, one thread"
