"""Which GPU a worker takes; the machine that runs this test may have none."""

import pytest

from batchyard.errors import InvalidConfig
from workers.gpu import Gpu, choose_gpu, list_gpus, pin_environment

P40 = [
    Gpu(0, "GPU-aaaa-1", "Tesla P40", 24 << 30, 3 << 30, (6, 1)),
    Gpu(1, "GPU-bbbb-2", "Tesla P40", 24 << 30, 20 << 30, (6, 1)),
]


def test_auto_takes_the_one_with_most_free_memory_or_the_cpu() -> None:
    assert choose_gpu(P40, "auto") is P40[1]
    assert choose_gpu([], "auto") is None
    assert choose_gpu(P40, "none") is None


@pytest.mark.parametrize("wanted", ["0", "GPU-aaaa-1", "GPU-aaaa"])
def test_a_gpu_is_named_by_index_or_uuid(wanted: str) -> None:
    assert choose_gpu(P40, wanted) is P40[0]


@pytest.mark.parametrize("wanted", ["2", "GPU-", "GPU-cccc"])
def test_a_name_that_fits_none_or_several_is_refused_with_what_there_is(wanted: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        choose_gpu(P40, wanted)
    assert caught.value.code == "unknown_gpu"
    assert "GPU-bbbb-2 (Tesla P40)" in str(caught.value)


def test_the_pin_is_by_uuid_in_pci_order_and_hides_all_gpus_from_a_cpu_worker() -> None:
    assert pin_environment(P40[1]) == {
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": "GPU-bbbb-2",
    }
    assert pin_environment(None)["CUDA_VISIBLE_DEVICES"] == ""


def test_listing_needs_no_driver() -> None:
    assert all(gpu.uuid.startswith("GPU-") for gpu in list_gpus())
