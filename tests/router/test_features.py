import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_union

from router.features import learn
from router.normalise import normalise
from router.train import as_sparse
from router.words import cut_words

TEXTS = [
    "Board 12 failed: open joint at R4",
    "板 12 不合格:R4 虚焊",
    "hello  hello HELLO yard",
    "怎么取消任务?怎么取消批次?",
    "ABC 12 full width",
]


def dense(vocabulary, texts):
    return as_sparse(vocabulary, texts).toarray()


def test_rows_are_those_of_scikit_learn():
    vocabulary = learn(TEXTS, (1, 3), 1, 10_000)
    common = {"preprocessor": normalise, "sublinear_tf": True, "use_idf": False}
    reference = make_union(
        TfidfVectorizer(
            analyzer="char", ngram_range=(1, 3), vocabulary=list(vocabulary.characters.ngrams), **common
        ),
        TfidfVectorizer(
            analyzer=lambda text: list(cut_words(normalise(text))),
            vocabulary=list(vocabulary.words.ngrams),
            sublinear_tf=True,
            use_idf=False,
        ),
    )
    unseen = [*TEXTS, "open joint at R99 板", "完全没见过 zzz", "x" * 5000]
    expected = reference.fit(TEXTS).transform(unseen).toarray()
    np.testing.assert_allclose(dense(vocabulary, unseen), expected, atol=1e-6)


def test_a_text_has_the_same_row_alone_and_in_a_chunk():
    vocabulary = learn(TEXTS, (1, 3), 1, 10_000)
    together = dense(vocabulary, TEXTS)
    for text, row in zip(TEXTS, together, strict=True):
        np.testing.assert_array_equal(dense(vocabulary, [text])[0], row)


def test_empty_rows_between_others():
    rows = learn(["aa", "ab"], (2, 2), 1, 100).rows(["Ж", "aa", "Ж", "ab", "Ж"])
    assert np.diff(rows.starts).tolist() == [0, 4, 0, 4, 0]  # " a", "aa", "a " and the word


def test_only_words_of_letters_make_a_text_known():
    vocabulary = learn(["solder 12 , 焊"], (1, 1), 1, 100)
    assert vocabulary.rows(["Solder", "12, 12", "焊", "sold er", ""]).known.tolist() == [
        True, False, True, False, False
    ]  # fmt: skip


def test_rare_ngrams_are_left_out_and_the_size_is_bounded():
    assert "z" not in learn([*TEXTS, "zzz"], (1, 1), 2, 100).characters.ngrams
    assert len(learn(TEXTS, (1, 3), 1, 20)) == 40


def test_nothing_common_is_refused():
    with pytest.raises(ValueError):
        learn(["abc"], (2, 2), 2, 100)
