"""An OpenAI-compatible endpoint behind the engine's port.

It knows requests and HTTP through the official SDK. It does not know queues, Redis, Celery or llama.cpp.
"""
