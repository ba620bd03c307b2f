"""Writes a random-weights BERT-style GGUF with a WordPiece vocabulary, for tests.

It is a real file for a real llama.cpp: only the weights mean nothing.
"""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
CLS, SEP = 2, 3
WORDS = ("solder", "bridge", "board", "missing", "part", "pin", "the", "of", "at", "no", "finding", "open")
LONGEST = 64
"""Positions that the file has embeddings for."""
WIDTH = 64


def vocabulary() -> list[str]:
    """Special tokens, whole words, then single letters and digits as word beginnings and continuations.

    GGUF writes a word's beginning with U+2581 and a continuation bare.
    """
    letters = [chr(code) for code in (*range(ord("a"), ord("z") + 1), *range(ord("0"), ord("9") + 1))]
    beginnings = [f"▁{piece}" for piece in (*WORDS, *letters, *".,:-'")]
    return [*SPECIAL, *beginnings, *letters]


def write_tiny_encoder(
    path: Path,
    *,
    pooling: gguf.PoolingType | None = gguf.PoolingType.MEAN,
    layers: int = 2,
    width: int = WIDTH,
    seed: int = 5,
) -> Path:
    """Write a model in F32."""
    words, hidden = vocabulary(), 2 * width
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_name("tiny-encoder")
    writer.add_context_length(LONGEST)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(hidden)
    writer.add_head_count(4)
    writer.add_layer_norm_eps(1e-12)
    writer.add_causal_attention(False)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_vocab_size(len(words))
    writer.add_token_type_count(2)
    if pooling is not None:
        writer.add_pooling_type(pooling)
    writer.add_tokenizer_model("bert")
    writer.add_token_list(words)
    control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    writer.add_token_types([control] * len(SPECIAL) + [normal] * (len(words) - len(SPECIAL)))
    writer.add_bos_token_id(CLS)
    writer.add_eos_token_id(SEP)
    writer.add_unk_token_id(1)
    writer.add_sep_token_id(SEP)
    writer.add_pad_token_id(0)
    writer.add_mask_token_id(4)
    for name, shape in _tensors(layers, width, hidden, len(words)):
        writer.add_tensor(name, _weights(name, shape, seed))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _tensors(layers: int, width: int, hidden: int, n_words: int) -> list[tuple[str, tuple[int, ...]]]:
    found: list[tuple[str, tuple[int, ...]]] = [
        ("token_embd.weight", (n_words, width)),
        ("token_types.weight", (2, width)),
        ("position_embd.weight", (LONGEST, width)),
        ("token_embd_norm.weight", (width,)),
        ("token_embd_norm.bias", (width,)),
    ]
    for layer in range(layers):
        at = f"blk.{layer}."
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            found += [(f"{at}{part}.weight", (width, width)), (f"{at}{part}.bias", (width,))]
        found += [(f"{at}ffn_up.weight", (hidden, width)), (f"{at}ffn_up.bias", (hidden,))]
        found += [(f"{at}ffn_down.weight", (width, hidden)), (f"{at}ffn_down.bias", (width,))]
        for part in ("attn_output_norm", "layer_output_norm"):
            found += [(f"{at}{part}.weight", (width,)), (f"{at}{part}.bias", (width,))]
    return found


def _weights(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    if name.endswith("bias"):
        return np.zeros(shape, np.float32)
    if len(shape) == 1:
        return np.ones(shape, np.float32)
    random = np.random.default_rng([seed, *name.encode()])
    return (random.standard_normal(shape) * (2.0 / shape[-1] ** 0.5)).astype(np.float32)
