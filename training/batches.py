"""Groups encoded examples into batches of similar length, so that little of a step is padding."""

import random
from collections.abc import Iterator
from itertools import islice

import torch
from torch import Tensor

from training.examples import ModelName, examples
from training.tokens import Encoded, Tokeniser

IGNORED = -100
_POOL_BATCHES = 40


def batches(model: ModelName, tokeniser: Tokeniser, seed: int, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (ids, targets), both (size, tokens) int64; a target is IGNORED outside the answer."""
    source = examples(model, "train", seed)
    rng = random.Random(seed)
    while True:
        pool = [tokeniser.example(example) for example in islice(source, size * _POOL_BATCHES)]
        pool.sort(key=lambda encoded: len(encoded.ids))
        groups = [pool[at : at + size] for at in range(0, len(pool), size)]
        rng.shuffle(groups)
        for group in groups:
            yield padded(group, tokeniser.pad)


def padded(group: list[Encoded], pad: int) -> tuple[Tensor, Tensor]:
    """Return next-token inputs and targets of a group, padded on the right."""
    length = max(len(encoded.ids) for encoded in group) - 1
    ids = torch.full((len(group), length), pad, dtype=torch.int64)
    targets = torch.full((len(group), length), IGNORED, dtype=torch.int64)
    for row, encoded in enumerate(group):
        sequence = torch.tensor(encoded.ids, dtype=torch.int64)
        ids[row, : len(sequence) - 1] = sequence[:-1]
        targets[row, encoded.answer_at - 1 : len(sequence) - 1] = sequence[encoded.answer_at :]
    return ids, targets
