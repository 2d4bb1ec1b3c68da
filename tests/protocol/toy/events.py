"""The inputs of the toy, and the snapshots between its stages."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import ClassVar, Literal

from schemas.envelope import NotAnEvent, Snapshot
from services.runtime.records import Record
from tests.protocol.toy.names import NAMES

CHANGES = frozenset({"release", "cancel", "restore", "add", "drop", "later", "hold", "note"})


@dataclass(frozen=True, slots=True)
class ToyInput:
    """A change of a key. `poison`: how it harms the stage that reads it."""

    id: str
    key: str
    what: str
    child: str = ""
    amount: int = 0
    note: str = ""
    poison: str = ""

    def value(self) -> bytes:
        return json.dumps({name: getattr(self, name) for name in self.__slots__}).encode()


def read_input(record: Record) -> ToyInput:
    try:
        input_ = ToyInput(**json.loads(record.value or b""))
    except (ValueError, TypeError) as error:
        raise NotAnEvent(str(error)) from None
    if input_.what not in CHANGES:
        raise NotAnEvent(f"what is {input_.what!r}")
    return input_


class FirstSnapshot(Snapshot, frozen=True, kw_only=True):
    """All that stage one knows of a key, with the states of release 2."""

    topic: ClassVar[str] = NAMES.outputs["first"]
    event_type: ClassVar[str] = "toy.first"
    state: Literal["new", "released", "cancelled", "held"]
    children: tuple[str, ...]
    total: int
    confirmed: int
    pad: str = ""


class FirstSnapshotOfRelease1(FirstSnapshot, frozen=True, kw_only=True):
    """As release 1 reads it: with one state less."""

    state: Literal["new", "released", "cancelled"]


class SecondSnapshot(Snapshot, frozen=True, kw_only=True):
    """All that stage two knows of a key."""

    topic: ClassVar[str] = NAMES.outputs["second"]
    event_type: ClassVar[str] = "toy.second"
    state: str
    active: int
