"""A GGUF in memory: loaded, asked about itself, freed. It knows no context."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

from llama_cpp import llama_cpp as c

from workers.engine.errors import MODEL_FILE_INVALID, EngineError
from workers.engine.llama.log import Log
from workers.engine.llama.vocabulary import Vocabulary
from workers.engine.model import MAX_DEVICES, SPLIT_MODES, EngineModel


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What the loaded model says about itself."""

    n_vocab: int
    n_ctx_train: int
    n_params: int
    chat_template: str | None
    copies_prefixes: bool
    """Whether a leading part of one sequence's memory can be given to another one."""
    rewinds: bool
    """Whether a sequence can forget its last tokens alone, and still has those before them."""


class Model:
    """A loaded GGUF. Raises EngineError when llama.cpp refuses the file."""

    def __init__(self, settings: EngineModel, *, use_extra_bufts: bool, log: Log) -> None:
        c.llama_backend_init()
        params = c.llama_model_default_params()
        params.n_gpu_layers = settings.n_gpu_layers
        params.main_gpu = settings.main_gpu
        params.split_mode = SPLIT_MODES[settings.split_mode]
        # llama.cpp reads MAX_DEVICES parts, whatever is given, and keeps the pointer
        self._parts = (ctypes.c_float * MAX_DEVICES)(*(settings.tensor_split or ()))
        params.tensor_split = self._parts if settings.tensor_split else None
        params.load_mode = _load_mode(settings)
        params.use_extra_bufts = use_extra_bufts
        self._swa_full = settings.swa_full
        self._pointer = c.llama_model_load_from_file(settings.model_path.encode(), params)
        if not self._pointer:
            raise EngineError(
                MODEL_FILE_INVALID,
                f"llama.cpp could not load {settings.model_path}: {log.last_errors() or 'no reason given'}",
                field="model",
                remedy="check that the file is complete, its architecture supported and the memory enough",
            )
        try:
            self._check_kind(settings)
        except EngineError:
            self.close()
            raise
        self.vocabulary = Vocabulary(c.llama_model_get_vocab(self._pointer))

    def _check_kind(self, settings: EngineModel) -> None:
        encoder = bool(c.llama_model_has_encoder(self._pointer))
        decoder = bool(c.llama_model_has_decoder(self._pointer))
        if encoder and decoder:
            raise EngineError(
                MODEL_FILE_INVALID,
                f"{settings.model_path} has an encoder and a decoder; models with both are not served",
                field="model",
                remedy="choose a model with one of them",
            )
        if encoder and not settings.embedding:
            raise encoder_alone(settings.model_path)

    @property
    def pointer(self) -> Any:
        """The C pointer, for the context."""
        return self._pointer

    def facts(self) -> ModelFacts:
        """Read the model's own description."""
        template = c.llama_model_chat_template(self._pointer, None)
        recurrent = bool(c.llama_model_is_recurrent(self._pointer) or c.llama_model_is_hybrid(self._pointer))
        # a sliding window forgets the cells behind it, so a beginning is not whole for long
        slides = int(c.llama_model_n_swa(self._pointer)) > 0
        return ModelFacts(
            n_vocab=self.vocabulary.size,
            n_ctx_train=int(c.llama_model_n_ctx_train(self._pointer)),
            n_params=int(c.llama_model_n_params(self._pointer)),
            chat_template=template.decode("utf-8", "replace") if template else None,
            copies_prefixes=not recurrent and not slides,
            rewinds=not recurrent and (not slides or self._swa_full),
        )

    def close(self) -> None:
        """Free the C memory. The contexts must be closed before."""
        if self._pointer:
            c.llama_model_free(self._pointer)
            self._pointer = None


def encoder_alone(path: str) -> EngineError:
    """The error for a file that generates nothing, loaded to generate."""
    return EngineError(
        MODEL_FILE_INVALID,
        f"{path} is an encoder: it makes vectors and generates no text",
        field="embedding",
        remedy="set embedding: true in the model catalogue, or choose a decoder model",
    )


def _load_mode(settings: EngineModel) -> int:
    if settings.use_mlock:
        return int(c.LLAMA_LOAD_MODE_MMAP_MLOCK if settings.use_mmap else c.LLAMA_LOAD_MODE_MLOCK)
    return int(c.LLAMA_LOAD_MODE_MMAP if settings.use_mmap else c.LLAMA_LOAD_MODE_NONE)
