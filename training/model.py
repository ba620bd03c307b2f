"""A Llama-architecture transformer small enough to train on a CPU, with llama.cpp's interleaved RoPE.

Knows nothing of text, files or quantisation. Because RoPE pairs neighbouring dimensions exactly as
llama.cpp's "norm" RoPE does, q and k go into the GGUF unpermuted.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of the network; widths are multiples of 256 because K-quants need whole blocks of 256."""

    vocab: int
    width: int = 256
    layers: int = 4
    heads: int = 4
    feed_forward: int = 768
    context: int = 512
    rope_base: float = 10000.0
    norm_eps: float = 1e-5

    @property
    def head_width(self) -> int:
        """Dimensions of one attention head."""
        return self.width // self.heads


def rope_table(shape: Shape, length: int) -> tuple[Tensor, Tensor]:
    """Return cos and sin, each (length, head_width / 2)."""
    half = shape.head_width // 2
    inverse = shape.rope_base ** (-torch.arange(half, dtype=torch.float64) / half)
    angles = torch.outer(torch.arange(length, dtype=torch.float64), inverse)
    return angles.cos().float(), angles.sin().float()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate neighbouring pairs of the last dimension of (batch, heads, tokens, head_width)."""
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)


class Block(nn.Module):
    """One layer: causal attention and SwiGLU, each behind an RMS norm."""

    def __init__(self, shape: Shape) -> None:
        """Create the layer's weights."""
        super().__init__()
        width = shape.width
        self.heads = shape.heads
        self.attn_norm = nn.RMSNorm(width, eps=shape.norm_eps)
        self.attn_q = nn.Linear(width, width, bias=False)
        self.attn_k = nn.Linear(width, width, bias=False)
        self.attn_v = nn.Linear(width, width, bias=False)
        self.attn_output = nn.Linear(width, width, bias=False)
        self.ffn_norm = nn.RMSNorm(width, eps=shape.norm_eps)
        self.ffn_gate = nn.Linear(width, shape.feed_forward, bias=False)
        self.ffn_up = nn.Linear(width, shape.feed_forward, bias=False)
        self.ffn_down = nn.Linear(shape.feed_forward, width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Map (batch, tokens, width) to the same shape."""
        batch, tokens, width = x.shape
        normed = self.attn_norm(x)
        split = (batch, tokens, self.heads, width // self.heads)
        q = rotate(self.attn_q(normed).view(split).transpose(1, 2), cos, sin)
        k = rotate(self.attn_k(normed).view(split).transpose(1, 2), cos, sin)
        v = self.attn_v(normed).view(split).transpose(1, 2)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attn_output(mixed.transpose(1, 2).reshape(batch, tokens, width))
        normed = self.ffn_norm(x)
        out: Tensor = x + self.ffn_down(functional.silu(self.ffn_gate(normed)) * self.ffn_up(normed))
        return out


class Network(nn.Module):
    """Embedding, layers, final norm; the output shares the embedding's weights."""

    def __init__(self, shape: Shape, seed: int) -> None:
        """Create and initialise all weights from the seed."""
        super().__init__()
        torch.manual_seed(seed)
        self.shape = shape
        self.token_embd = nn.Embedding(shape.vocab, shape.width)
        self.blk = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.output_norm = nn.RMSNorm(shape.width, eps=shape.norm_eps)
        cos, sin = rope_table(shape, shape.context)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                residual = name.endswith(("attn_output.weight", "ffn_down.weight"))
                nn.init.normal_(weight, std=0.02 if not residual else 0.02 / (2 * shape.layers) ** 0.5)

    def hidden(self, ids: Tensor) -> Tensor:
        """Map ids (batch, tokens) to normed hidden states (batch, tokens, width)."""
        x: Tensor = self.token_embd(ids)
        cos, sin = self.get_buffer("cos")[: ids.shape[1]], self.get_buffer("sin")[: ids.shape[1]]
        for block in self.blk:
            x = block(x, cos, sin)
        normed: Tensor = self.output_norm(x)
        return normed

    def logits(self, hidden: Tensor) -> Tensor:
        """Map (..., width) to (..., vocab)."""
        return functional.linear(hidden, self.token_embd.weight)
