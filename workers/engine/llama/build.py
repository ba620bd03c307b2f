"""What the native library is and can do."""

from __future__ import annotations

import ctypes
from typing import Final

import llama_cpp
from llama_cpp import llama_cpp as c

from workers.engine.build_facts import Device
from workers.engine.llama import ggml

_KINDS: Final = ("cpu", "gpu", "igpu", "accel", "meta")
"""ggml_backend_dev_type, in its order."""


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


def devices() -> tuple[Device, ...]:
    """The devices that the library's back ends see in this environment."""
    c.llama_backend_init()
    found = []
    for index in range(ggml.dev_count()):
        device = ggml.dev_get(index)
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        ggml.dev_memory(device, ctypes.byref(free), ctypes.byref(total))
        found.append(
            Device(
                name=ggml.dev_name(device).decode("utf-8", "replace"),
                description=ggml.dev_description(device).decode("utf-8", "replace"),
                kind=_KINDS[ggml.dev_type(device)],
                memory=total.value,
                free=free.value,
            )
        )
    return tuple(found)
