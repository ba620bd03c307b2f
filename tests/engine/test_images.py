"""What stands in an image's place, and how many images are remembered."""

from __future__ import annotations

import numpy as np

from workers.engine.images import ImageCache, assemble, placeholders, whole_length

ONE, OTHER = "1" * 64, "2" * 64


def rows(count: int, value: float = 0.0) -> np.ndarray:
    return np.full((count, 4), value, np.float32)


def test_placeholders_are_negative_and_the_image_s_own() -> None:
    drawn = placeholders(ONE, 500)
    assert (drawn < 0).all() and len(set(drawn.tolist())) == 500
    np.testing.assert_array_equal(drawn[:20], placeholders(ONE, 20))
    assert not set(drawn.tolist()) & set(placeholders(OTHER, 500).tolist())


def test_an_image_is_put_together_from_its_pieces() -> None:
    image = assemble(ONE, [np.array([7], np.int32), rows(2, 1.0), np.array([8, 9], np.int32), rows(3, 2.0)])
    assert [token if token > 0 else -1 for token in image.tokens.tolist()] == [7, -1, -1, 8, 9, -1, -1, -1]
    assert [(span.start, span.end, float(span.rows[0, 0])) for span in image.spans] == [
        (1, 3, 1.0),
        (5, 8, 2.0),
    ]
    np.testing.assert_array_equal(image.tokens[[1, 2, 5, 6, 7]], placeholders(ONE, 5))


def test_a_beginning_never_ends_inside_an_image() -> None:
    tokens = np.array([5, 6, -7, -8, -9, 5, -3, -4], np.int32)
    assert [whole_length(tokens, length) for length in range(9)] == [0, 1, 2, 2, 2, 5, 6, 6, 8]
    assert [whole_length(tokens[2:5], length) for length in range(4)] == [0, 0, 0, 3]


def test_the_least_recently_used_image_leaves_first() -> None:
    image = assemble(ONE, [rows(2)])
    cache = ImageCache(2 * image.n_bytes)
    cache.put("a", image)
    cache.put("b", image)
    assert cache.get("a") is image
    cache.put("c", image)
    assert (cache.get("b"), cache.get("a"), cache.get("c")) == (None, image, image)
    assert (len(cache), cache.n_bytes) == (2, 2 * image.n_bytes)


def test_an_image_larger_than_the_cache_is_not_kept() -> None:
    cache = ImageCache(100)
    small = assemble(ONE, [rows(1)])
    cache.put("small", small)
    cache.put("large", assemble(OTHER, [rows(100)]))
    assert cache.get("large") is None and cache.get("small") is small
