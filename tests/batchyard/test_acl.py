"""What each user of the yard's Redis may do, and may not, asked of a real one."""

import json
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError, ResponseError
from redis.retry import Retry

from batchyard import names, queue_scripts, scripts, store
from batchyard.acl import (
    auditor,
    called,
    flower,
    operator,
    producer,
    router,
    users_file,
    worker,
    yard_users,
)
from batchyard.errors import InvalidConfig, JobCancelled
from batchyard.states import State
from batchyard.submission import Prepared
from batchyard.wire import task_message
from tests.roles import Roles, redis_version, redis_with_users

TTL = 600
FINE = redis_version() >= 7
needs_fine_rules = pytest.mark.skipif(not FINE, reason="this Redis cannot tell reading a key from writing it")


@pytest.fixture(scope="module")
def roles(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Roles]:
    folder = tmp_path_factory.mktemp("roles")
    with redis_with_users(folder, ["acme", "beta"], ["chat", "defect_detect"]) as running:
        yield running


@pytest.fixture
def op(roles: Roles) -> Iterator[redis.Redis]:
    with roles.come_as("operator") as connection:
        connection.flushall()
        yield connection


@pytest.fixture
def acme(roles: Roles, op: redis.Redis) -> Iterator[redis.Redis]:
    with roles.come_as("producer-acme") as connection:
        yield connection


def prepared(job_id: str, tenant: str, batch: str = "") -> Prepared:
    body = json.dumps({"id": job_id, "tenant": tenant, "prompt": "x"})
    return Prepared(
        job_id, body, len(body), "d", 6, tenant, batch, "chat", time.time() + 60, (), 0, None
    )  # fmt: skip


def submit(connection: redis.Redis, job_id: str, tenant: str, batch: str = "") -> None:
    assert store.run(connection, store.submit([prepared(job_id, tenant, batch)], TTL)).new == 1


def refused(connection: redis.Redis, *command: Any) -> bool:
    """Whether Redis denies this user the command; it must not fail for another reason."""
    try:
        connection.execute_command(*command)
    except NoPermissionError:
        return True
    except ResponseError as exc:
        assert "executing the script can't" in str(exc), exc
        return True
    return False


# -- a producer -------------------------------------------------------------------------------------


def test_a_producer_does_all_that_a_client_does_for_its_tenant(acme: redis.Redis, op: redis.Redis) -> None:
    op.set(names.CATALOGUE_KEY, '{"model_list": [], "task_list": []}')
    op.set(names.AUDITING_KEY, 1)
    assert store.run(acme, store.get_catalogue()) == {"model_list": [], "task_list": []}
    store.run(acme, store.put_blob("acme", "f" * 64, b"png", TTL))
    assert store.run(acme, store.missing_blobs("acme", ["f" * 64, "e" * 64])) == ["e" * 64]
    for job_id in ("acme~1", "acme~2"):
        submit(acme, job_id, "acme", "acme~b")
    with acme.pubsub(ignore_subscribe_messages=True) as channel:
        channel.subscribe(names.result_key("acme~1"))
        channel.get_message(timeout=10)
        document = store.state_document("acme~1", State.SUCCESS, {"text": "y"})
        store.run(op, store.finish([("acme~1", "acme~b", State.SUCCESS, document)], TTL))
        message = channel.get_message(timeout=10)
        assert message is not None and message["data"] == document
    assert store.run(acme, store.cancel(["acme~2"], JobCancelled("x"), TTL)) == 1
    assert store.run(acme, store.states(["acme~1", "acme~2"])) == [State.SUCCESS, State.REVOKED]
    assert store.run(acme, store.batch_status("acme~b")).done == 2
    assert store.run(acme, store.batch_jobs("acme~b", 0, 10)) == ["acme~1", "acme~2"]
    store.run(acme, store.await_completed("acme~b", "0", 1))
    assert [job for _, job in store.run(acme, store.completed("acme~b", "0", 10))] == ["acme~1", "acme~2"]
    assert [fields["id"] for _, fields in op.xrange(names.FINALS_KEY)] == ["acme~1", "acme~2"]


