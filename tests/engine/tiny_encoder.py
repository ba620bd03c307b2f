"""A BERT-style GGUF small enough for tests: F32, 64 wide, 64 positions, words and letters as its vocabulary.

It is a real file for a real llama.cpp: only the weights mean nothing.
"""

from __future__ import annotations

from pathlib import Path

import gguf

from benchmarks.encoder_file import Shape, wordpieces, write_encoder

WORDS = ("solder", "bridge", "board", "missing", "part", "pin", "the", "of", "at", "no", "finding", "open")
LONGEST = 64
"""Positions that the file has embeddings for."""
WIDTH = 64


def write_tiny_encoder(path: Path, *, pooling: gguf.PoolingType | None = gguf.PoolingType.MEAN) -> Path:
    """Write the model; without `pooling` the file does not say how a text becomes one vector."""
    shape = Shape(layers=2, width=WIDTH, hidden=128, heads=4, context=LONGEST)
    return write_encoder(path, shape, wordpieces(WORDS), pooling=pooling, half=False)
