"""How held-out answers are scored."""

from training.evaluate import Tally, parsed, score
from training.template import SYSTEM_DEFECT, SYSTEM_TEXT_CLS, Example

ANSWER = '{"verdict":"fail","defect":"open","ref":"U12","location":null}'


def scored(answer, *, system=SYSTEM_DEFECT, expected=ANSWER, ended=True):
    tally = Tally()
    score(tally, "defect_detect", Example(system, "U12 is open", expected), answer, ended)
    return tally.shares()


def test_a_right_answer_hits_every_field():
    shares = scored(ANSWER)
    assert set(shares.values()) == {1.0}
    assert shares["defect_detect.whole.en"] == 1.0


def test_one_wrong_field_costs_that_field_and_the_whole():
    shares = scored(ANSWER.replace("U12", "U21"))
    assert shares["defect_detect.ref"] == shares["defect_detect.whole"] == 0.0
    assert shares["defect_detect.defect"] == shares["defect_detect.location"] == 1.0


def test_no_json_hits_no_field_and_a_missing_key_is_not_null():
    assert scored("U12 is open")["defect_detect.json"] == 0.0
    assert scored("{}")["defect_detect.location"] == 0.0


def test_a_category_is_scored_as_text_and_an_endless_answer_is_seen():
    shares = scored("soldering", system=SYSTEM_TEXT_CLS, expected="soldering", ended=False)
    assert shares == {"text_cls.whole": 1.0, "text_cls.whole.en": 1.0, "text_cls.ended": 0.0}


def test_parsed_takes_objects_only():
    assert parsed("[1]") is None
    assert parsed("{") is None
    assert parsed('{"a":1}') == {"a": 1}
