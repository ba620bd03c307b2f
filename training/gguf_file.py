"""Writes a trained network and its tokeniser as a GGUF that llama.cpp loads with nothing beside it."""

from pathlib import Path

import gguf
import numpy as np

from training.model import Network
from training.template import CHAT_TEMPLATE, END, PAD, SPECIALS
from training.tokens import PRE_TYPE, Tokeniser


def write(path: Path, name: str, network: Network, tokeniser: Tokeniser) -> None:
    """Write F16 matrices and F32 norms; q and k unpermuted: the network rotates pairs as llama.cpp does."""
    shape = network.shape
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name(name)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_vocab_size(shape.vocab)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.heads)
    writer.add_rope_dimension_count(shape.head_width)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(shape.norm_eps)
    add_tokeniser(writer, tokeniser)
    for tensor, weight in network.state_dict().items():
        values = weight.detach().numpy()
        writer.add_tensor(tensor, values.astype(np.float16 if values.ndim == 2 else np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_tokeniser(writer: gguf.GGUFWriter, tokeniser: Tokeniser) -> None:
    """Add vocabulary, merges, special tokens and the chat template; <|end|> ends a text and a turn."""
    by_id = sorted(tokeniser.vocab.items(), key=lambda item: item[1])
    types = [gguf.TokenType.CONTROL if token in SPECIALS else gguf.TokenType.NORMAL for token, _ in by_id]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(PRE_TYPE)
    writer.add_token_list([token for token, _ in by_id])
    writer.add_token_types(types)
    writer.add_token_merges(tokeniser.merges)
    writer.add_bos_token_id(tokeniser.special[END])  # never added; unset, llama.cpp would assume token 11
    writer.add_eos_token_id(tokeniser.special[END])
    writer.add_eot_token_id(tokeniser.special[END])
    writer.add_pad_token_id(tokeniser.special[PAD])
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)
