"""Who gets a slot, with which beginning in memory, and who gives way for it.

It moves sequences between the waiting line, the slots and the memory. It computes nothing and ends nobody.
"""

from __future__ import annotations

from workers.engine.memory import Memory
from workers.engine.prefix_tree import common_length
from workers.engine.request import LOWEST_INTERACTIVE
from workers.engine.running import Running
from workers.engine.sequence import Sequence
from workers.engine.waiting_line import WaitingLine


class Admission:
    """The way into the slots of one context of `n_cells` cells, and out of them again."""

    def __init__(
        self, waiting: WaitingLine[Sequence], running: Running, memory: Memory, *, shares: bool, n_cells: int
    ) -> None:
        self._waiting = waiting
        self._running = running
        self._memory = memory
        self._shares = shares
        self._n_cells = n_cells
        self.retreats = 0
        """How often a job gave way."""

    def admit(self, limit: int) -> list[Sequence]:
        """Give slots to those whose turn it is, at most `limit` running batch jobs; returns them."""
        admitted: list[Sequence] = []
        while (name := self._next(limit, admitted)) is not None:
            one = self._waiting.take(name)
            one.slot, one.computed = self._memory.take_slot(one.known())
            self._running.add(one)
            self._attach(one)
            admitted.append(one)
        for one in self._running:
            if one.follows is not None:
                self._follow(one)
        return admitted

    # ---- may it? -------------------------------------------------------------------------------------------

    def _next(self, limit: int, admitted: list[Sequence]) -> str | None:
        """Who may enter now; None for nobody. Batch jobs give way for an interactive one, but none that has
        just been admitted. One whose turn it is and who may not enter yet holds up no interactive one.
        """
        urgent = self._waiting.best(LOWEST_INTERACTIVE) is not None
        # with every slot taken there is nothing to look at, however many wait
        full = not self._memory.free_slots or len(self._running) >= limit
        if not len(self._waiting) or (full and not urgent):
            return None
        warmth = self._warmth if self._shares else None
        name, one = self._waiting.choose(warmth)
        if self._may_enter(one, limit, admitted):
            return name
        if one.interactive or not urgent:
            return None
        name, one = self._waiting.choose(warmth, LOWEST_INTERACTIVE)
        return name if self._may_enter(one, limit, admitted) else None

    def _may_enter(self, one: Sequence, limit: int, admitted: list[Sequence]) -> bool:
        """Whether there is a slot and memory; makes batch jobs give way for an interactive one."""
        if not one.interactive:
            if not self._memory.free_slots or len(self._running) >= limit:
                return False
            # one row more for each who runs already, so that nobody has to give way right after
            return not len(self._running) or one.length + len(self._running) < self._memory.room()
        worst = sum(other.most_cells for other in self._running if other.interactive)
        if worst + one.most_cells > self._n_cells:
            return False
        leaving, slots, room = [], self._memory.free_slots, self._memory.room()
        for victim in self._running.retreating(admitted):
            if slots and room >= one.length:
                break
            leaving.append(victim)
            slots, room = slots + 1, room + self._memory.owned(victim.slot)
        # nobody leaves where it would not be enough
        if not slots or room < one.length:
            return False
        for victim in leaving:
            self.give_way(victim)
        return True

    def give_way(self, one: Sequence, *, keep: bool = True) -> None:
        """Send one back to the head of its line. Its tokens stay, and where it may `keep` them their cells,
        while there is room.
        """
        if keep and self._shares and one.computed:
            self._memory.keep(one.slot, one.known(one.computed), needed=True)
        self._waiting.push_back(one.request.id, one.request.priority, self._out(one))
        one.retreat()
        self.retreats += 1

    def keep_history(self, one: Sequence) -> None:
        """A conversation is over for now: what is in memory of it serves its next turn."""
        if self._shares and one.request.conversation:
            self._memory.keep(one.slot, one.known(one.computed), needed=True)

    def put_back(self) -> None:
        """Send everybody back, with nothing in memory any more."""
        for one in sorted(self._running, key=lambda each: each.order, reverse=True):
            self._waiting.push_back(one.request.id, one.request.priority, self._out(one))
        self._memory.clear()

    def _out(self, one: Sequence) -> Sequence:
        self._running.remove(one)
        self._memory.release_slot(one.slot, one.known(one.computed))
        one.leave_slot()
        return one

    # ---- beginnings ----------------------------------------------------------------------------------------

    def _warmth(self, one: Sequence) -> int:
        return self._memory.spared(one.prompt)

    def _attach(self, one: Sequence) -> None:
        """Give a new sequence the longest beginning in memory, or let it wait for one being computed."""
        if not self._shares:
            return
        if not one.seen:
            # what it had before it came back is no other prompt
            one.seen = min(self._memory.see(one.prompt), len(one.prompt) - 1)
        self._share(one, one.seen)

    def _share(self, one: Sequence, seen: int) -> None:
        """`seen` tokens of it began an earlier prompt."""
        match = self._memory.match(one.known())
        known = max(one.computed, 0 if match is None else match.length)
        # a suspect runs alone, so nobody would compute a beginning for it
        if self._memory.worth_keeping(seen, known) and not one.suspect:
            source, length = self._source(one)
            if source is not None and self._memory.worth_waiting_for(length, known):
                one.follows = (source, length)
                # it may be done in the very step that computes the last of it
                source.keep_at = max(source.keep_at, length)
                return
            one.keep_at = seen
        self._reuse(one)

    def _source(self, one: Sequence) -> tuple[Sequence | None, int]:
        """Who is computing the longest beginning of this one's prompt, and its length."""
        best: Sequence | None = None
        longest = 0
        for other in self._running:
            # one that itself waits for a beginning would only make the line longer
            if other is one or other.follows is not None:
                continue
            length = min(common_length(other.prompt, one.prompt), len(one.prompt) - 1)
            # a worse priority may share what it has, but is not waited for
            if other.request.priority > one.request.priority:
                length = min(length, other.computed)
            if length > longest:
                best, longest = other, length
        return best, longest

    def _follow(self, one: Sequence) -> None:
        """Take over another one's beginning once it is computed; look for another where that one is gone."""
        if one.follows is None:
            return
        source, length = one.follows
        if not self._running.holds(source):
            one.follows = None
            self._share(one, length)
        elif source.computed >= length:
            one.follows = None
            self._memory.keep(source.slot, source.prompt[:length], needed=True)
            self._reuse(one)

    def _reuse(self, one: Sequence) -> None:
        match = self._memory.match(one.known())
        # what the slot itself still holds is there already; a little more is computed as fast as it is copied
        if match is not None and self._memory.worth_keeping(match.length, one.computed):
            if one.computed:
                self._memory.empty(one.slot)
            self._memory.reuse(match, one.slot)
            one.computed = match.length
        # what it had computed itself before it was sent back was not spared
        if not one.gave_way and not one.failures:
            one.cached = min(one.computed, len(one.prompt))