def test_a_full_or_crowded_yard_says_so_to_a_producer(acme: redis.Redis, op: redis.Redis) -> None:
    op.hset(names.LIMITS_KEY, mapping={"tenant:acme": 0, "model:chat": 5})
    op.hset(names.RATES_KEY, "chat", 2.5)
    congestion = store.run(acme, store.submit([prepared("acme~1", "acme")], TTL)).congestion
    assert congestion is not None and congestion.kind == "tenant"
    op.set(names.FULL_KEY, 1)
    congestion = store.run(acme, store.submit([prepared("acme~1", "acme")], TTL)).congestion
    assert congestion is not None and congestion.kind == "memory"


OTHERS = {
    "result": ("GET", names.result_key("beta~1")),
    "results": ("MGET", names.result_key("acme~1"), names.result_key("beta~1")),
    "an overwritten result": ("SET", names.result_key("beta~1"), "{}"),
    "claim": ("GET", names.claim_key("beta~1")),
    "an overwritten claim": ("SET", names.claim_key("beta~1"), "d"),
    "batch": ("HMGET", names.batch_key("beta~b"), "total"),
    "batch's jobs": ("LRANGE", names.batch_jobs_key("beta~b"), 0, -1),
    "batch's results": ("XRANGE", names.batch_done_key("beta~b"), "-", "+"),
    "image": ("GET", names.blob_key("beta", "f" * 64)),
    "image's existence": ("EXISTS", names.blob_key("beta", "f" * 64)),
    "number of jobs": ("GET", names.open_key("beta")),
    "flow": ("LPUSH", names.flow_key("route", 6, "beta", "beta~b"), "x"),
    "flow, looked at": ("LRANGE", names.flow_key("route", 6, "beta", "beta~b"), 0, -1),
    "ring": ("LPUSH", names.ring_key("route", 6, "beta"), "beta~b"),
    "result as it comes": ("SUBSCRIBE", names.result_key("beta~1")),
    "result, made up": ("PUBLISH", names.result_key("beta~1"), "{}"),
    "result, by a script": ("EVAL", "return redis.call('GET', 'celery-task-meta-' .. ARGV[1])", 0, "beta~1"),
    "result, by pcall": ("EVAL", "return redis.pcall('GET', 'celery-task-meta-beta' .. '~1')", 0),
    "default tenant's result": ("GET", names.result_key("1")),
    "tenant whose name begins alike": ("GET", names.result_key("acme2~1")),
    "tenant whose name begins with it": ("GET", names.result_key("acme:x~1")),
    "tenant's flow whose name begins with it": ("LPUSH", names.flow_key("route", 6, "acme:x", "b"), "x"),
    "tenant's image whose name begins with it": ("GET", names.blob_key("acme:x", "f" * 64)),
}


@pytest.mark.parametrize("what", OTHERS)
def test_a_producer_cannot_touch_another_tenants(what: str, acme: redis.Redis, roles: Roles) -> None:
    with roles.come_as("producer-beta") as beta:
        submit(beta, "beta~1", "beta", "beta~b")
    assert refused(acme, *OTHERS[what])


def test_a_producer_cannot_submit_or_cancel_for_another_tenant(
    acme: redis.Redis, op: redis.Redis, roles: Roles
) -> None:
    for tenant, job_id, batch in (
        ("beta", "beta~1", ""),
        ("acme", "beta~1", ""),
        ("acme", "acme~1", "beta~b"),
    ):
        words = ("EVAL", scripts.SUBMIT, 0, TTL, 0, tenant, batch, 6, "{}", 1, job_id, "d", "", "")
        assert refused(acme, *words), (tenant, job_id, batch)
    submit(op, "beta~2", "beta")
    assert refused(acme, "EVAL", scripts.CANCEL, 0, TTL, 1, "beta~2", "{}")
    assert store.run(op, store.states(["beta~2"])) == [State.QUEUED]


