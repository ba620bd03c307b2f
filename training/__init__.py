"""The starter models: seeded data, tokeniser, training, GGUF export, quantisation, held-out evaluation.

Nothing at run time needs this package; it makes what `models/` holds.
"""
