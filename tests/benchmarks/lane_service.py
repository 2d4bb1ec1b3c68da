"""The least that a service can do: no tables and no parsing. What it costs is the runtime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from schemas.envelope import Output
from services.runtime.postgres.lane_store import Session
from services.runtime.records import Effect, Outcome, Record
from services.runtime.service import Service


class PassedOn(NamedTuple):
    """An output that is the record itself."""

    topic: str
    key: bytes | None
    value: bytes | None

    def encode(self, *, time: str, traceparent: str | None) -> Output:  # noqa: ARG002 - the protocol of an event
        return Output(self.topic, self.key, self.value, [("ce_time", time.encode())])


def without_outputs(group: str, topic: str) -> Service[Record, Session]:
    effect = Effect()

    def handle(events: Sequence[Record], _session: Session) -> list[Outcome]:
        return [effect for _ in events]

    return Service(group, (topic,), parse=lambda record: record, handle=handle)


def with_outputs(group: str, topic: str, to: str) -> Service[Record, Session]:
    def handle(events: Sequence[Record], _session: Session) -> list[Outcome]:
        return [Effect((PassedOn(to, event.key, event.value),)) for event in events]

    return Service(group, (topic,), parse=lambda record: record, handle=handle)