def test_a_producer_cannot_take_or_read_jobs_not_even_its_own(acme: redis.Redis) -> None:
    submit(acme, "acme~1", "acme")
    flow = names.flow_key("route", 6, "acme", "")
    for key in (
        flow,
        "route",
        names.priority_queue("route", 6),
        names.model_queue("chat"),
        names.UNACKED_KEY,
    ):
        for command in ("LPOP", "RPOP", "HGETALL", "DEL", "DUMP", "COPY"):
            assert refused(acme, command, key, *(["x"] if command == "COPY" else [])), (command, key)
    for key in ("route", names.model_queue("chat")):
        for command in (("LPUSH", key, "{}"), ("LRANGE", key, 0, -1), ("EXISTS", key)):
            assert refused(acme, *command), command
    pop = ("EVAL", queue_scripts.POP, 3, f"{names.UNACKED_KEY}:index", names.UNACKED_KEY, "route")
    assert refused(acme, *pop, names.RESULT_KEY_PREFIX, "route", 6, 1)
    assert refused(acme, "HGET", names.DEAD_KEY, "x")


ADMIN = [
    "FLUSHALL", "FLUSHDB", "KEYS *", "SCAN 0", "RANDOMKEY", "DBSIZE", "CONFIG GET *",
    "CONFIG SET maxmemory 1", "SCRIPT FLUSH", "SCRIPT KILL", "SHUTDOWN", "ACL LIST", "ACL SETUSER x",
    "CLIENT LIST", "CLIENT KILL ID 1", "CLIENT PAUSE 1", "MONITOR", "SLOWLOG GET", "INFO", "SWAPDB 0 1",
    "SAVE", "BGSAVE",
    "REPLICAOF NO ONE", "MODULE LIST", "SORT x", "MIGRATE h 1 k 0 1", "RESTORE k 0 x", "PUBSUB CHANNELS",
    "LATENCY RESET", "FAILOVER", "MOVE k 1",
]  # fmt: skip


@pytest.mark.parametrize(
    "user", ["producer-acme", "worker", "worker-chat", "router", "flower", "auditor", "health"]
)
def test_nobody_but_the_operator_administers(user: str, roles: Roles) -> None:
    with (
        roles.come_as(user)
        if user != "health"
        else redis.Redis(port=roles.port, username="health", password="none") as connection
    ):
        for command in ADMIN:
            if (user, command) != ("router", "INFO"):  # its janitor reads how full the memory is
                assert refused(connection, *command.split()), command
        assert refused(connection, "EVAL", "return redis.call('FLUSHALL')", 0)
        assert refused(connection, "PSUBSCRIBE", "*")


@needs_fine_rules
@pytest.mark.parametrize(
    "command",
    [
        ("SET", names.CATALOGUE_KEY, "{}"),
        ("HINCRBY", names.LIMITS_KEY, "tenant:acme", 1000),
        ("SET", names.FULL_KEY, 1),
        ("LRANGE", names.ring_key("route", 6), 0, -1),
        ("LTRIM", names.ring_key("route", 6), 1, 0),
        ("SET", names.ring_key("route", 6), "x"),
        ("EXPIRE", names.ring_key("route", 6), 0),
        ("SET", names.WAITING_KEY, "x"),
        ("HMGET", names.WAITING_KEY, "chat"),
        ("SET", names.DEADLINES_KEY, "x"),
        ("EXPIRE", names.DEADLINES_KEY, 0),
        ("XRANGE", names.FINALS_KEY, "-", "+"),
    ],
)
def test_a_producer_does_with_what_it_shares_only_what_it_must(
    command: tuple[Any, ...], acme: redis.Redis
) -> None:
    assert refused(acme, *command)


# -- a worker ---------------------------------------------------------------------------------------


def pop(connection: redis.Redis, queue: str) -> Any:
    keys = (f"{names.UNACKED_KEY}:index", names.UNACKED_KEY, names.priority_queue(queue, 6))
    return connection.eval(queue_scripts.POP, 3, *keys, names.RESULT_KEY_PREFIX, queue, 6, 1)  # type: ignore[no-untyped-call]


def put(connection: redis.Redis, job_id: str, model: str, tenant: str = "acme") -> None:
    queue = names.model_queue(model)
    message = task_message(names.RUN_TASK, job_id, {}, queue, 6)
    document = store.state_document(job_id, State.ROUTED)
    store.run(
        connection, store.publish([store.Publication(job_id, queue, 6, tenant, "", message, document)], TTL)
    )


