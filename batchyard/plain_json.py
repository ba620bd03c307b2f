"""Celery's JSON as plain JSON: a customer's text is data, whatever keys it has.

kombu reads `{"__type__": …, "__value__": …}` anywhere in a message as an object of Python's, and a message
where that fails is dropped: a whole chunk of jobs, for what one of them had in its metadata.
"""

import json

from kombu.serialization import registry
from kombu.utils.json import dumps


def register_plain_json() -> None:
    """Make this process read message bodies and results as plain JSON; what it writes stays as it was."""
    registry.register("json", dumps, json.loads, content_type="application/json", content_encoding="utf-8")
