"""`python -m training.generate KIND --split train|test --n N --seed S --out F`: write rows as JSONL."""

import argparse
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Protocol

from training.generate import chat, defects, jobs, routing, text_cls
from training.generate.wording import Split


class Row(Protocol):
    """Anything that can be written as one JSONL row."""

    def as_row(self) -> dict[str, object]:
        """Return the row."""


KINDS = ("defects", "text_cls", "chat", "routing", "jobs")


def rows(kind: str, split: Split, seed: int) -> Iterator[Row]:
    """Return the endless rows of a kind; raises ValueError for an unknown kind."""
    match kind:
        case "defects":
            return iter(defects.reports(split, seed))
        case "text_cls":
            return iter(text_cls.requests(split, seed))
        case "chat":
            return iter(chat.turns(split, seed))
        case "routing":
            return iter(routing.rows(split, seed))
        case "jobs":
            return iter(jobs.jobs(seed))
    raise ValueError(f"unknown kind {kind!r}; known: {', '.join(KINDS)}")


def main() -> None:
    """Write N rows of one kind."""
    parser = argparse.ArgumentParser(prog="python -m training.generate", description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument(
        "--split", choices=("train", "test"), default="train", help="jobs are always held out"
    )
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    with options.out.open("w", encoding="utf-8") as out:
        for row in islice(rows(options.kind, options.split, options.seed), options.n):
            out.write(json.dumps(row.as_row(), ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
