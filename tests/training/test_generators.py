"""The generators: a seed gives the same rows, and train and held-out rows share nothing they should not."""

import json
from itertools import islice
from typing import get_args

import pytest

from training.generate import chat, defects, oos, parts, routing, text_cls, wording
from training.generate.__main__ import KINDS, rows
from training.generate.verdict import CATEGORIES, CATEGORY_OF, Defect


def drawn(kind, split, seed, count):
    return [json.dumps(row.as_row(), ensure_ascii=False) for row in islice(rows(kind, split, seed), count)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_gives_the_same_rows_and_another_gives_others(kind):
    assert drawn(kind, "train", 5, 60) == drawn(kind, "train", 5, 60)
    assert drawn(kind, "train", 5, 60) != drawn(kind, "train", 6, 60)


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="unknown kind"):
        rows("weather", "train", 0)


@pytest.mark.parametrize("lang", get_args(wording.Lang))
def test_report_frames_are_disjoint(lang):
    assert not defects.frames("train", lang).all() & defects.frames("test", lang).all()


def test_chat_wordings_are_disjoint_and_every_intent_has_some():
    for intent in chat.INTENTS:
        for lang in get_args(wording.Lang):
            train, test = (set(chat.wordings(intent, split, lang)) for split in ("train", "test"))
            assert train and test and intent.answer[lang]
            assert not train & test, intent.name


@pytest.mark.parametrize("kind", ["defects", "text_cls", "chat", "routing"])
def test_no_text_is_in_both_parts(kind):
    train = {row.text for row in islice(rows(kind, "train", 1), 4000)}
    test = {row.text for row in islice(rows(kind, "test", 2), 1000)}
    assert not train & test


def test_designators_and_names_are_disjoint():
    train = defects.seeded("t", "train", 0)
    test = defects.seeded("t", "test", 0)
    for draw in (parts.designator, lambda rng, split: parts.component(rng, split, "en")):
        seen = {draw(train, "train") for _ in range(3000)}
        assert not seen & {draw(test, "test") for _ in range(3000)}
    boards = {parts.board(train, "train", "en").split("-")[0].split(" ")[0] for _ in range(2000)}
    held_out = {parts.board(test, "test", "en").split("-")[0].split(" ")[0] for _ in range(2000)}
    assert not boards & held_out


@pytest.mark.parametrize("split", get_args(wording.Split))
def test_every_verdict_is_in_the_schema_and_quotes_its_report(split):
    keys = ["verdict", "defect", "ref", "location"]
    for report in islice(defects.reports(split, 3), 3000):
        verdict = json.loads(report.verdict.as_json())
        assert list(verdict) == keys
        assert " " not in report.verdict.as_json().replace(str(verdict["location"]), "")
        assert verdict["defect"] in get_args(Defect)
        assert (verdict["verdict"] == "pass") == (verdict["defect"] == "none")
        assert verdict["verdict"] == "fail" or verdict["location"] is None
        for quoted in (verdict["ref"], verdict["location"]):
            assert quoted is None or quoted in report.text


def test_held_out_designators_are_the_held_out_decades():
    for report in islice(defects.reports("test", 4), 500):
        if report.verdict.ref is not None:
            assert parts.is_held_out(int(report.verdict.ref.lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ")))


def test_every_defect_has_a_category_and_every_category_is_drawn():
    assert set(CATEGORY_OF) == set(get_args(Defect))
    assert {row.label for row in islice(text_cls.requests("train", 1), 400)} == set(CATEGORIES)


def test_routing_rows_cover_every_task_in_both_languages_without_repeats():
    drawn_rows = list(islice(routing.rows("train", 1), 2000))
    assert {row.task for row in drawn_rows} == set(routing.TASKS)
    assert len({row.text for row in drawn_rows}) == len(drawn_rows)
    chinese = sum(any("\u4e00" <= char <= "\u9fff" for char in row.text) for row in drawn_rows)
    assert 0.35 < chinese / len(drawn_rows) < 0.65


def test_no_text_keeps_a_slot_or_an_alternative():
    for kind in ("defects", "text_cls", "chat", "routing"):
        for split in get_args(wording.Split):
            for row in islice(rows(kind, split, 9), 2000):
                assert not set("[]{}") & set(row.text), row.text
    for lang in get_args(wording.Lang):
        assert oos.text(wording.seeded("x", "test", 1), "test", lang)


def test_expand_chooses_fills_and_names_a_missing_slot():
    rng = wording.seeded("x", "train", 0)
    assert wording.expand(rng, "[a|a] {n}", {"n": "7"}) == "a 7"
    assert wording.expand(rng, "{n}", {"n": ("x", "x")}) == "x"
    with pytest.raises(KeyError, match="where"):
        wording.expand(rng, "{where}", {})


def test_a_typo_spares_short_words_numbers_and_designators():
    rng = wording.seeded("x", "train", 0)
    assert wording.with_typos(rng, "at U12 on pin 3", 1.0) == "at U12 on pin 3"
    assert wording.with_typos(rng, "solder", 1.0) != "solder"
