"""docker-compose.yml: valid by the Compose specification, and meant the way docs/containers.md says."""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from batchyard.acl import yard_users
from workers.__main__ import parse_arguments

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    return data


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = compose["services"]
    return found


def workers_of(services: dict[str, Any], profile: str) -> dict[str, Any]:
    return {name: service for name, service in services.items() if profile in service.get("profiles", [])}


def worker_arguments(service: dict[str, Any]) -> list[str]:
    assert service["command"][:3] == ["python", "-m", "workers"]
    return list(service["command"][3:])


def secrets_of(service: dict[str, Any]) -> dict[str, str]:
    """The secrets of a service: under which name each is mounted, and which it is."""
    given = [
        one if isinstance(one, dict) else {"source": one, "target": one} for one in service.get("secrets", [])
    ]
    return {one["target"]: one["source"] for one in given}


def seconds(duration: str) -> int:
    return int(duration[:-1]) * {"s": 1, "m": 60}[duration[-1]]


def test_file_holds_to_the_compose_specification(compose: dict[str, Any]) -> None:
    # The package carries a copy of the schema of the Compose specification.
    text = (files("check_jsonschema") / "builtin_schemas/vendor/compose-spec.json").read_text(
        encoding="utf-8"
    )
    schema = json.loads(text)
    validator = jsonschema.validators.validator_for(schema)(schema)
    assert [f"{error.json_path}: {error.message}" for error in validator.iter_errors(compose)] == []
    broken = compose | {"services": {"redis": {"image": "redis", "healthcheck": {"tset": "true"}}}}
    assert not validator.is_valid(broken)


def test_redis_is_not_published_and_loses_nothing_on_purpose(services: dict[str, Any]) -> None:
    redis = services["redis"]
    assert "ports" not in redis
    assert redis["networks"] == ["yard"]
    assert any(volume.endswith(":/data") for volume in redis["volumes"])
    assert ":" in redis["image"] and not redis["image"].endswith(":latest")


def test_the_network_of_redis_has_no_way_out(compose: dict[str, Any]) -> None:
    assert compose["networks"]["yard"]["internal"] is True


def test_only_workers_of_endpoints_have_a_way_out_and_only_they_have_their_key(
    services: dict[str, Any],
) -> None:
    text = (ROOT / "configs/models.yaml").read_text(encoding="utf-8")
    lines = [line.removeprefix("#") for line in text.splitlines() if line.startswith("#  ")]
    shown = {model["model_name"]: model for model in yaml.safe_load("\n".join(lines))}
    cloud = workers_of(services, "cloud")
    assert cloud
    for service in cloud.values():
        entry = shown[parse_arguments(worker_arguments(service)).model]
        assert entry["engine"] == "openai"
        assert f"{entry['api_key'].removeprefix('os.environ/')}_FILE" in service["environment"]
        assert set(service["networks"]) == {"yard", "out"}
    for name in services.keys() - cloud.keys():
        assert "out" not in services[name]["networks"], name
        assert "example_api_key" not in secrets_of(services[name]).values(), name


def test_only_flower_is_published_and_only_on_loopback(services: dict[str, Any]) -> None:
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert published == {"flower": ["127.0.0.1:5555:5555"]}


