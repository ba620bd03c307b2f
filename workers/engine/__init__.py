"""The batching engine: many sequences through one llama.cpp context, one step at a time.

It knows models, prompts, tokens and slots. It does not know queues, Redis, Celery, routing or jobs'
histories, and imports nothing of this project outside itself.
"""
