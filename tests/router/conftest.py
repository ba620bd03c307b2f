"""A small yard for the router's tests: two models, four tasks, a classifier trained on a few sentences."""

import pytest

from batchyard.catalogue import Catalogue, parse_catalogue
from router.decide import Yard
from router.policy import Policy, candidates
from router.rows import Row
from router.train import Options, Trained, train

_FRAMES = {
    "defect": (
        "board {} failed inspection, the solder joint at R{} is open",
        "C{} on panel {} has a solder bridge",
        "检验报告 {}:R{} 处有锡桥,判不合格",
        "{} 号板 C{} 缺件,返工",
    ),
    "faq": (
        "how do I cancel job number {} in the yard, step {}?",
        "where can I see the queue of worker {} and model {}?",
        "怎么取消第 {} 个任务?批次 {}",
        "在哪里查看 {} 号工作节点的队列 {}?",
    ),
    "oos": (
        "what is the weather in Oslo on day {} of month {}?",
        "recommend {} songs for a run of {} kilometres",
        "今天第 {} 场足球赛几点开始,频道 {}",
        "推荐 {} 部电影,时长 {} 分钟",
    ),
}
_WORDS = ("please", "now", "today", "urgent", "again", "谢谢", "请", "尽快", "最后", "再看")


def small_rows(with_oos: bool = True) -> list[Row]:
    """40 rows of each task, the same every time."""
    texts = [
        (f"{_WORDS[i % len(_WORDS)]} {frame.format(i * 7 % 31, i * 5 % 17)}", task)
        for task, frames in _FRAMES.items()
        for frame in frames
        for i in range(10)
        if with_oos or task != "oos"
    ]
    return [Row(text, task, line) for line, (text, task) in enumerate(texts, 1)]


@pytest.fixture(scope="session")
def rows() -> list[Row]:
    return small_rows()


@pytest.fixture(scope="session")
def trained(rows: list[Row]) -> Trained:
    return train(rows, Options(folds=3, groups=4))


@pytest.fixture(scope="session")
def catalogue() -> Catalogue:
    return parse_catalogue(
        {
            "model_list": [
                {"model_name": "inspector", "model_path": "a.gguf", "tasks": ["defect"]},
                {"model_name": "talker", "model_path": "b.gguf", "tasks": ["faq", "other", "defect"]},
            ],
            "task_list": [{"task": "defect"}, {"task": "faq"}, {"task": "other"}, {"task": "lonely"}],
        },
        "test",
    )


@pytest.fixture(scope="session")
def make_yard(catalogue: Catalogue):  # type: ignore[no-untyped-def]
    def make(threshold: float = 0.5, **policy: object) -> Yard:
        fields = {"version": "v7", "default": {"task": "other", "model": "talker"}, "classifier": None}
        made = Policy.model_validate(fields | policy)
        return Yard(made, catalogue, candidates(made, catalogue), "abc123", threshold)

    return make
