"""Which GPU a worker takes; the machine that runs this test may have none."""

from dataclasses import replace
from pathlib import Path

import pytest

from batchyard.catalogue import LlamaEntry
from batchyard.errors import InvalidConfig
from workers.gpu import (
    Gpu,
    Held,
    choose_gpus,
    gpus_of,
    held_by,
    list_gpus,
    pci_gpus,
    pin_environment,
    sees_host_pids,
)

P40 = [
    Gpu(0, "GPU-aaaa-1", "Tesla P40", 24 << 30, 3 << 30, (6, 1)),
    Gpu(1, "GPU-bbbb-2", "Tesla P40", 24 << 30, 20 << 30, (6, 1)),
]


def test_auto_takes_the_one_with_most_free_memory_or_the_cpu() -> None:
    assert choose_gpus(P40, "auto") == (P40[1],)
    assert choose_gpus([], "auto") == ()
    assert choose_gpus(P40, "none") == ()


@pytest.mark.parametrize("wanted", ["0", "GPU-aaaa-1", "GPU-aaaa"])
def test_a_gpu_is_named_by_index_or_uuid(wanted: str) -> None:
    assert choose_gpus(P40, wanted) == (P40[0],)


def test_several_gpus_are_taken_in_the_order_they_are_named() -> None:
    assert choose_gpus(P40, "1, GPU-aaaa") == (P40[1], P40[0])
    assert pin_environment(choose_gpus(P40, "1,0"))["CUDA_VISIBLE_DEVICES"] == "GPU-bbbb-2,GPU-aaaa-1"


@pytest.mark.parametrize("wanted", ["2", "GPU-", "GPU-cccc", "0,0", "0,", ""])
def test_a_name_that_fits_none_or_several_is_refused_with_what_there_is(wanted: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        choose_gpus(P40, wanted)
    assert caught.value.code == "unknown_gpu"
    assert "GPU-bbbb-2 (Tesla P40)" in str(caught.value)


def test_a_model_that_uses_no_gpu_gets_none_and_is_given_none_by_name() -> None:
    entry = LlamaEntry(model_name="m", model_path="m.gguf", n_gpu_layers=0)
    assert gpus_of(entry, P40, "auto") == gpus_of(entry, P40, "none") == ()
    with pytest.raises(InvalidConfig, match="'m' uses no GPU, and one is named: '7'") as caught:
        gpus_of(entry, P40, "7")
    assert (caught.value.code, caught.value.field) == ("unknown_gpu", "--gpu")
    with_layers = entry.model_copy(update={"n_gpu_layers": None})
    assert gpus_of(with_layers, P40, "0") == (P40[0],)


def test_the_pin_is_by_uuid_in_pci_order_and_hides_all_gpus_from_a_cpu_worker() -> None:
    assert pin_environment([P40[1]]) == {
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": "GPU-bbbb-2",
    }
    assert pin_environment([])["CUDA_VISIBLE_DEVICES"] == ""


def test_listing_needs_no_driver() -> None:
    assert all(gpu.uuid.startswith("GPU-") for gpu in list_gpus())


def test_the_driver_branch_is_read_from_its_version() -> None:
    assert replace(P40[0], driver="580.95.05").driver_branch == 580
    assert P40[0].driver_branch is None


def test_gpus_without_a_driver_are_found_on_the_bus(tmp_path: Path) -> None:
    devices = {
        "0000:02:00.0": ("0x10de", "0x030200"),  # a Tesla: 3D controller
        "0000:03:00.0": ("0x10de", "0x040300"),  # the sound of a graphics card
        "0000:00:02.0": ("0x8086", "0x030000"),
    }
    for name, (vendor, kind) in devices.items():
        folder = tmp_path / "sys/bus/pci/devices" / name
        folder.mkdir(parents=True)
        (folder / "vendor").write_text(f"{vendor}\n")
        (folder / "class").write_text(f"{kind}\n")
    assert pci_gpus(tmp_path) == ["0000:02:00.0"]
    assert pci_gpus(tmp_path / "nowhere") == []


def test_what_nvml_lists_says_nothing_of_a_process_that_it_does_not_list() -> None:
    assert held_by(7, {7: 5, 8: 6}) == Held(5)
    assert held_by(7, {}) == Held()
    assert held_by(7, {7: None}) == held_by(7, {7: 0}) == Held()
    assert held_by(7, {8: 6}, free=3) == Held(None, others_only=True, free=3)


def test_process_ids_are_the_host_s_in_the_first_namespace_alone(tmp_path: Path) -> None:
    link = tmp_path / "proc/self/ns/pid"
    assert not sees_host_pids(tmp_path)
    link.parent.mkdir(parents=True)
    link.symlink_to("pid:[4026531836]")
    assert sees_host_pids(tmp_path)
    link.unlink()
    link.symlink_to("pid:[4026532444]")
    assert not sees_host_pids(tmp_path)
