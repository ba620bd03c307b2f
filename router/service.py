"""The router at work: what it is loaded with, what it does with a chunk. Talks to the store; no Celery."""

import logging
import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from batchyard import dead, names, store
from batchyard.catalogue import Catalogue, load_catalogue
from batchyard.connections import connect
from batchyard.errors import InvalidJob, YardUnavailable
from batchyard.limits import put_limits
from batchyard.settings import Settings
from batchyard.signing import Keys, read_keys
from batchyard.store import Op
from router import artefact
from router.chunk import Decided, Refused, chunk_of_one, decide_chunk, failed, poisoned, publications
from router.classifier import Classifier
from router.decide import Yard
from router.gate import Gate
from router.policy import candidates, check_policy, load_policy

logger = logging.getLogger(__name__)
T = TypeVar("T")

PUBLISH_AT_ONCE = 500
"""Jobs in one Redis call, which stops everybody else while it runs."""
PATIENCE = 4.0
"""For how many times `redis_timeout` a chunk waits for Redis before its message is given back."""
_FIRST_DELAY, _LONGEST_DELAY = 0.1, 2.0
LOST_ALONE = 3
"""How many routers must vanish while they route a job by itself before that job is to blame: one or two may
have been killed by anything."""


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

    @classmethod
    def total(cls, parts: Sequence["Outcome"]) -> "Outcome":
        """Of a chunk that was routed in parts."""
        by_model: Counter[str] = Counter()
        ended: Counter[str] = Counter()
        for part in parts:
            by_model.update(part.by_model)
            ended.update(part.ended)
        return cls(
            sum(part.published for part in parts), dict(by_model), dict(ended),
            sum(part.skipped for part in parts), sum(part.seconds for part in parts),
        )  # fmt: skip

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
    """The catalogue as clients read it from the store, without what concerns some of them alone."""
    return catalogue.model_dump_json(by_alias=True, exclude={"tenant_list"})


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
        self._redis = connect(settings)

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def publish_catalogue(self) -> None:
        """Let clients know the tasks and models of the yard, and the store its limits.

        Raises:
            YardUnavailable: Redis cannot be reached.
        """
        catalogue = self.loaded.yard.catalogue
        store.run(self._redis, store.put_catalogue(catalogue_document(catalogue)))
        store.run(self._redis, put_limits(catalogue.limits))

    def route(self, bodies: Sequence[object], submitted: float, flow: str = "") -> Outcome:
        """Decide and publish every job of a chunk that came through the flow of the tenant `flow` (empty:
        through none). Harmless when repeated.

        Raises:
            YardUnavailable: Redis was away for longer than `PATIENCE` allows.
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

    def route_one_by_one(
        self, bodies: Sequence[object], submitted: float, chunk: str, flow: str = ""
    ) -> Outcome:
        """As `route`, for a chunk with which routers were lost, under a name that stays: each job by itself,
        and noted before, so that the next router knows which it was, and goes on there. One with which
        `LOST_ALONE` were lost becomes a dead letter.

        Raises:
            YardUnavailable: as `route`.
        """
        noted, times = self._patiently(partial(dead.routed_alone, chunk))
        parts: list[Outcome] = []
        for position in range(noted, len(bodies)):
            before = times if position == noted else 0
            if before >= LOST_ALONE:
                parts.append(self._bury(bodies[position], submitted, before, flow))
                continue
            self._patiently(partial(dead.route_alone, chunk, position, before + 1))
            parts.append(self.route([bodies[position]], submitted, flow))
        self._patiently(partial(dead.all_routed, chunk))
        return Outcome.total(parts)

    def _bury(self, body: object, submitted: float, times: int, flow: str) -> Outcome:
        started = time.perf_counter()
        reason = f"{times} routers were lost while each routed this job by itself"
        refused = poisoned(body, reason, Gate(self._keys, flow))
        buried = False
        if refused.job_id is None:
            logger.error("a body without a usable id was dropped: %s", reason)
        elif isinstance(refused.error, InvalidJob):
            self._end([refused])
            buried = True
        else:
            letter = dead.Letter(
                id=refused.job_id, kind="poison", job_id=refused.job_id, batch=refused.batch,
                queue=names.ROUTE_QUEUE, reason=reason, worker=f"router@{socket.gethostname()}",
                attempts=times,
            )  # fmt: skip
            message, ttl = chunk_of_one(refused.job_id, body, submitted), self.settings.result_expires
            buried = self._patiently(partial(dead.bury, letter, refused.error, (), ttl, message))
            logger.error("%s is a dead letter: %s", refused.job_id, reason)
        ended = {refused.error.code: 1} if buried else {}
        return Outcome(0, {}, ended, int(not buried), time.perf_counter() - started)

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
        patience, waited, delay = PATIENCE * self.settings.redis_timeout, 0.0, _FIRST_DELAY
        while True:
            tried = time.monotonic()
            try:
                return store.run(self._redis, operation())
            except YardUnavailable as exc:
                waited += time.monotonic() - tried
                if waited >= patience or not exc.retryable:
                    raise
                logger.warning("%s; trying again in %.1f s", exc.message, delay)
            self._sleep(delay)
            waited += delay
            delay = min(_LONGEST_DELAY, delay * 2)
