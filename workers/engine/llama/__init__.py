"""The only package that touches llama.cpp: a thin typed wrapper over the C bindings.

It owns C memory and turns C conventions (null pointers, negative counts, stale pointers) into Python ones.
It does not know requests, slots or scheduling. llama.cpp asserts kill the process, so callers must respect
the stated preconditions; the methods here check those that cost nothing.
"""
