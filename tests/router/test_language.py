import pytest

from router.language import language


@pytest.mark.parametrize(
    "text, expected",
    [
        ("where is my job", "en"),
        ("我的任务在哪里", "zh"),
        ("R458已更换,正常,可是VR450短路了", "zh"),
        ("the word 焊接 means soldering", "en"),
        ("где мой заказ", "other"),
        ("12345 !!", "other"),
        ("", "other"),
    ],
)
def test_language(text, expected):
    assert language(text) == expected
