"""What a grammar forces: the text that must come next, and the tokens that write it.

A token that begins inside the forced text may run over its end into what is free, and the model must keep
the choice of it: the text is given as tokens only up to where the first such token could begin. So the
tokens are those that the model would have been trained on. It knows no sequence and no sampling.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

from workers.engine.automaton import Automaton, State
from workers.engine.token_walk import Position, TokenWalk

Tokenise = Callable[[str], npt.NDArray[np.int32]]

_LONGEST: Final = 1024


def forced_text(automaton: Automaton, state: State) -> tuple[str, list[State]]:
    """The text that has no alternative from here, at most 1,024 characters, and the state before each of
    its characters and behind the last. It stops where the text may end.
    """
    characters: list[str] = []
    states = [state]
    while len(characters) < _LONGEST and not state.may_end:
        numbers = automaton.classes(state)
        if len(numbers) != 1:
            break
        (number,) = numbers
        character = automaton.alphabet.only_character(number)
        following = automaton.step(state, number)
        if character is None or following is None:
            break
        characters.append(character)
        states.append(following)
        state = following
    return "".join(characters), states


def forced_tokens(walk: TokenWalk, position: Position, tokenise: Tokenise) -> tuple[int, ...]:
    """The tokens that must come next, none where the text is free or stands inside a character."""
    if position.part:
        return ()
    state = position.state
    if state.run is None:
        state.run = _find_run(walk, state, tokenise)
        walk.automaton.weight += 1 + len(state.run)
    return state.run


def _find_run(walk: TokenWalk, state: State, tokenise: Tokenise) -> tuple[int, ...]:
    text, states = forced_text(walk.automaton, state)
    if not text:
        return ()
    tokens = _tokenise_inside(walk.pieces, text, tokenise)
    keep = _first_open(walk, text, states)
    run: list[int] = []
    size = 0
    for token in tokens:
        size += len(walk.pieces[token])
        if size > keep:
            break
        run.append(token)
    return tuple(run)


def _tokenise_inside(pieces: list[bytes], text: str, tokenise: Tokenise) -> list[int]:
    """Tokens that write exactly `text`, none if there are none.

    Some tokenisers put a space before whatever they are given: behind a line end it does not touch the text.
    """
    wanted = text.encode()
    tokens: list[int] = tokenise(text).tolist()
    if b"".join(pieces[token] for token in tokens) == wanted:
        return tokens
    tokens = tokenise("\n" + text).tolist()
    rest = b"".join(pieces[token] for token in tokens)
    while tokens and len(rest) > len(wanted):
        rest = rest[len(pieces[tokens.pop(0)]) :]
    return tokens if rest == wanted else []


def _first_open(walk: TokenWalk, text: str, states: list[State]) -> int:
    """The number of leading bytes in which no token begins that the grammar lets run over the text's end."""
    if walk.complete(walk.position(states[-1], b"")):
        return len(text.encode())
    start = 0
    for at, character in enumerate(text):
        rest = text[at:].encode()
        if len(rest) < walk.trie.longest:
            longer = walk.trie.longer_than(rest)
            if longer and walk.mask(walk.position(states[at], b""))[longer].any():
                return start
        start += len(character.encode())
    return start
