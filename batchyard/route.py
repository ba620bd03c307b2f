"""The route: the decision made for one job, kept with its result."""

from pydantic import BaseModel, ConfigDict

from batchyard.sampling import Finite


class Route(BaseModel):
    """Where a job goes and why.

    `task` is what the job was taken for (never `auto`); `by` names what decided: `job` (the caller said
    so), `rule:<name>`, `classifier`, or `default` (out of scope); `confidence` is the probability the
    classifier gave the class, 0–1, None where nothing was classified; `reason` is one readable line.
    `seconds` is the router's own time for the job's chunk, divided by its jobs; `queued_s` the time the
    job waited for the router.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    model: str
    by: str
    confidence: Finite | None = None
    out_of_scope: bool = False
    reason: str
    policy: str
    classifier: str | None = None
    seconds: Finite = 0.0
    queued_s: Finite = 0.0
