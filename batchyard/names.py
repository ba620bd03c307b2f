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

DEFAULT_TENANT = "default"
TENANT_SEPARATOR = "~"
"""Between a tenant and a name of its own; in no name, so that the two cannot be confused."""

CATALOGUE_KEY = "batchyard:catalogue"
LIMITS_KEY = "batchyard:limits"
"""Hash: `tenant:<name>` or `tenant:*` to the most open jobs, `model:<name>` to the most waiting ones."""
WAITING_KEY = "batchyard:waiting"
"""Hash: jobs that wait for each model, from their acceptance (where it is known then) until a worker has
them."""
DONE_KEY = "batchyard:done"
"""Hash: jobs that each model's workers have ended since the beginning."""
RATES_KEY = "batchyard:rates"
"""Hash: jobs that each model's workers end a second."""
FULL_KEY = "batchyard:full"
"""There while Redis's memory is nearly full."""
DEADLINES_KEY = "batchyard:deadlines"
"""Sorted set: open jobs that have a deadline, by it (seconds since the epoch)."""
FINALS_KEY = "batchyard:finals"
"""Stream: jobs as they end (`id`, `batch`, `state`, a failed one's `document`) while an auditor is set up."""
AUDITING_KEY = "batchyard:auditing"
"""Hash, there while an auditor is set up: since when, and when each was heard of last (ms)."""
DEAD_KEY = "batchyard:dead"
"""Hash: dead letters as JSON by their id."""
DEAD_INDEX_KEY = "batchyard:dead:index"
"""Sorted set: the ids of dead letters by time."""
UNACKED_KEY = "batchyard:unacked"
"""Hash: messages that a consumer has, by their delivery tags; with `:index` their leases."""
JANITOR_KEY = "batchyard:janitor"
"""Which router does what is done by one of them."""


def full_name(tenant: str, name: str) -> str:
    """The id or batch `name` of a tenant as the yard knows it; the default tenant's stay as they are."""
    if tenant == DEFAULT_TENANT or name.startswith(tenant + TENANT_SEPARATOR):
        return name
    return f"{tenant}{TENANT_SEPARATOR}{name}"


def tenant_of(full: str) -> str:
    """The tenant in a full name."""
    tenant, separator, _ = full.partition(TENANT_SEPARATOR)
    return tenant if separator else DEFAULT_TENANT


def model_queue(model_name: str) -> str:
    """The queue that the worker of `model_name` consumes."""
    return MODEL_QUEUE_PREFIX + model_name


def model_of_queue(queue: str) -> str:
    """The model whose workers consume `queue`; empty where it is no model's."""
    return queue.removeprefix(MODEL_QUEUE_PREFIX) if queue.startswith(MODEL_QUEUE_PREFIX) else ""


def priority_queue(queue: str, priority: int) -> str:
    """The Redis list that kombu keeps for `queue` at `priority` (0 = first … 9 = last)."""
    return queue if priority == 0 else f"{queue}{PRIORITY_SEPARATOR}{priority}"


def flow_key(queue: str, priority: int, tenant: str, batch: str) -> str:
    """The list of one flow's messages; `batch` is a full name, or empty for jobs that have none. `|` is in no
    name.
    """
    return f"batchyard:flow|{queue}|{priority}|{tenant}|{batch}"


def ring_key(queue: str, priority: int, tenant: str | None = None) -> str:
    """The list of the tenants that have messages in a queue, or of one's batches that have; the last of it
    is the next one.
    """
    ring = f"batchyard:ring|{queue}|{priority}"
    return ring if tenant is None else f"{ring}|{tenant}"


def open_key(tenant: str) -> str:
    """Where the number of a tenant's jobs without a result is kept."""
    return f"batchyard:open:{tenant}"


def bell_key(queue: str) -> str:
    """The list on which idle consumers of `queue` wait."""
    return f"batchyard:bell:{queue}"


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


def alone_key(name: str) -> str:
    """Where it is counted how often a job (or, with `chunk|` before its tag, each of a chunk) was run alone
    because consumers vanish with it. `|` is in no name.
    """
    return f"batchyard:alone:{name}"


def blob_key(tenant: str, sha256: str) -> str:
    """Where a tenant's attachment is kept, under the hash of its content."""
    return f"batchyard:blob|{tenant}|{sha256}"
