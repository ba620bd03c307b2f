"""Names that the parts of the yard agree on: tasks, queues, priorities, Redis keys."""

AUTO = "auto"
"""The task or model a job names when the router is to choose."""

ROUTE_TASK = "batchyard.route"
RUN_TASK = "batchyard.run"
ROUTE_QUEUE = "route"
MODEL_QUEUE_PREFIX = "model."

PRIORITY_STEPS = tuple(range(10))
INTERACTIVE_PRIORITIES = PRIORITY_STEPS[:3]
"""Jobs that somebody waits for; they may take the place of others (`interactive` is 0)."""
PRIORITY_SEPARATOR = "\x06\x16"

RESULT_KEY_PREFIX = "celery-task-meta-"
"""Celery's own: a plain `AsyncResult(job_id)` reads what we store."""

CATALOGUE_KEY = "batchyard:catalogue"


def model_queue(model_name: str) -> str:
    """The queue that the worker of `model_name` consumes."""
    return MODEL_QUEUE_PREFIX + model_name


def priority_queue(queue: str, priority: int) -> str:
    """The Redis list that kombu keeps for `queue` at `priority` (0 = first … 9 = last)."""
    return queue if priority == 0 else f"{queue}{PRIORITY_SEPARATOR}{priority}"


def bell_key(queue: str) -> str:
    """The list on which idle consumers of `queue` wait."""
    return f"batchyard:bell:{queue}"


def unprocessable_key(queue: str) -> str:
    """The list of what was found on `queue` and is no Celery message."""
    return f"batchyard:unprocessable:{queue}"


def result_key(job_id: str) -> str:
    """Where the state and the result of a job are kept (a Celery task-meta document)."""
    return RESULT_KEY_PREFIX + job_id


def claim_key(job_id: str) -> str:
    """Where the digest of the body first submitted under `job_id` is kept."""
    return f"batchyard:claim:{job_id}"


def batch_key(batch: str) -> str:
    """Hash of a batch's counters: total, and one per final state."""
    return f"batchyard:batch:{batch}"


def batch_jobs_key(batch: str) -> str:
    """List of the job ids of a batch, in order of submission."""
    return f"batchyard:batch-jobs:{batch}"


def batch_done_key(batch: str) -> str:
    """Stream of the job ids of a batch, in order of completion."""
    return f"batchyard:batch-done:{batch}"


def blob_key(sha256: str) -> str:
    """Where an attachment is kept, under the hash of its content."""
    return f"batchyard:blob:{sha256}"
