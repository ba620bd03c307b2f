import pytest

from router.normalise import HEAD, TAIL, clip, normalise


@pytest.mark.parametrize(
    "one, other",
    [
        ("Part HT-2024", "part ht-1999"),
        ("ABC123", "abc45"),
        ("a\t b\r\n c", "a b c"),
        ("FINE", "fine"),
        ("你好 世界", "你好 世界"),
    ],
)
def test_what_reads_alike_is_alike(one, other):
    assert normalise(one) == normalise(other)


def test_both_ends_have_a_blank():
    assert normalise("x") == " x "


def test_different_words_stay_different():
    assert normalise("left") != normalise("right")


def test_a_long_text_is_read_at_both_ends():
    text = "a" * (HEAD + TAIL) + "THE END"
    assert len(clip(text)) == HEAD + TAIL + 1
    assert normalise(text).endswith("the end ")


def test_a_text_at_the_limit_is_read_whole():
    text = "b" * (HEAD + TAIL)
    assert clip(text) is text
