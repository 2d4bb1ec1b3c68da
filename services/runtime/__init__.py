"""The runtime of all services: lanes, batches, dead letters, controls. It contains no code
about what any one service does.

A service is a function that reads a record, a function that decides a batch, and `run`:

    from collections.abc import Sequence

    from services.runtime import Duplicate, Effect, LaneSettings, Outcome, Record
    from services.runtime import Service, Session, run

    def parse(record: Record) -> str:
        return (record.value or b"").decode()  # if it raises, the record becomes a dead letter

    def handle(words: Sequence[str], session: Session) -> list[Outcome]:
        new = add_words(session, words)  # one SQL statement, which returns the words that are new
        return [Effect() if word in new else Duplicate() for word in words]

    SERVICE = Service("example.words", ("words.v1",), parse, handle)

    if __name__ == "__main__":
        raise SystemExit(run(SERVICE, LaneSettings()))

In        the topics of a service's group, and its own replay topic
Out       the outputs of its effects; dead letters to `<group>.dead.v1`
Owns      schema runtime: lanes, dead_letters, controls, audit, generation
Crash     A batch's work, its lanes' positions and its outputs commit together or not at all.
          Outputs that were committed and not acknowledged stand in the lane's row; the next owner
          publishes them before it commits anything.
Does not  trust the broker with positions, skip a record silently, or hold more than one batch in
          memory.

The protocol is model-checked (model/); docs/explanation/lanes.md explains it. The subpackages are
loop/ (what happens to a record), kafka/ and postgres/ (the two dependencies), failures/ (what an
exception means, how long to wait after it, and how often to call), observability/, admin/ (the
operators' commands) and testing/ (both dependencies in memory).

The names below are the public surface. They are imported on first use, so that importing a single
module of the runtime does not import the Kafka client.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from services.runtime.errors import Fatal, Fenced, Poison, Stop, StublineError, Transient
    from services.runtime.postgres.lane_store import Session
    from services.runtime.process import run
    from services.runtime.records import (
        Dead,
        Duplicate,
        Effect,
        Event,
        Outcome,
        Record,
        Superseded,
    )
    from services.runtime.service import Service
    from services.runtime.settings import LaneSettings

__all__ = [
    "Dead",
    "Duplicate",
    "Effect",
    "Event",
    "Fatal",
    "Fenced",
    "LaneSettings",
    "Outcome",
    "Poison",
    "Record",
    "Service",
    "Session",
    "Stop",
    "StublineError",
    "Superseded",
    "Transient",
    "run",
]

_MODULES = {
    "errors": ("Fatal", "Fenced", "Poison", "Stop", "StublineError", "Transient"),
    "postgres.lane_store": ("Session",),
    "process": ("run",),
    "records": ("Dead", "Duplicate", "Effect", "Event", "Outcome", "Record", "Superseded"),
    "service": ("Service",),
    "settings": ("LaneSettings",),
}


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__} has no attribute {name}")
