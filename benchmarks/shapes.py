"""GGUFs to measure with, of real shapes and random weights, quantised by llama.cpp itself.

    python -m benchmarks.shapes 1.1B [--out FILE] [--vocab GGUF]

How long a step takes depends on the shape and the quantisation, not on what the weights say, so nothing need
be downloaded to be timed. `1.1B` is a small Llama, `7B` is Mistral-7B; `starter` is the shipped
`defect_detect` with its weights, but endless (see `tokenizer.py`). Files are made once and kept in
~/.cache/batchyard/shapes. Tensors are made and written one by one, so memory stays far under the file's size.
"""

import argparse
import ctypes
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt

from benchmarks.child import ROOT
from benchmarks.tokenizer import (
    Fields,
    add_fields,
    ending_tokens,
    endless,
    filled_up,
    read_fields,
    tokenizer_of,
)

STARTER = ROOT / "models/defect_detect.Q4_K_M.gguf"
_VERSION = 1  # part of the files' names: files of an older recipe are not mistaken for these


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a Llama."""

    width: int
    layers: int
    heads: int
    kv_heads: int
    feed_forward: int
    vocabulary: int = 32_000
    context: int = 4096

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Names and sizes [rows, columns] of the weights; norms have one dimension."""
        narrow = self.width // self.heads * self.kv_heads
        yield "token_embd.weight", (self.vocabulary, self.width)
        for layer in range(self.layers):
            at = f"blk.{layer}."
            yield at + "attn_norm.weight", (self.width,)
            yield at + "attn_q.weight", (self.width, self.width)
            yield at + "attn_k.weight", (narrow, self.width)
            yield at + "attn_v.weight", (narrow, self.width)
            yield at + "attn_output.weight", (self.width, self.width)
            yield at + "ffn_norm.weight", (self.width,)
            yield at + "ffn_gate.weight", (self.feed_forward, self.width)
            yield at + "ffn_up.weight", (self.feed_forward, self.width)
            yield at + "ffn_down.weight", (self.width, self.feed_forward)
        yield "output_norm.weight", (self.width,)
        yield "output.weight", (self.vocabulary, self.width)


SHAPES = {
    "1.1B": Shape(width=2048, layers=22, heads=32, kv_heads=4, feed_forward=5632),
    "7B": Shape(width=4096, layers=32, heads=32, kv_heads=8, feed_forward=14336),
}


def measured_model(name: str) -> Path:
    """The file behind a benchmark's `--model`: `starter`, a shape (made if it is missing), or a path."""
    if not ends_no_text(name):
        return Path(name)
    path = _cache() / f"{name}-v{_VERSION}.Q4_K_M.gguf"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        make(name, path, None)
    return path


def ends_no_text(name: str) -> bool:
    """Whether every answer of a benchmark's `--model` has the length that was asked for."""
    return name == "starter" or name in SHAPES


def _cache() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "batchyard/shapes"


def make(name: str, target: Path, vocabulary: Path | None) -> None:
    """Write the file of a name in one go: what is there under `target` is always whole."""
    print(f"writing {target}", file=sys.stderr, flush=True)
    half, whole = target.with_suffix(".f16.part"), target.with_suffix(".part")
    if name == "starter":
        copy_endless(STARTER, whole)
    else:
        try:
            write_random(SHAPES[name], half, tokenizer_of(read_fields(vocabulary or STARTER)), name)
            quantise(half, whole, threads=len(os.sched_getaffinity(0)))
        finally:
            half.unlink(missing_ok=True)
    whole.replace(target)


def write_random(shape: Shape, path: Path, tokenizer: Fields, name: str, seed: int = 7) -> None:
    """Write a shape in F16 with random weights, and rows of zeros for the tokens that would end a text: their
    logit is 0, where the largest of all others is far above."""
    words = filled_up(tokenizer, shape.vocabulary)
    ends = sorted(ending_tokens(words))
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(f"random {name}")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_vocab_size(shape.vocabulary)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_dimension_count(shape.width // shape.heads)
    writer.add_layer_norm_rms_eps(1e-5)
    add_fields(writer, words)
    for tensor, size in shape.tensors():
        kind = np.dtype(np.float32 if len(size) == 1 else np.float16)
        writer.add_tensor_info(tensor, size, kind, int(np.prod(size)) * kind.itemsize)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    random = np.random.default_rng(seed)
    for tensor, size in shape.tensors():
        writer.write_tensor_data(_weights(tensor, size, ends, random))
    writer.close()


def _weights(
    tensor: str, size: tuple[int, ...], ends: list[int], random: np.random.Generator
) -> npt.NDArray[np.float16] | npt.NDArray[np.float32]:
    if len(size) == 1:
        return np.ones(size, np.float32)
    scale = np.float32(1.0 if tensor == "token_embd.weight" else size[1] ** -0.5)
    weights = random.standard_normal(size, np.float32) * scale
    if tensor == "output.weight":
        weights[ends] = 0.0
    return weights.astype(np.float16)


def quantise(source: Path, target: Path, *, threads: int) -> None:
    """Q4_K_M by llama.cpp's own quantiser. Raises RuntimeError where it fails."""
    from llama_cpp import llama_cpp as c

    from workers.engine.llama.log import Log

    log = Log(verbose=False)  # it prints a line a tensor
    params = c.llama_model_quantize_default_params()
    params.ftype = c.LLAMA_FTYPE_MOSTLY_Q4_K_M
    params.nthread = threads
    code = c.llama_model_quantize(os.fsencode(source), os.fsencode(target), ctypes.byref(params))
    if code != 0:
        raise RuntimeError(f"llama.cpp could not quantise {source} (code {code}): {log.last_errors()}")


def copy_endless(source: Path, target: Path) -> None:
    """A GGUF's weights under an endless tokenizer."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, "llama")
    add_fields(writer, endless(read_fields(source)))
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main() -> int:
    """Write one file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shapes", description=__doc__)
    parser.add_argument("shape", choices=["starter", *SHAPES])
    parser.add_argument("--out", type=Path, help="default: ~/.cache/batchyard/shapes, made once")
    parser.add_argument("--vocab", type=Path, help="a GGUF whose tokenizer to take (default: the starter's)")
    arguments = parser.parse_args()
    if arguments.out is None and arguments.vocab is None:
        print(measured_model(arguments.shape))
        return 0
    target = arguments.out or _cache() / f"{arguments.shape}-{arguments.vocab.stem}.Q4_K_M.gguf"
    target.parent.mkdir(parents=True, exist_ok=True)
    make(arguments.shape, target, arguments.vocab)
    print(target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
