"""Bytes of tokens into text: incremental UTF-8 and stop strings.

A token may hold part of a character, and a stop string may arrive in pieces. It knows no tokens, only bytes.
"""

from __future__ import annotations

import codecs


class TextStream:
    """Text that grows token by token, cut before the first stop string.

    `push` returns what is certain: characters are complete, and no stop string can begin inside.
    """

    def __init__(self, stops: tuple[str, ...] = ()) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._stops = stops
        self._longest = max((len(stop) for stop in stops), default=0)
        self._certain: list[str] = []
        self._held = ""
        self.stopped = False

    def push(self, data: bytes) -> str:
        """Add a token's bytes; returns newly certain text. Nothing comes after a stop string was met."""
        if self.stopped:
            return ""
        return self._take(self._decoder.decode(data))

    def finish(self) -> str:
        """The text ends here: returns what was held back, an incomplete character as U+FFFD."""
        if self.stopped:
            return ""
        text = self._take(self._decoder.decode(b"", final=True))
        rest, self._held = ("", "") if self.stopped else (self._held, "")
        self._certain.append(rest)
        return text + rest

    @property
    def text(self) -> str:
        """All certain text so far."""
        return "".join(self._certain)

    def _take(self, new: str) -> str:
        text = self._held + new
        found = min((at for at in (text.find(stop) for stop in self._stops) if at >= 0), default=-1)
        if found >= 0:
            self.stopped = True
            certain, self._held = text[:found], ""
        else:
            held = self._partial_stop(text)
            certain, self._held = text[: len(text) - held], text[len(text) - held :]
        self._certain.append(certain)
        return certain

    def _partial_stop(self, text: str) -> int:
        """Length of the longest end of `text` that may begin a stop string."""
        for length in range(min(self._longest - 1, len(text)), 0, -1):
            tail = text[-length:]
            if any(stop.startswith(tail) for stop in self._stops):
                return length
        return 0
