"""Two tenants at the whole yard: the same names, each its own answers; and a pile that is cancelled."""

import pytest

from batchyard.client import Client
from batchyard.states import State
from tests.yard.conftest import RunningYard

pytestmark = pytest.mark.yard


def test_the_same_names_of_two_tenants_get_each_its_own_answer(yard: RunningYard) -> None:
    reports = {
        "acme": "Board A17: solder bridge found at U12 between pin 3 and pin 4.",
        "beta": "Board A18: R7 is missing.",
    }
    clients = {tenant: Client(yard.settings.model_copy(update={"tenant": tenant})) for tenant in reports}
    with Client(yard.settings) as other:
        ids = {tenant: other.submit(prompt=text, task="defect_detect") for tenant, text in reports.items()}
        right = {tenant: other.result(job_id, timeout=60).value().parsed for tenant, job_id in ids.items()}
    assert right["acme"] != right["beta"]
    try:
        for tenant, client in clients.items():
            jobs = ({"id": f"J{n}", "prompt": reports[tenant], "task": "defect_detect"} for n in range(5))
            client.submit_many(jobs, batch="B")
        for tenant, client in clients.items():
            results = {result.job_id: result.value() for result in client.results("B", timeout=60)}
            assert set(results) == {f"J{n}" for n in range(5)}
            for result in results.values():
                assert result.parsed == right[tenant]
            assert client.result("J0", timeout=0).parsed == results["J0"].parsed
    finally:
        for client in clients.values():
            client.close()


def test_a_cancelled_pile_ends_wherever_its_jobs_are_and_the_next_job_is_served(client: Client) -> None:
    count = 3000
    client.submit_many(({"prompt": f"Board {n}: R{n} is missing."} for n in range(count)), batch="pile")
    cancelled = client.cancel_batch("pile")
    results = list(client.results("pile", timeout=60))
    states = [result.state for result in results]
    assert len({result.job_id for result in results}) == len(results) == count
    assert states.count(State.REVOKED) == cancelled > 0
    assert states.count(State.SUCCESS) == count - cancelled
    errors = [result.error for result in results if result.state is State.REVOKED]
    assert {error.code for error in errors if error} == {"cancelled"}
    assert client.result(client.submit(prompt="hello, good morning"), timeout=60).ok
