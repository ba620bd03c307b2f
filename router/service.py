"""The router at work: what it is loaded with, what it does with a chunk. Talks to the store; no Celery."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from batchyard import store
from batchyard.catalogue import Catalogue, load_catalogue
from batchyard.errors import YardUnavailable
from batchyard.settings import Settings
from batchyard.signing import Keys, read_keys
from batchyard.store import Op
from router import artefact
from router.chunk import Decided, Refused, decide_chunk, failed, publications
from router.classifier import Classifier
from router.decide import Yard
from router.gate import Gate
from router.policy import candidates, check_policy, load_policy

logger = logging.getLogger(__name__)
T = TypeVar("T")

PUBLISH_AT_ONCE = 500
"""Jobs in one Redis call, which stops everybody else while it runs."""
PATIENCE_SECONDS = 20.0
"""How long a chunk waits for Redis before its message is given back."""
_FIRST_DELAY, _LONGEST_DELAY = 0.1, 2.0


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the files say: the yard to decide by, and the classifier (None if the policy wants none)."""

    yard: Yard
    classifier: Classifier | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a chunk: jobs published per model, jobs ended per error code, and jobs left alone
    because they were routed, cancelled or finished before."""

    published: int
    by_model: dict[str, int]
    ended: dict[str, int]
    skipped: int
    seconds: float

    def __str__(self) -> str:
        models = ", ".join(f"{model} {count}" for model, count in sorted(self.by_model.items())) or "none"
        ended = ", ".join(f"{code} {count}" for code, count in sorted(self.ended.items()))
        return (
            f"{self.published} published in {self.seconds * 1000:.0f} ms ({models})"
            + (f"; {self.skipped} skipped, routed or ended before" if self.skipped else "")
            + (f"; ended: {ended}" if ended else "")
        )


def load(settings: Settings) -> Loaded:
    """Read catalogue, policy and classifier, and hold them against each other.

    Raises:
        InvalidConfig: naming the file, the key and the remedy.
    """
    catalogue = load_catalogue(settings.models)
    policy = load_policy(settings.routing)
    classifier = None
    threshold = 0.0
    if policy.classifier is not None:
        classifier = artefact.load(resolved(policy.classifier.artefact, settings.routing))
        given = policy.classifier.threshold
        threshold = classifier.threshold if given is None else given
    check_policy(policy, catalogue, classifier.classes if classifier else (), str(settings.routing))
    version = classifier.version if classifier else None
    return Loaded(Yard(policy, catalogue, candidates(policy, catalogue), version, threshold), classifier)


def resolved(path: str, policy_file: Path) -> Path:
    """A path named in the policy: relative ones start at the folder above the policy's own."""
    return policy_file.resolve().parent.parent / path


def catalogue_document(catalogue: Catalogue) -> str:
    """The catalogue as clients read it from the store."""
    return catalogue.model_dump_json(by_alias=True)


class Router:
    """Routes chunks: decides with what is loaded, publishes through the store.

    Raises:
        InvalidConfig: the file of the tenants' keys is at fault.
    """

    def __init__(
        self, settings: Settings, loaded: Loaded, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.settings = settings
        self.loaded = loaded
        self._sleep = sleep
        path = settings.verify_keys_file
        self._keys = Keys() if path is None else read_keys(path, "BATCHYARD_VERIFY_KEYS_FILE")
        self._redis: redis.Redis = redis.Redis.from_url(
            settings.url,
            retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), 2),
            socket_connect_timeout=5,
            socket_timeout=30,
            health_check_interval=30,
        )

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def publish_catalogue(self) -> None:
        """Let clients know the tasks and models of the yard.

        Raises:
            YardUnavailable: Redis cannot be reached.
        """
        store.run(self._redis, store.put_catalogue(catalogue_document(self.loaded.yard.catalogue)))

    def route(self, bodies: Sequence[object], submitted: float, flow: str = "") -> Outcome:
        """Decide and publish every job of a chunk that came through the flow of the tenant `flow` (empty:
        through none). Harmless when repeated.

        Raises:
            YardUnavailable: Redis was away for longer than `PATIENCE_SECONDS`.
        """
        started = time.perf_counter()
        now = time.time()
        decided, refused = self._decide(bodies, now, Gate(self._keys, flow))
        each = (time.perf_counter() - started) / max(1, len(bodies))
        ready, unsendable = publications(decided, submitted, now, each)
        refused += unsendable
        published = 0
        for start in range(0, len(ready), PUBLISH_AT_ONCE):
            group = ready[start : start + PUBLISH_AT_ONCE]
            published += self._patiently(partial(store.publish, group, self.settings.result_expires))
        self._end(refused)
        return Outcome(
            published,
            dict(Counter(item.route.model for item in decided)),
            dict(Counter(item.error.code for item in refused)),
            len(ready) - published,
            time.perf_counter() - started,
        )

    def _decide(
        self, bodies: Sequence[object], now: float, gate: Gate
    ) -> tuple[list[Decided], list[Refused]]:
        limit = self.settings.max_prompt_bytes
        yard, classifier = self.loaded.yard, self.loaded.classifier
        try:
            return decide_chunk(bodies, yard, classifier, now, limit, gate)
        except Exception as exc:  # whatever one job provoked must not cost the others theirs
            if len(bodies) == 1:
                logger.exception("the router failed on a job; it ends with route_failed")
                return [], [failed(bodies[0], exc)]
            logger.warning("a chunk of %d failed as a whole; its jobs are tried one by one", len(bodies))
        decided, refused = [], []
        for body in bodies:
            good, bad = self._decide([body], now, gate)
            decided += good
            refused += bad
        return decided, refused

    def _end(self, refused: Sequence[Refused]) -> None:
        finals = [final for item in refused if (final := item.final()) is not None]
        if finals:
            self._patiently(partial(store.finish, finals, self.settings.result_expires))
        nameless = len(refused) - len(finals)
        if nameless:
            logger.warning("%d bodies without an id of their own tenant's were dropped", nameless)

    def _patiently(self, operation: Callable[[], Op[T]]) -> T:
        """Run an operation that may be repeated; while Redis is away, wait with growing delays."""
        waited, delay = 0.0, _FIRST_DELAY
        while True:
            try:
                return store.run(self._redis, operation())
            except YardUnavailable as exc:
                if waited >= PATIENCE_SECONDS or not exc.retryable:
                    raise
                logger.warning("%s; trying again in %.1f s", exc.message, delay)
            self._sleep(delay)
            waited += delay
            delay = min(_LONGEST_DELAY, delay * 2)
