"""Writes a BERT-style GGUF with random weights: a real shape needs no real weights to be timed.

It knows the file's layout, not who reads it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PAD, UNK, CLS, SEP, MASK = range(5)
WORD = "▁"
"""GGUF writes it before a word's beginning; a continuation stands bare."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of an encoder. `context` is the number of positions it has embeddings for."""

    layers: int
    width: int
    hidden: int
    heads: int
    context: int


MINILM_L6 = Shape(layers=6, width=384, hidden=1536, heads=12, context=512)
"""all-MiniLM-L6's, whose vocabulary has 30,522 entries."""


def wordpieces(words: Sequence[str], size: int = 0) -> list[str]:
    """A vocabulary of special tokens, `words`, single letters and digits as beginnings and continuations, and
    unused entries up to `size`."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    beginnings = dict.fromkeys((*words, *letters, *".,:;-'()/"))
    pieces = [*SPECIAL, *(WORD + word for word in beginnings), *letters]
    return pieces + [f"[unused{number}]" for number in range(size - len(pieces))]


def write_encoder(
    path: Path,
    shape: Shape,
    pieces: Sequence[str],
    *,
    pooling: gguf.PoolingType | None = gguf.PoolingType.MEAN,
    half: bool = True,
    seed: int = 5,
) -> Path:
    """Write a model in F16, or in F32 where rounding must not matter."""
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.hidden)
    writer.add_head_count(shape.heads)
    writer.add_layer_norm_eps(1e-12)
    writer.add_causal_attention(False)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16 if half else gguf.LlamaFileType.ALL_F32)
    writer.add_vocab_size(len(pieces))
    writer.add_token_type_count(2)
    if pooling is not None:
        writer.add_pooling_type(pooling)
    writer.add_tokenizer_model("bert")
    writer.add_token_list(list(pieces))
    control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    writer.add_token_types([control] * len(SPECIAL) + [normal] * (len(pieces) - len(SPECIAL)))
    writer.add_bos_token_id(CLS)
    writer.add_eos_token_id(SEP)
    writer.add_unk_token_id(UNK)
    writer.add_sep_token_id(SEP)
    writer.add_pad_token_id(PAD)
    writer.add_mask_token_id(MASK)
    for name, size in _tensors(shape, len(pieces)):
        writer.add_tensor(name, _weights(name, size, half, seed))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _tensors(shape: Shape, n_pieces: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "token_embd.weight", (n_pieces, shape.width)
    yield "token_types.weight", (2, shape.width)
    yield "position_embd.weight", (shape.context, shape.width)
    yield from _both("token_embd_norm", (shape.width,), shape.width)
    for layer in range(shape.layers):
        at = f"blk.{layer}."
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            yield from _both(at + part, (shape.width, shape.width), shape.width)
        yield from _both(at + "ffn_up", (shape.hidden, shape.width), shape.hidden)
        yield from _both(at + "ffn_down", (shape.width, shape.hidden), shape.width)
        for part in ("attn_output_norm", "layer_output_norm"):
            yield from _both(at + part, (shape.width,), shape.width)


def _both(name: str, size: tuple[int, ...], biases: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", size
    yield f"{name}.bias", (biases,)


def _weights(name: str, size: tuple[int, ...], half: bool, seed: int) -> npt.NDArray[np.floating]:
    if len(size) == 1:
        return np.full(size, float(name.endswith(".weight")), np.float32)
    random = np.random.default_rng([seed, *name.encode()])
    weights = random.standard_normal(size, np.float32) * np.float32(2.0 / size[-1] ** 0.5)
    # llama.cpp adds positions and token types as they are, in F32
    return (
        weights.astype(np.float16) if half and not name.startswith(("position", "token_types")) else weights
    )
