"""Tenants: how they are called, and which names of the yard stand behind those that their clients say.

The client of the tenant acme says J1; everywhere inside the yard that is acme~J1. The default tenant's names
have no prefix: its clients (a gateway, an operator) see everybody's full names. Pure: knows no Redis.
"""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from batchyard.errors import InvalidJob, shown
from batchyard.names import DEFAULT_TENANT, TENANT_SEPARATOR, full_name

TenantName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
"""What tenants may be called."""

WRONG_TENANT = "wrong_tenant"
"""The code of an error about a job, id or batch that is another tenant's."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """Whom a client works for."""

    name: str = DEFAULT_TENANT

    def full(self, name: str) -> str:
        """The yard's name for the id or batch that a caller says."""
        return full_name(self.name, name)

    def short(self, full: str) -> str:
        """What a caller is told for the yard's name of an id or batch."""
        return full if self.name == DEFAULT_TENANT else full.removeprefix(self.name + TENANT_SEPARATOR)


def owned(tenant: str, field: str, name: str) -> str:
    """The full name of the id or batch (`field`) that a job of `tenant` gives as `name`.

    Raises:
        InvalidJob: code `wrong_tenant`; the name has the prefix of another tenant.
    """
    prefix, separator, rest = name.partition(TENANT_SEPARATOR)
    if separator and tenant == prefix == DEFAULT_TENANT:
        raise InvalidJob(
            f"names of the tenant {DEFAULT_TENANT} have no prefix, got {shown(name)}",
            code=WRONG_TENANT,
            field=field,
            remedy=f"write {shown(rest)}",
        )
    if separator and prefix != tenant:
        raise InvalidJob(
            f"{shown(name)} is the tenant {prefix}'s, and the job is {tenant}'s",
            code=WRONG_TENANT,
            field=field,
            remedy=f"leave the prefix out, or give the job the tenant {prefix}",
        )
    return full_name(tenant, name)
