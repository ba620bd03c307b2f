"""One target in a process of its own: guided by coverage with Atheris, by its seeds alone without.

python -m tests.fuzz.child TARGET FOLDER INPUTS SECONDS SEED ENGINE
"""

import importlib.util
import os
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.fuzz.oracle import Target
    from tests.fuzz.session import Session

_INSTRUMENTED = ["batchyard", "router", "workers", "yaml"]
_MOST_KEPT = 400


def has_atheris() -> bool:
    """Whether the coverage-guided engine is installed."""
    return importlib.util.find_spec("atheris") is not None


def _corpus(folder: Path, target: "Target", seed: int) -> tuple[Path, list[bytes]]:
    """The folder of a target's inputs, with its seeds and what its strategy draws in it; and the seeds."""
    from tests.fuzz.strategies import drawn

    seeds = target.seeds()
    inputs = folder / "corpus" / target.name
    if not inputs.exists():
        inputs.mkdir(parents=True)
        for at, data in enumerate([*seeds, *drawn(target.name, 60, seed)]):
            (inputs / f"seed-{at}").write_bytes(data[: target.max_len])
    return inputs, seeds


def unguided(session: "Session", inputs: Path, seeds: list[bytes], seed: int) -> None:
    """Mutate seeds, and accepted inputs now and then."""
    from tests.fuzz.mutate import mutate

    target, chance = session.target, random.Random(seed)
    pool = [path.read_bytes() for path in sorted(inputs.iterdir())]
    for data in list(pool):
        session.run(data)
    while not session.over:
        data = chance.choice(pool)
        for _ in range(chance.choice((1, 1, 2, 3))):
            data = mutate(data, target.kind, chance, seeds, target.max_len)
        if session.run(data) and chance.random() < 0.05:
            if len(pool) < _MOST_KEPT:
                pool.append(data)
            else:
                pool[chance.randrange(len(seeds), len(pool))] = data
    session.end()


def guided(session: "Session", inputs: Path, seeds: list[bytes], seed: int) -> None:
    """libFuzzer, through Atheris: what reaches new edges of our code is kept and mutated further."""
    import atheris

    from tests.fuzz.mutate import mutate

    target, chance = session.target, random.Random(seed)

    def change(data: bytes, max_size: int, _seed: int) -> bytes:
        if chance.random() < 0.15:
            return bytes(atheris.Mutate(data, max_size))
        return mutate(data, target.kind, chance, seeds, min(max_size, target.max_len))

    def one(data: bytes) -> None:
        session.run(data)
        if session.over:
            session.end()
            sys.stderr.flush()
            os._exit(0)  # Fuzz never returns

    options = (
        f"-seed={seed}",
        f"-max_len={target.max_len}",
        "-timeout=120",
        "-rss_limit_mb=3072",
        "-len_control=0",
    )
    atheris.Setup([sys.argv[0], *options, str(inputs)], one, custom_mutator=change)
    atheris.Fuzz()


def main(name: str, folder: str, inputs: str, seconds: str, seed: str, engine: str) -> None:
    """Fuzz one target; the report is in its folder afterwards."""
    if engine == "atheris":
        import atheris

        with atheris.instrument_imports(include=_INSTRUMENTED):
            from tests.fuzz.targets import TARGETS
    else:
        from tests.fuzz.targets import TARGETS
    from tests.fuzz.session import Session

    target = TARGETS[name]
    corpus, seeds = _corpus(Path(folder), target, int(seed))
    session = Session(target, Path(folder), int(inputs), float(seconds))
    (guided if engine == "atheris" else unguided)(session, corpus, seeds, int(seed))


if __name__ == "__main__":
    main(*sys.argv[1:])
