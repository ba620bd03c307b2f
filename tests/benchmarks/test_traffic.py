"""Mixed traffic: replayed by its seed, of every kind, and what may become of it is what becomes of it."""

from itertools import islice
from pathlib import Path

from benchmarks import soak
from benchmarks.engine_client import engine_child, stats
from benchmarks.shapes import STARTER
from benchmarks.traffic import EMBEDDING_KINDS, IMAGE_KINDS, TEXT_KINDS, crowds, traffic


def test_a_seed_replays_its_requests() -> None:
    first, again, other = (list(islice(traffic(TEXT_KINDS, 256, seed), 50)) for seed in (1, 1, 2))
    assert first == again
    assert [piece.request for piece in first] != [piece.request for piece in other]


def test_every_kind_comes() -> None:
    kinds = (*TEXT_KINDS, *IMAGE_KINDS, *EMBEDDING_KINDS)
    pieces = list(islice(traffic(kinds, 256, seed=1), 600))
    assert {piece.kind for piece in pieces} == {kind.name for kind in kinds}
    assert len({piece.request["id"] for piece in pieces}) == 600
    for piece in pieces:
        assert (piece.cancel_after is not None) == piece.kind.endswith("cancelled")
        assert (piece.expires_in is not None) == piece.kind.endswith("deadline")


def test_crowds_are_from_one_alone_to_a_burst() -> None:
    assert set(islice(crowds(16, seed=1), 50)) == {1, 8, 16, 64}


def test_an_engine_comes_through_it() -> None:
    """A short soak on a real engine: whatever becomes of a request is one of the outcomes its kind allows."""
    with engine_child(STARTER, slots=4, n_ctx=soak.N_CTX, threads=1, n_batch=256) as engine:
        run = soak.Soak(engine, TEXT_KINDS, slots=4, seed=5)
        run.run(2.0)
        end = stats(engine)
    assert run.tally.unexpected == []
    assert sum(run.tally.outcomes.values()) > 0
    assert (end["free_slots"], end["running"], end["waiting"]) == (4, 0, 0)
    assert end["cells_used"] == end["kept_cells"]


def test_pictures_and_embeddings_come_through_it(tmp_path: Path) -> None:
    """As above, on both subjects of a soak; and what they answer is what one slot answers."""
    for subject in soak.subjects(STARTER, tmp_path, {}):
        kinds = [kind for kind in subject.kinds if kind not in TEXT_KINDS]
        with engine_child(
            subject.model, slots=4, n_ctx=subject.n_ctx, threads=1, more=subject.settings
        ) as engine:
            run = soak.Soak(engine, kinds, slots=4, seed=5, n_ctx=subject.n_ctx)
            run.run(1.5)
            end = stats(engine)
        assert run.tally.unexpected == []
        done = {kind for kind, outcome in run.tally.outcomes if outcome == "done"}
        assert {kind.name for kind in kinds if kind.comparable and kind.outcomes == {"done"}} <= done
        assert end.get("free_slots", 4) == 4 and end.get("cells_used") == end.get("kept_cells")
        assert run.tally.sample
        assert soak.wrong_answers(subject, run.tally.sample, 1, 0.1)[1] == []


def test_an_outcome_that_nobody_expects_is_noted() -> None:
    piece = next(piece for piece in traffic(TEXT_KINDS, 256, seed=1) if piece.kind == "short")
    tally = soak.Tally()
    tally.note(piece, "decode_failed", {"error": {"code": "decode_failed"}}, keep=True)
    assert len(tally.unexpected) == 1 and "decode_failed" in tally.unexpected[0]