def test_every_service_is_checked_restarted_and_hardened(services: dict[str, Any]) -> None:
    for name, service in services.items():
        if name == "client":  # which runs one command and ends
            assert service["healthcheck"] == {"disable": True} and service["restart"] == "no"
        else:
            assert service["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}, name
            assert service["restart"] == "unless-stopped", name
        assert service["init"] is True and service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["tmpfs"], name


def test_health_check_of_a_worker_asks_for_that_worker(services: dict[str, Any]) -> None:
    for profile in ("cpu", "gpu", "cloud"):
        for service in workers_of(services, profile).values():
            arguments = parse_arguments(worker_arguments(service))
            name = arguments.name or arguments.model
            assert service["healthcheck"]["test"] == ["CMD", "python", "docker/healthcheck.py", name]


def test_workers_that_may_share_a_card_share_the_lock_it_is_loaded_under(services: dict[str, Any]) -> None:
    recipe = (ROOT / "docker/worker-cuda.Dockerfile").read_text(encoding="utf-8")
    folder = "/var/lib/batchyard/locks"
    assert (
        f"BATCHYARD_LOCKS={folder}" in recipe and f"install -d -o batchyard -g batchyard {folder}" in recipe
    )
    for service in workers_of(services, "gpu").values():
        assert f"gpu-locks:{folder}" in service["volumes"]


def test_what_is_on_record_is_kept_on_a_volume_that_the_auditor_may_write(
    services: dict[str, Any], compose: dict[str, Any]
) -> None:
    recipe = (ROOT / services["auditor"]["build"]["dockerfile"]).read_text(encoding="utf-8")
    folder = "/var/lib/batchyard/audit"
    assert services["auditor"]["volumes"] == [f"audit-data:{folder}"] and "audit-data" in compose["volumes"]
    assert f"BATCHYARD_AUDIT_URL=sqlite:///{folder}/audit.db" in recipe
    assert f"-o batchyard -g batchyard {folder}" in recipe
    assert "requirements.py router audit audit-postgresql" in recipe


def test_no_password_stands_in_the_file(compose: dict[str, Any], services: dict[str, Any]) -> None:
    for secret in compose["secrets"].values():
        assert set(secret) == {"file"}
    for name, service in services.items():
        for variable, value in service.get("environment", {}).items():
            assert variable.endswith("_FILE") and value.startswith("/run/secrets/"), (name, variable)
            assert Path(value).name in secrets_of(service), (name, variable)
    assert "redis://" not in (ROOT / "docker-compose.yml").read_text(encoding="utf-8")


def test_each_gpu_worker_has_one_gpu_of_its_own(services: dict[str, Any]) -> None:
    taken = []
    for name, service in workers_of(services, "gpu").items():
        (device,) = service["deploy"]["resources"]["reservations"]["devices"]
        assert device["driver"] == "nvidia" and device["capabilities"] == ["gpu"], name
        assert len(device["device_ids"]) == 1, name
        assert parse_arguments(worker_arguments(service)).gpu == "0", name
        taken += device["device_ids"]
    assert len(taken) >= 2
    assert len(set(taken)) == len(taken)


def test_cpu_workers_ask_for_no_gpu(services: dict[str, Any]) -> None:
    found = workers_of(services, "cpu")
    assert found
    for name, service in found.items():
        assert "deploy" not in service, name
        assert parse_arguments(worker_arguments(service)).gpu == "none", name


def test_both_profiles_serve_every_model_of_the_catalogue(services: dict[str, Any]) -> None:
    catalogue = yaml.safe_load((ROOT / "configs/models.yaml").read_text(encoding="utf-8"))
    names = {model["model_name"] for model in catalogue["model_list"]}
    for profile in ("cpu", "gpu"):
        found = workers_of(services, profile).values()
        assert {parse_arguments(worker_arguments(service)).model for service in found} == names


def test_a_worker_is_given_more_time_than_its_drain_takes(services: dict[str, Any]) -> None:
    for profile in ("cpu", "gpu", "cloud"):
        for service in workers_of(services, profile).values():
            drain = parse_arguments(worker_arguments(service)).drain_seconds
            assert seconds(service["stop_grace_period"]) >= drain + 10


def test_mounted_paths_exist_and_cannot_be_written(services: dict[str, Any], compose: dict[str, Any]) -> None:
    for name, service in services.items():
        for volume in service.get("volumes", []):
            if isinstance(volume, dict):
                assert volume["read_only"] is True, name
                assert (ROOT / volume["source"]).is_dir(), name
    for config in compose["configs"].values():
        assert (ROOT / config["file"]).is_file()
    for service in services.values():
        if "build" in service:
            assert (ROOT / service["build"]["dockerfile"]).is_file()


def test_secrets_of_services_are_declared(services: dict[str, Any], compose: dict[str, Any]) -> None:
    for name, service in services.items():
        assert set(secrets_of(service).values()) <= set(compose["secrets"]), name


def test_each_role_comes_to_redis_as_its_own_user(services: dict[str, Any], compose: dict[str, Any]) -> None:
    users = {
        "router": "router",
        "flower": "flower",
        "auditor": "auditor",
        "client": "producer-default",
        "worker-cloud-chat": "worker-cloud_chat",
    }
    for name, service in services.items():
        user = users.get(name, "worker")
        if name == "redis":
            assert set(secrets_of(service)) == {"redis_users"}  # no login at all
        else:
            assert secrets_of(service)["redis_url"] == f"redis_url_{user}", name
    files = {secret["file"] for name, secret in compose["secrets"].items() if name.startswith("redis_url_")}
    made = {f"secrets/redis_url_{user}" for user in yard_users(["default"], ["cloud_chat"])}
    assert files < made
