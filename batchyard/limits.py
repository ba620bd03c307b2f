"""Limits in the store: the most jobs that may wait for a model, and that a tenant may have open.

SUBMIT (see `batchyard.scripts`) holds new jobs against them.
"""

from collections.abc import Mapping

from batchyard import names
from batchyard.store import Op

_REPLACE = """
-- key: the hash; args: field, value, …; one that is no more there has no limit any more
redis.call('DEL', KEYS[1])
for i = 1, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
"""


def put_limits(limits: Mapping[str, int]) -> Op[None]:
    """Publish the limits of a yard (see `Catalogue.limits`) in place of those that stood there."""
    words = [word for field, most in limits.items() for word in (field, most)]
    yield [("EVAL", _REPLACE, 1, names.LIMITS_KEY, *words)]
