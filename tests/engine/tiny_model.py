"""Writes a random-weights Llama GGUF with a byte-level vocabulary and a chat template, for tests.

It is a real file for a real llama.cpp: only the weights mean nothing.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

import gguf
import numpy as np
from llama_cpp import llama_cpp as c

TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
CONTROL = ("<|bos|>", "<|eos|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
MERGES = ("t h", "th e", "i n", "a n", "o n", "e r", "p a", "pa s", "pas s", "f a", "fa i", "fai l", "r e")
BOS, EOS, END = 0, 1, 2
BLOCK_SCALE = 1.0
"""Large enough that every word of a prompt changes the text."""


def byte_characters() -> list[str]:
    """GPT-2's printable character for each byte."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spare = iter(range(256, 512))
    return [chr(byte) if byte in shown else chr(next(spare)) for byte in range(256)]


def vocabulary() -> list[str]:
    """Control tokens, the 256 bytes, then merged pieces."""
    return [*CONTROL, *byte_characters(), *(merge.replace(" ", "") for merge in MERGES)]


def write_tiny_model(
    path: Path,
    *,
    layers: int = 2,
    width: int = 256,
    template: str | None = TEMPLATE,
    seed: int = 7,
    half: bool = True,
    markers: tuple[str, ...] = (),
    mrope: bool = False,
) -> Path:
    """Write a model in F16, or in F32 where rounding must not matter; `markers` are more control tokens.

    With `mrope` its positions are those of Qwen2-VL.
    """
    heads, kv_heads, hidden = 4, 2, 512
    words = [*vocabulary(), *markers]
    writer = gguf.GGUFWriter(path, "qwen2vl" if mrope else "llama")
    if mrope:
        writer.add_rope_dimension_sections([8, 12, 12, 0])
    writer.add_name("tiny")
    writer.add_context_length(2048)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(hidden)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_rope_dimension_count(width // heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16 if half else gguf.LlamaFileType.ALL_F32)
    writer.add_vocab_size(len(words))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(words)
    control = gguf.TokenType.CONTROL
    ordinary = len(words) - len(CONTROL) - len(markers)
    types = [control] * len(CONTROL) + [gguf.TokenType.NORMAL] * ordinary + [control] * len(markers)
    writer.add_token_types(types)
    writer.add_token_merges(list(MERGES))
    writer.add_bos_token_id(BOS)
    writer.add_eos_token_id(EOS)
    writer.add_eot_token_id(END)
    writer.add_add_bos_token(True)
    if template is not None:
        writer.add_chat_template(template)
    for name, shape, scale in _tensors(layers, width, hidden, kv_heads * width // heads, len(words)):
        writer.add_tensor(name, _weights(name, shape, scale, seed, half))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _tensors(
    layers: int, width: int, hidden: int, kv_width: int, n_words: int
) -> list[tuple[str, tuple[int, ...], float]]:
    found: list[tuple[str, tuple[int, ...], float]] = [
        ("token_embd.weight", (n_words, width), 1.0),
        ("output_norm.weight", (width,), 0.0),
        ("output.weight", (n_words, width), 4.0 / width**0.5),
    ]
    for layer in range(layers):
        at = f"blk.{layer}."
        found += [
            (at + "attn_norm.weight", (width,), 0.0),
            (at + "ffn_norm.weight", (width,), 0.0),
            (at + "attn_q.weight", (width, width), BLOCK_SCALE / width**0.5),
            (at + "attn_k.weight", (kv_width, width), BLOCK_SCALE / width**0.5),
            (at + "attn_v.weight", (kv_width, width), BLOCK_SCALE / width**0.5),
            (at + "attn_output.weight", (width, width), BLOCK_SCALE / width**0.5),
            (at + "ffn_gate.weight", (hidden, width), BLOCK_SCALE / width**0.5),
            (at + "ffn_up.weight", (hidden, width), BLOCK_SCALE / width**0.5),
            (at + "ffn_down.weight", (width, hidden), BLOCK_SCALE / hidden**0.5),
        ]
    return found


def _weights(name: str, shape: tuple[int, ...], scale: float, seed: int, half: bool) -> np.ndarray:
    if len(shape) == 1:
        return np.ones(shape, np.float32)
    random = np.random.default_rng([seed, *name.encode()])
    weights = random.standard_normal(shape).astype(np.float32) * scale
    if name == "output.weight":
        # mostly printable text, and seldom an end: both make failures readable
        quiet = [token for token, word in enumerate(vocabulary()) if not (word.isascii() and len(word) < 8)]
        weights[[*quiet, *range(len(vocabulary()), shape[0])]] *= 0.3
    return weights.astype(np.float16) if half else weights


def quantise(source: Path, target: Path, file_type: int = c.LLAMA_FTYPE_MOSTLY_Q4_K_M) -> Path:
    """Quantise with llama.cpp's own quantiser."""
    params = c.llama_model_quantize_default_params()
    params.ftype = file_type
    params.nthread = 1
    code = c.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(params))
    assert code == 0
    return target