@pytest.mark.parametrize("user", ["worker", "worker-chat"])
def test_a_worker_takes_runs_and_ends_the_jobs_of_every_tenant(
    user: str, op: redis.Redis, roles: Roles
) -> None:
    op.set(names.AUDITING_KEY, 1)
    op.set(names.blob_key("beta", "f" * 64), "png")
    with roles.come_as(user) as connection:
        for tenant in ("acme", "beta"):
            submit(op, f"{tenant}~1", tenant, f"{tenant}~b")
            put(op, f"{tenant}~1", "chat", tenant)
        for _ in range(2):
            queue, message, tenant = pop(connection, names.model_queue("chat"))
            assert queue == names.model_queue("chat")
            job_id = f"{tenant}~1"
            assert job_id in message
            document = store.state_document(job_id, State.SUCCESS, {})
            store.run(connection, store.finish([(job_id, f"{tenant}~b", State.SUCCESS, document)], TTL))
        assert store.run(connection, store.get_blob("beta", "f" * 64))
    assert op.get(names.open_key("beta")) == "0"
    assert store.run(op, store.batch_status("acme~b")).success == 1


def test_a_worker_gives_back_what_another_one_had(op: redis.Redis, roles: Roles) -> None:
    for model in ("chat", "defect_detect"):
        put(op, f"acme~{model}", model)
        assert pop(op, names.model_queue(model))
    submit(op, "acme~r", "acme")
    assert pop(op, "route")
    with roles.come_as("worker-chat") as connection:
        keys = (f"{names.UNACKED_KEY}:index", names.UNACKED_KEY)
        given = connection.eval(queue_scripts.RESTORE, 2, *keys, -1, 0, names.PRIORITY_SEPARATOR, "")  # type: ignore[no-untyped-call]
        assert given == [3]
    assert pop(op, "route") and pop(op, names.model_queue("defect_detect"))


def test_a_worker_cannot_act_for_clients_or_other_roles(op: redis.Redis, roles: Roles) -> None:
    with roles.come_as("worker-chat") as connection:
        assert refused(connection, "LRANGE", names.batch_jobs_key("acme~b"), 0, -1)
        assert refused(connection, "SET", names.CATALOGUE_KEY, "{}")
        assert refused(connection, "HSET", names.LIMITS_KEY, "tenant:acme", 1)
        words = ("EVAL", scripts.SUBMIT, 0, TTL, 0, "acme", "acme~b", 6, "{}", 1, "acme~1", "d", "", "")
        assert refused(connection, *words)


@needs_fine_rules
def test_a_worker_cannot_take_another_models_jobs_nor_write_claims_and_images(
    op: redis.Redis, roles: Roles
) -> None:
    put(op, "acme~1", "defect_detect")
    with roles.come_as("worker-chat") as connection:
        with pytest.raises((NoPermissionError, ResponseError), match=r"can't access|no permissions"):
            pop(connection, names.model_queue("defect_detect"))
        assert refused(connection, "RPOP", names.flow_key("model.defect_detect", 6, "acme", ""))
        assert refused(connection, "LRANGE", "route", 0, -1)
        assert refused(connection, "SET", names.claim_key("acme~1"), "d")
        assert refused(connection, "SET", names.blob_key("acme", "f" * 64), "x")
    assert pop(op, names.model_queue("defect_detect"))


# -- the others -------------------------------------------------------------------------------------


def test_flower_watches_and_commands_nobody(op: redis.Redis, roles: Roles) -> None:
    with roles.come_as("flower") as connection:
        connection.llen("route")
        for command in (
            ("PUBLISH", "/0.celery.pidbox", "{}"),
            ("PSUBSCRIBE", "/0.celery.pidbox"),
            ("GET", names.result_key("acme~1")),
            ("LRANGE", "route", 0, -1),
            ("RPOP", names.model_queue("chat")),
            ("HGETALL", names.UNACKED_KEY),
        ):
            assert refused(connection, *command), command


