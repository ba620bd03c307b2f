"""ggml's own functions, which llama-cpp-python does not bind, with their C signatures.

They are found through llama.cpp's library, which links to ggml's.
"""

from __future__ import annotations

import ctypes
from typing import Any

from llama_cpp import llama_cpp as c

_POINTER = ctypes.c_void_p
_TEXT = ctypes.c_char_p
_INT64 = ctypes.c_int64


def _function(name: str, result: Any, *arguments: Any) -> Any:
    # a function object of our own: the library's would be shared with whoever binds it too
    return ctypes.CFUNCTYPE(result, *arguments)((name, c._lib))


dev_count = _function("ggml_backend_dev_count", ctypes.c_size_t)
dev_get = _function("ggml_backend_dev_get", _POINTER, ctypes.c_size_t)
dev_name = _function("ggml_backend_dev_name", _TEXT, _POINTER)
dev_description = _function("ggml_backend_dev_description", _TEXT, _POINTER)
dev_type = _function("ggml_backend_dev_type", ctypes.c_int, _POINTER)
dev_memory = _function(
    "ggml_backend_dev_memory",
    None,
    _POINTER,
    ctypes.POINTER(ctypes.c_size_t),
    ctypes.POINTER(ctypes.c_size_t),
)
nelements = _function("ggml_nelements", _INT64, _POINTER)
soft_max = _function("ggml_soft_max", _POINTER, _POINTER, _POINTER)
top_k = _function("ggml_top_k", _POINTER, _POINTER, _POINTER, ctypes.c_int)
get_rows = _function("ggml_get_rows", _POINTER, _POINTER, _POINTER, _POINTER)
reshape_1d = _function("ggml_reshape_1d", _POINTER, _POINTER, _POINTER, _INT64)
reshape_2d = _function("ggml_reshape_2d", _POINTER, _POINTER, _POINTER, _INT64, _INT64)
