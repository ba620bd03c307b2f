"""The jobs of a chaos run: replayed by their seed, taken by the yard; no other answer passes for right."""

from itertools import islice

from batchyard.job import parse_job
from benchmarks.chaos.pieces import FLAKY, Piece, Reference, certain, fault_of, pieces

REFERENCES = [Reference("solder bridge at U7", "soldering"), Reference("R5 missing", "placement")]


def some(count: int = 400, seed: int = 1) -> list[Piece]:
    return list(islice(pieces(seed, REFERENCES), count))


def answer(piece: Piece) -> dict[str, object]:
    """What a worker stores for a job that it answered rightly."""
    found: dict[str, object] = {"job_id": piece.id, "metadata": dict(piece.body["metadata"])}
    output = piece.body["output"]
    if output["type"] == "choices":
        chances = dict.fromkeys(output["choices"], 0.25)
        return found | {"choice": piece.label or output["choices"][0], "choice_probabilities": chances}
    whole = "const" in output["schema"]
    return found | {"parsed": piece.mark if whole else {"mark": piece.mark}, "text": "…"}


def test_a_seed_replays_its_jobs() -> None:
    assert some(seed=1) == some(seed=1)
    assert [piece.body for piece in some(seed=1)] != [piece.body for piece in some(seed=2)]


def test_every_kind_is_a_job_that_the_yard_takes() -> None:
    kinds = {piece.kind for piece in some()}
    assert kinds == {"mark", "verdict", "long", "labels", "report", FLAKY}
    for piece in some():
        job = parse_job({**piece.body, "id": piece.id, "batch": piece.batch})
        assert (FLAKY in job.id) == (piece.kind == FLAKY)
    assert len({piece.mark for piece in some()}) == len({piece.id for piece in some()}) == 400


def test_right_answers_pass() -> None:
    assert [fault_of(piece, answer(piece)) for piece in some()] == [None] * 400


def test_an_answer_swapped_with_any_other_jobs_does_not() -> None:
    there = [piece for piece in some(60) if piece.label is None]
    for piece in there:
        for other in there:
            if other is not piece:
                swapped = answer(other) | {"job_id": piece.id, "metadata": dict(piece.body["metadata"])}
                assert fault_of(piece, swapped) is not None
                assert fault_of(piece, answer(other)) is not None


def test_a_label_other_than_the_undisturbed_run_gave_is_wrong() -> None:
    piece = next(piece for piece in some() if piece.label is not None)
    other = next(label for label in piece.body["output"]["choices"] if label != piece.label)
    assert fault_of(piece, answer(piece) | {"choice": other}) is not None
    assert fault_of(piece, None) is not None


def test_only_a_clear_lead_makes_a_reference() -> None:
    assert certain("a", {"x": 0.7, "y": 0.3}) == Reference("a", "x")
    assert certain("a", {"x": 0.55, "y": 0.45}) is None
