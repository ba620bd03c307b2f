"""How one text would be routed, in words: probabilities, the n-grams that spoke most, the rule, the route."""

import json
from typing import Any

from batchyard.errors import InvalidJob, shown
from batchyard.job import parse_job
from batchyard.settings import Settings
from router.classifier import Classifier
from router.decide import Guess, decide, matching_rule, needs_guess
from router.service import load


def explain(fields: dict[str, Any], metadata: str, settings: Settings) -> str:
    """Readable lines about the route of a job with these fields; `metadata` is a JSON object.

    Raises:
        InvalidJob: the fields make no job, or it names an unknown task or model.
        InvalidConfig: catalogue, policy or classifier is at fault.
    """
    loaded = load(settings)
    job = parse_job(fields | {"metadata": _object(metadata)}, settings.max_prompt_bytes)
    rule = matching_rule(job, loaded.yard.policy)
    lines = [f"rule        {rule.name if rule else 'none matches'}"]
    guess = None
    if loaded.classifier is None:
        lines.append("classifier  none in the policy")
    else:
        guess, told = _classified(job.text, loaded.classifier, loaded.yard.threshold)
        lines += told
    route = decide(job, rule, guess if needs_guess(job, rule) else None, loaded.yard)
    lines += [
        f"task        {route.task}, by {route.by}" + (" (out of scope)" if route.out_of_scope else ""),
        f"model       {route.model}",
        f"reason      {route.reason}",
        f"policy      {route.policy}",
    ]
    return "\n".join(lines)


def _classified(text: str, classifier: Classifier, threshold: float) -> tuple[Guess, list[str]]:
    row = classifier.probabilities([text])[0]
    scope = float(classifier.scope(row[None])[0])
    order = (-row).argsort()
    best = classifier.classes[order[0]]
    lines = [f"classifier  {classifier.version}, threshold {threshold:.3f}"]
    lines += [f"  {row[i]:7.4f}  {classifier.classes[i]}" for i in order]
    if classifier.rejects:
        lines.append(f"  {1 - scope:7.4f}  out of scope")
    evidence = classifier.evidence(text, best)
    spoke = "  ".join(f"{ngram} +{gain:.2f}" for ngram, gain in evidence) or "nothing"
    return Guess(best, float(row[order[0]]), scope), [*lines, f"for {best}: {spoke}"]


def _object(text: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except json.JSONDecodeError as exc:
        raise InvalidJob(
            f"is no JSON: {exc}", field="metadata", remedy='give an object: {"key": "value"}'
        ) from exc
    if not isinstance(data, dict):
        raise InvalidJob(f"must be an object, got {shown(data)}", field="metadata", remedy="give {…}")
    return data
