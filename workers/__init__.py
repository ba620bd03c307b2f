"""The workers: GPU-pinned Celery workers that run jobs in continuous micro-batches through GGUF models."""
