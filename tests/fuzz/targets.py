"""All parsers under test, by name."""

from tests.fuzz import configs, documents, engine, jobs, messages
from tests.fuzz.oracle import Target

TARGETS: dict[str, Target] = {
    target.name: target
    for module in (jobs, configs, messages, engine, documents)
    for target in module.TARGETS
}
