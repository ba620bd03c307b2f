"""`python -m training.sample OUT`: write texts with the token ids of the training tokeniser, for the tests.

The shipped sample lets a machine without the training extra prove that llama.cpp tokenises as training did.
"""

import argparse
import json
import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from training.examples import ModelName, examples
from training.template import pieces
from training.tokens import Tokeniser

_TOKENISER = Path(__file__).parent / "data" / "tokeniser.json"
_HARD = (
    "abcXYZ 0123'st  \n\t.,:-_{}\"()",
    "中文，。：脚①½²Ⅷé\u00a0\u3000\u0301 \U0001f600\r",
    "<|end|> <|user|>",
)


def hard_texts(seed: int) -> Iterator[str]:
    """Yield random mixes of scripts, spaces, digits of all kinds and spelled-out markers, without end."""
    rng = random.Random(seed)
    while True:
        yield "".join(rng.choice(rng.choice(_HARD)) for _ in range(rng.randint(1, 24)))


def main() -> None:
    """Write 200 generated and 200 hard texts, and prompts with their markers."""
    parser = argparse.ArgumentParser(prog="python -m training.sample", description=__doc__)
    parser.add_argument("out", type=Path)
    out: Path = parser.parse_args().out
    tokeniser = Tokeniser.load(_TOKENISER)
    models: tuple[ModelName, ...] = ("defect_detect", "chat")
    drawn = [example for model in models for example in islice(examples(model, "test", 77), 100)]
    texts = [example.user for example in drawn] + list(islice(hard_texts(77), 200))
    rows: list[dict[str, object]] = [{"text": text, "ids": tokeniser.encode(text)} for text in texts]
    for example in drawn[::10]:
        prompt = "".join(text for text, _ in pieces(example.system, example.user))
        ids = tokeniser.prompt(example.system, example.user)
        messages = [{"role": "user", "content": example.user}]
        if example.system is not None:
            messages.insert(0, {"role": "system", "content": example.system})
        rows.append({"text": prompt, "ids": ids, "messages": messages})
    out.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main()
