"""The Celery app, built in one place and passed to whoever needs it."""

from typing import Any

from celery import Celery

from batchyard.broker import Broker
from batchyard.connections import backend_settings, broker_options
from batchyard.names import PRIORITY_SEPARATOR, PRIORITY_STEPS, UNACKED_KEY
from batchyard.plain_json import register_plain_json
from batchyard.settings import Settings


def make_app(
    settings: Settings, name: str = "batchyard", *, interactive_extra: int = 0, **conf: Any
) -> Celery:
    """A Celery app for one of the yard's roles.

    Sets what every role must agree on (transport, JSON, priorities, late acknowledgement, leases);
    `interactive_extra` is the transport's, `conf` adds a role's own settings. Nothing is connected yet.
    """
    register_plain_json()
    app = Celery(name, set_as_current=False, amqp=Broker)
    app.conf.update(
        broker_url=settings.url,
        broker_transport="batchyard.transport:Transport",
        result_backend=f"batchyard.backend:Backend+{settings.url}",
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "visibility_timeout": settings.lease_seconds,
            "priority_steps": list(PRIORITY_STEPS),
            "sep": PRIORITY_SEPARATOR,
            "queue_order_strategy": "round_robin",
            "unacked_key": UNACKED_KEY,
            "unacked_index_key": f"{UNACKED_KEY}:index",
            "unacked_mutex_key": f"{UNACKED_KEY}:mutex",
            "unacked_restore_interval": settings.lease_seconds / 4,
            "unacked_restore_throttle": 1,
            "unacked_restore_limit": 1000,
            "unacked_mutex_expire": max(1, int(settings.lease_seconds)),
            **broker_options(settings.redis_timeout),
            "interactive_extra": interactive_extra,
        },
        result_backend_transport_options={"retry_policy": {"timeout": 2.0}},
        **backend_settings(settings.redis_timeout),
        task_serializer="json",
        result_serializer="json",
        accept_content=["json"],
        result_expires=settings.result_expires,
        task_acks_late=True,
        task_acks_on_failure=True,
        task_acks_on_timeout=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        worker_consumer="batchyard.consumer:Consumer",
        worker_enable_prefetch_count_reduction=False,
        task_send_sent_event=True,
        worker_send_task_events=True,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_hijack_root_logger=False,
        worker_disable_rate_limits=True,
        task_create_missing_queues=True,
        enable_utc=True,
        timezone="UTC",
    )
    app.conf.update(conf)
    return app
