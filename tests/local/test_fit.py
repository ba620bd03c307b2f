from pathlib import Path

from local.fit import OVERHEAD_BYTES, ModelNeed, Placement, fit
from local.machine import free_memory

GB = 1_000_000_000


def test_each_model_gets_a_worker_where_there_is_room() -> None:
    plan = fit([ModelNeed("a", "a.gguf", GB), ModelNeed("b", "b.gguf", GB)], memory=4 * GB)
    assert plan.workers == (Placement("a", None), Placement("b", None))
    assert not plan.skipped


def test_a_model_without_its_file_is_left_out_by_name() -> None:
    plan = fit([ModelNeed("a", "models/a.gguf", None), ModelNeed("b", "b.gguf", 1)], memory=GB)
    assert plan.workers == (Placement("b", None),)
    assert plan.skipped == {"a": "there is no file models/a.gguf"}


def test_weights_that_do_not_fit_together_leave_the_later_out() -> None:
    needs = [ModelNeed("a", "a", 2 * GB), ModelNeed("b", "b", 2 * GB), ModelNeed("c", "c", GB // 2)]
    plan = fit(needs, memory=3 * GB + OVERHEAD_BYTES)
    assert [worker.model for worker in plan.workers] == ["a", "c"]
    assert "needs 2.2 GB" in plan.skipped["b"]


def test_a_model_on_a_gpu_takes_no_memory_but_its_worker_s() -> None:
    needs = [ModelNeed("a", "a", 14 * GB, "GPU-1"), ModelNeed("b", "b", 14 * GB)]
    plan = fit(needs, memory=14 * GB + 2 * OVERHEAD_BYTES)
    assert plan.workers == (Placement("a", "GPU-1"), Placement("b", None))


def test_exactly_enough_is_enough() -> None:
    assert fit([ModelNeed("a", "a", GB)], memory=GB + OVERHEAD_BYTES).workers
    assert not fit([ModelNeed("a", "a", GB)], memory=GB + OVERHEAD_BYTES - 1).workers


def test_free_memory_is_read_in_bytes(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:  200 kB\nMemAvailable:   100 kB\n")
    assert free_memory(meminfo) == 102_400
    assert free_memory(tmp_path / "none") > 1 << 60
