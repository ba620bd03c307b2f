"""Which bodies of a chunk may come in: those of its flow's tenant, signed where they must be.

A flow is a key in Redis that one tenant's producers may write; so a chunk's own word on whose jobs it brings
is not taken. Pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from batchyard.errors import InvalidJob, shown
from batchyard.job import Job
from batchyard.names import DEFAULT_TENANT
from batchyard.signing import NO_KEYS, Keys
from batchyard.tenant import WRONG_TENANT, owned


class ForeignJob(InvalidJob):
    """A job of another tenant than its chunk's. It ends nothing: the id belongs to somebody else."""

    code = WRONG_TENANT


@dataclass(frozen=True, slots=True)
class Gate:
    """`flow` is the tenant of the flow through which the chunk came, empty where it came through none (put
    into kombu's list by the yard itself, or by an operator).
    """

    keys: Keys = NO_KEYS
    flow: str = ""

    def admit(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The body without its signature.

        Raises:
            ForeignJob: its tenant is not the flow's.
            InvalidJob: code `bad_signature`.
        """
        tenant = body.get("tenant", DEFAULT_TENANT)
        if self.flow and tenant != self.flow:
            raise ForeignJob(
                f"{shown(tenant)}, in a chunk of {shown(self.flow)}",
                field="tenant",
                remedy=f"submit it through a client of its tenant, or as one of {shown(self.flow)}",
            )
        return self.keys.check(body, str(tenant))


def check_tenant(job: Job) -> None:
    """Refuse a job whose id or batch is not its tenant's.

    Raises:
        InvalidJob: code `wrong_tenant`.
    """
    for field, name in (("id", job.id), ("batch", job.batch)):
        if name is not None and owned(job.tenant, field, name) != name:
            raise InvalidJob(
                f"{shown(name)} lacks the prefix of the tenant {job.tenant}",
                code=WRONG_TENANT,
                field=field,
                remedy="submit through the client, which puts it there",
            )
