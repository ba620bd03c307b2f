"""Whose jobs come in through whose flow, and with which signature."""

import json

import pytest

from batchyard.errors import InvalidJob
from batchyard.signing import Keys, signed
from router.gate import ForeignJob, Gate

KEY, OTHER = bytes(32), bytes([1]) * 32
BODY = {"prompt": "板 K3", "tenant": "acme", "id": "acme~J1", "batch": "acme~B", "sampling": {"top_p": 0.9}}


def with_signature(body, key=KEY):
    return json.loads(signed(json.dumps(body), key))


@pytest.mark.parametrize("flow", ["", "acme"])
def test_a_tenants_own_job_comes_in_as_it_is(flow):
    assert Gate(flow=flow).admit(BODY) == BODY
    assert Gate(flow="default" if flow else "").admit({"id": "J1", "prompt": "x"}) == {
        "id": "J1",
        "prompt": "x",
    }


@pytest.mark.parametrize(
    "flow, tenant", [("beta", "acme"), ("default", "acme"), ("acme", "beta"), ("acme", None)]
)
def test_nobody_brings_jobs_of_somebody_else(flow, tenant):
    with pytest.raises(ForeignJob) as caught:
        Gate(flow=flow).admit(BODY | {"tenant": tenant})
    assert caught.value.field == "tenant"


def test_a_job_without_the_tenant_field_is_the_default_tenants():
    with pytest.raises(ForeignJob):
        Gate(flow="acme").admit({"id": "acme~J1", "prompt": "x"})


def test_a_signed_job_comes_in_without_its_signature():
    gate = Gate(Keys({"acme": [OTHER, KEY]}), "acme")
    assert gate.admit(with_signature(BODY)) == BODY
    assert gate.admit(with_signature(BODY, OTHER)) == BODY


@pytest.mark.parametrize(
    "change",
    [{"prompt": "板 K4"}, {"id": "acme~J2"}, {"batch": "acme~C"}, {"deadline": 2e9}, {"signature": "0" * 64}],
)
def test_whatever_is_changed_breaks_the_signature(change):
    with pytest.raises(InvalidJob) as caught:
        Gate(Keys({"acme": [KEY]})).admit(with_signature(BODY) | change)
    assert (caught.value.code, caught.value.field) == ("bad_signature", "signature")


@pytest.mark.parametrize("body", [BODY, BODY | {"signature": 5}, BODY | {"signature": "é" * 64}])
def test_an_unsigned_job_of_a_tenant_with_a_key_is_refused(body):
    with pytest.raises(InvalidJob, match="no signature"):
        Gate(Keys({"acme": [KEY]})).admit(body)


def test_tenants_that_are_not_named_need_none_unless_the_star_says_so():
    assert Gate(Keys({"beta": [KEY]})).admit(with_signature(BODY)) == BODY
    with pytest.raises(InvalidJob, match="no key"):
        Gate(Keys({"*": []})).admit(with_signature(BODY))
    assert Gate(Keys({"*": [KEY]})).admit(with_signature(BODY)) == BODY
