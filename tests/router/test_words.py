import pytest

from router.words import cut_words, word_grams


def test_words_pairs_chinese_characters_and_marks():
    assert list(cut_words(" label it: 锡桥 ")) == [
        "label", "it", ":", "锡", "桥", "label it", "it :", ": 锡", "锡 桥"
    ]  # fmt: skip


def test_finds_known_ones_by_text():
    documents, columns = word_grams(["it", "label it"]).find(["label it it", "other", "it"])
    assert (documents.tolist(), columns.tolist()) == ([0, 0, 0, 2], [0, 0, 1, 0])


def test_no_words_at_all_is_fine():
    documents, columns = word_grams([]).find(["label it"])
    assert (len(documents), len(columns)) == (0, 0)


def test_a_word_twice_is_refused():
    with pytest.raises(ValueError, match="twice"):
        word_grams(["it", "it"])
