"""`python -m training.judge defect_detect`: how right a shipped model answers, field by field, without torch.

The held-out examples are those of its card; `--split train --seed 99` draws fresh ones from the wordings it
was trained on.
"""

import argparse
from pathlib import Path
from typing import get_args

from training.evaluate import HELD_OUT_SEED, evaluate
from training.examples import ModelName
from training.tokens import Tokeniser

_ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Print each accuracy with the number of examples it rests on."""
    parser = argparse.ArgumentParser(prog="python -m training.judge", description=__doc__)
    parser.add_argument("model", choices=get_args(ModelName))
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--split", choices=["train", "test"], default="test")
    parser.add_argument("--seed", type=int, default=HELD_OUT_SEED)
    options = parser.parse_args()
    tokeniser = Tokeniser.load(Path(__file__).parent / "data" / "tokeniser.json")
    path = _ROOT / "models" / f"{options.model}.Q4_K_M.gguf"
    outcome = evaluate(path, options.model, tokeniser, options.examples, options.split, options.seed)
    for name, share in outcome.accuracy.items():
        print(f"{name:24} {share:7.1%} of {outcome.examples[name]}")


if __name__ == "__main__":
    main()
