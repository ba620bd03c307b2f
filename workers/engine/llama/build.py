"""What the native library is and can do."""

from __future__ import annotations

import llama_cpp
from llama_cpp import llama_cpp as c


def build_name() -> str:
    """The library's version, for provenance and for remembering what a smoke test has proved."""
    return (
        f"llama-cpp-python {llama_cpp.__version__} (llama.cpp {c.llama_version().decode('ascii', 'replace')})"
    )


def system_info() -> str:
    """The instruction sets and back ends the library was built with."""
    return str(c.llama_print_system_info().decode("ascii", "replace"))


def offloads_to_gpu() -> bool:
    """Whether this build can put layers on a GPU."""
    return bool(c.llama_supports_gpu_offload())