@pytest.mark.parametrize("user", ["router", "worker", "worker-chat"])
def test_who_asks_others_how_they_are_waits_for_answers(user: str, op: redis.Redis, roles: Roles) -> None:
    queue = f"{uuid.uuid4()}.reply.celery.pidbox"
    with roles.come_as(user) as connection:
        keys = (f"{names.UNACKED_KEY}:index", names.UNACKED_KEY, queue, names.priority_queue(queue, 3))
        assert (
            connection.eval(queue_scripts.POP, 4, *keys, names.RESULT_KEY_PREFIX, queue, 0, 0, queue, 3, 0)
            is None
        )  # type: ignore[no-untyped-call]
        assert connection.blpop([names.bell_key(queue)], 0.01) is None


def test_the_auditor_reads_what_has_ended_and_no_job(op: redis.Redis, roles: Roles) -> None:
    op.xadd(names.FINALS_KEY, {"id": "acme~1"})
    with roles.come_as("auditor") as connection:
        connection.xgroup_create(names.FINALS_KEY, "audit", "0")
        ((_, entries),) = connection.xreadgroup("audit", "me", {names.FINALS_KEY: ">"})
        connection.mget(names.result_key(entries[0][1]["id"]))
        connection.xack(names.FINALS_KEY, "audit", entries[0][0])
        connection.xdel(names.FINALS_KEY, entries[0][0])
        for key in ("route", names.model_queue("chat")):
            assert refused(connection, "RPOP", key)
        assert refused(connection, "GET", names.claim_key("acme~1"))
        assert refused(connection, "GET", names.blob_key("acme", "f" * 64))
        assert not FINE or refused(connection, "SET", names.result_key("acme~1"), "{}")


def test_without_a_login_nothing_but_a_ping(roles: Roles) -> None:
    for login in ({}, {"username": "producer-acme", "password": ""}, {"password": "guess"}):
        stranger = redis.Redis(port=roles.port, retry=Retry(NoBackoff(), 0), **login)
        with stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()
    with redis.Redis(port=roles.port, username="health", password="none") as probe:
        assert probe.ping()
        assert refused(probe, "GET", names.result_key("acme~1"))


# -- the rules --------------------------------------------------------------------------------------


def test_every_key_that_a_script_names_is_in_somebodys_rules() -> None:
    prefixes = set()
    there = {**vars(scripts), **vars(queue_scripts)}
    for text in (value for name, value in there.items() if name.isupper() and isinstance(value, str)):
        prefixes |= {part.split("'")[0] for part in text.split("'batchyard:")[1:]}
    assert len(prefixes) > 10
    rights = (router(), worker(), producer("acme"))
    patterns = [pattern for one in rights for pattern in (*one.keys, *one.reads, *one.writes)]
    for prefix in prefixes:
        assert any(pattern.startswith(f"batchyard:{prefix}") for pattern in patterns), prefix


def test_a_producer_runs_what_its_scripts_run_and_little_more() -> None:
    allowed = {rule.removeprefix("+") for rule in producer("acme").commands}
    allowed |= {rule.removeprefix("+") for one in producer("acme").shared for rule in one.commands}
    assert called(scripts.SUBMIT) <= allowed
    assert not allowed & {"rpop", "lpop", "del", "unlink", "rename", "hgetall", "zrange", "config", "scan"}


def test_the_file_shows_no_password_and_an_old_redis_gets_no_modes() -> None:
    users = {"acme": (producer("acme"), "a-secret-password"), "op": (operator(), "another-secret")}
    new, old = users_file(users), users_file(users, 6)
    assert "%R~" in new and "(~" in new
    assert "%" not in old and "(" not in old
    assert "secret" not in new + old
    assert all(line.startswith("user ") for line in new.splitlines())


def test_an_audit_and_a_flower_cannot_run_arbitrary_data_commands() -> None:
    for rights in (flower(), auditor()):
        assert not any(rule.startswith("+@") for rule in rights.commands)


@pytest.mark.parametrize("tenant", ["ac me", "*", "acme~x", "[a]", "", "a\nuser x"])
def test_what_would_be_a_pattern_is_no_name(tenant: str) -> None:
    with pytest.raises(InvalidConfig, match="no name"):
        yard_users([tenant])
    with pytest.raises(InvalidConfig, match="no name"):
        yard_users(["acme"], [tenant])


def test_the_default_tenant_has_no_user_beside_others() -> None:
    assert "producer-default" in yard_users(["default"])
    with pytest.raises(InvalidConfig, match="read every other tenant"):
        yard_users(["default", "acme"])
