"""Text classifiers in ONNX Runtime behind the engine's port.

It knows texts, labels and execution providers. It does not know queues, Redis, Celery or llama.cpp.
"""
