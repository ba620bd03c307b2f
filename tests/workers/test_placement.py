"""Models are packed onto cards by memory, and every decision has its reason."""

from workers.placement import Need, place

GIB = 1 << 30


def need(model: str, gib: float, budget: float | None = None, cards: str = "ab") -> Need:
    budgets = {} if budget is None else {card: int(budget * GIB) for card in cards}
    return Need(model, {card: int(gib * GIB) for card in cards}, budgets)


def where(*needs: Need, **room: float) -> dict[str, str | None]:
    return {one.model: one.gpu for one in place(needs, {card: int(gib * GIB) for card, gib in room.items()})}


def test_models_spread_over_the_cards_before_they_share_one() -> None:
    assert where(need("small", 5), need("large", 8), a=24, b=22) == {"large": "a", "small": "b"}
    assert where(need("x", 8), need("y", 7), need("z", 6), a=24, b=22) == {"x": "a", "y": "b", "z": "a"}


def test_the_answer_keeps_the_order_of_the_models() -> None:
    placed = place([need("s", 1), need("l", 9)], {"a": 24 * GIB, "b": 24 * GIB})
    assert [one.model for one in placed] == ["s", "l"]


def test_models_are_packed_tightly_where_spreading_leaves_one_out() -> None:
    # spreading puts 9 onto the card of 10, and then 4 fits nowhere
    found = where(need("nine", 9), need("six", 6), need("four", 4), a=10, b=9)
    assert found == {"nine": "b", "six": "a", "four": "a"}


def test_what_does_not_fit_is_left_out_with_its_reason() -> None:
    placed = {one.model: one for one in place([need("big", 30), need("ok", 3)], {"a": 24 * GIB, "b": GIB})}
    assert placed["ok"].gpu == "a"
    assert placed["big"].gpu is None
    assert placed["big"].reason == "needs 30,720 MiB, and the roomiest GPU has 24,576 MiB left"


def test_a_budget_bounds_a_model_on_an_empty_card() -> None:
    [one] = place([need("m", 12, budget=10)], {"a": 24 * GIB, "b": 24 * GIB})
    assert one.gpu is None
    assert "more than its memory_budget of 10,240 MiB" in one.reason
    [one] = place([need("m", 9, budget=10)], {"a": 24 * GIB, "b": 24 * GIB})
    assert one.gpu is not None and one.reason == "alone; 15,360 MiB stay free"


def test_the_reason_names_the_neighbours() -> None:
    placed = place([need("x", 8), need("y", 7)], {"a": 24 * GIB})
    assert placed[1].reason == "beside x; 9,216 MiB stay free"


def test_without_a_gpu_nothing_is_placed() -> None:
    [one] = place([Need("m", {}, {})], {})
    assert (one.gpu, one.reason) == (None, "there is no GPU")
