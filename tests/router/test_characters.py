import pytest

from router.characters import character_grams, cut_characters


def found(grams, texts):
    documents, columns = grams.find(texts)
    pairs = zip(documents.tolist(), columns.tolist(), strict=True)
    return sorted((document, grams.ngrams[column]) for document, column in pairs)


def test_finds_every_occurrence_of_each_order():
    grams = character_grams(["a", "ab", "aba", "焊"])
    assert found(grams, ["abab", "焊a"]) == [
        (0, "a"), (0, "a"), (0, "ab"), (0, "ab"), (0, "aba"), (1, "a"), (1, "焊")
    ]  # fmt: skip


def test_agrees_with_cutting_in_python():
    texts = ["solder bridge at r0", "锡桥 在 r0 处", "", "🙂 mixed 焊 text", "a"]
    known = ["s", "so", "sol", "锡桥", "桥 ", " r0", "0", "🙂", "🙂 m", "焊", "a"]
    expected = sorted(
        (i, gram) for i, text in enumerate(texts) for gram in cut_characters(text, (1, 3)) if gram in known
    )
    assert found(character_grams(known), texts) == expected


def test_no_ngram_spans_two_texts():
    assert found(character_grams(["ab", "a", "b"]), ["a", "b"]) == [(0, "a"), (1, "b")]


def test_unknown_characters_break_ngrams_and_do_no_harm():
    assert found(character_grams(["ab"]), ["axb", "\ud800ab", "\uffffab"]) == [(1, "ab"), (2, "ab")]


def test_shorter_and_longer_ngrams_have_different_codes():
    grams = character_grams([chr(97 + i) for i in range(26)] + ["aa", "aaa", "ba", "zz", "zzz"])
    assert len(set(grams.codes.tolist())) == 31


@pytest.mark.parametrize("ngrams", [[], [""], ["a", "a"], [chr(0x4E00 + i) * 5 for i in range(4096)]])
def test_what_makes_no_vocabulary_is_refused(ngrams):
    with pytest.raises(ValueError):
        character_grams(ngrams)
