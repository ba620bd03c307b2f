"""What labels score after a prompt without content, learned once for each form of prompt.

A job that wants such a prior is held until it is known; one content-free job is run for all that wait for the
same. It knows forms and sequences, not how they are run.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

from workers.engine.content_free import Form, form_of
from workers.engine.sequence import Sequence

Scores = npt.NDArray[np.float64]

REMEMBERED: Final = 256


class Priors:
    """Known priors, least recently used ones forgotten, and who waits for one that is being learned."""

    def __init__(self, remembered: int = REMEMBERED) -> None:
        self._remembered = remembered
        self._known: OrderedDict[Form, Scores] = OrderedDict()
        self._waiting: dict[Form, list[Sequence]] = {}
        self._learners: Counter[Form] = Counter()
        """How many content-free jobs of a form are under way."""

    def arrive(self, one: Sequence, make: Callable[[Form, Sequence], Sequence]) -> list[Sequence]:
        """Who may go on: the job itself when it needs no prior or its prior is known; else the content-free
        job that `make` gives, unless one of no worse a priority is under way. What `make` raises is raised.
        """
        form = form_of(one.request)
        if form is None or one.scoring is None:
            return [one]
        if form in self._known:
            self._known.move_to_end(form)
            one.scoring.prior = self._known[form]
            return [one]
        waiting = self._waiting.get(form, [])
        # an interactive job does not wait for what a batch job has asked for
        under_way = min((other.request.priority for other in waiting), default=None)
        learns = under_way is None or one.request.priority < under_way
        found = [make(form, one)] if learns else []
        self._learners[form] += learns
        self._waiting[form] = [*waiting, one]
        return found

    def learn(self, form: Form, scores: Scores) -> list[Sequence]:
        """A content-free job is done; returns those who waited for it, their priors set."""
        self._known[form] = scores
        self._over(form)
        while len(self._known) > self._remembered:
            self._known.popitem(last=False)
        waited = self._waiting.pop(form, [])
        for one in waited:
            if one.scoring is not None:
                one.scoring.prior = scores
        return waited

    def give_up(self, form: Form) -> list[Sequence]:
        """A content-free job failed; returns those who waited for it and now for nothing."""
        self._over(form)
        return [] if form in self._learners else self._waiting.pop(form, [])

    def _over(self, form: Form) -> None:
        self._learners[form] -= 1
        if not self._learners[form]:
            del self._learners[form]
